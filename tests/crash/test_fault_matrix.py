"""Whatever happens to a request, no VM is lost, other nodes are finished, and the next run mends what is left."""

from __future__ import annotations

import pytest

from crash.arena import Arena
from crash.mishaps import suffer, tell
from crash.not_yet import listed, reason_for
from crash.stories import STORIES

KNOWN = listed()
EACH = 49
"""Of all mishaps every so-many-th is tried here, `scripts/bench --fault-matrix` tries all."""


@pytest.mark.parametrize(("story", "via"), [("stuck", "auto"), ("stuck", "ssh")])
def test_a_fault_at_a_request_loses_no_vm_and_the_next_run_mends_what_is_left(
    arena: Arena, story: str, via: str
) -> None:
    told = tell(arena, STORIES[story], via)
    wrong = []

    for mishap in list(told.mishaps)[::EACH]:
        name = f"fault {story} {via} {mishap}"
        if not reason_for(name, KNOWN):
            problems = suffer(arena, told, mishap)
            wrong += ["\n    ".join((name, *problems))] if problems else []

    assert not wrong, "\n".join(wrong)
