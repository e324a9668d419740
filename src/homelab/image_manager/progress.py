"""How far a long transfer is, as a line now and then; short ones say nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homelab.models import MIB
from homelab.runtime import Clock

EVERY_S = 10.0
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """`say` takes a line."""

    say: Callable[[str], None]
    clock: Clock

    def of(self, what: str) -> OnProgress:
        """To be called with the bytes so far and in total (0: not known)."""
        said_at, said_bytes = self.clock.now(), 0

        def tell(done: int, total: int) -> None:
            nonlocal said_at, said_bytes
            now = self.clock.now()
            if now - said_at < EVERY_S:
                return
            share = f"{100 * done // total} % of {total // MIB} MiB" if total else f"{done // MIB} MiB"
            self.say(f"{what}: {share}, {(done - said_bytes) / MIB / (now - said_at):.1f} MiB/s")
            said_at, said_bytes = now, done

        return tell
