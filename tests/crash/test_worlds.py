"""Random worlds: whatever is there and whatever happens, what must not come about does not."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, settings

from crash.arena import Arena
from crash.living import Life
from crash.worlds import Setting, settings_of_worlds

WORLDS = 100


@settings(
    max_examples=WORLDS,
    derandomize=True,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(settings_of_worlds())
def test_in_no_world_comes_about_what_must_not(wide_arena: Arena, setting: Setting) -> None:
    wrong = Life(wide_arena, setting).live()

    assert not wrong, "\n".join((str(setting), *wrong))
