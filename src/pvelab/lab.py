"""A lab to hold in one's hand: start it, reset it, break it, look into it; its loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pvelab import kubeconfigs, seeds
from pvelab.admin import Admin
from pvelab.clock import SharedClock
from pvelab.environment import dotenv_text
from pvelab.interception import Waiting
from pvelab.network import Network
from pvelab.requestlog import Request
from pvelab.site import Setting, Site
from pvelab.snapshot import snapshot
from pvelab.spec import PACE_TEST, LabSpec
from pvelab.state import World

T = TypeVar("T")
_PATIENCE_S = 60.0
"""Real seconds after which something the lab does on its own loop is taken for stuck."""
_LEAST_PATIENCE_S = 2.0
"""Real seconds that wait_until waits at least where time is real."""
_LOOK_EVERY_S = 0.25
"""Lab seconds between two looks of wait_until."""


class LabBroken(Exception):
    """Something failed in the lab itself, not in what was asked of it."""


class NotSettled(AssertionError):
    """What was waited for did not come."""


class Lab:
    """An emulated Proxmox VE cluster with its surroundings. Everything is on loopback and in one folder."""

    def __init__(
        self,
        spec: LabSpec | None = None,
        folder: Path | None = None,
        clock: SharedClock | None = None,
        pace: float = PACE_TEST,
    ) -> None:
        self._own_folder = folder is None
        self.folder = (folder or Path(tempfile.mkdtemp(prefix="pvelab-"))).resolve()
        self._clock, self._pace = clock, pace
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pvelab", daemon=True)
        self._spec = spec or LabSpec()
        self._site = Site(Setting(self._spec, self.folder, clock, pace))

    def start(self, seed: str = "fresh", **options: object) -> None:
        """Open every socket and build the seed's world. Raises UnknownChoice, NoNetworkFree, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        try:
            self._run(self._site.open())
            self.reset(seed, **options)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close every socket and end the thread; a folder of the lab's own is removed. Raises LabBroken."""
        try:
            self._run(self._site.close())
        finally:
            self._end()
        self._check()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_PATIENCE_S)
        self._loop.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def spec(self) -> LabSpec:
        """What the lab consists of."""
        return self._site.spec

    @property
    def network(self) -> Network:
        """The lab's addresses."""
        return self._site.network

    @property
    def env(self) -> dict[str, str]:
        """The variables of a ready `.env`."""
        return self._site.environment()

    @property
    def k3s_servers(self) -> dict[str, str]:
        """The k3s servers that the seed began with, each with its address; the first is K3S_EXISTING_NODE_IP."""
        return dict(zip(self._site.k3s_machines, self._site.k3s_addresses, strict=True))

    def kubeconfig(self, kind: str) -> Path:
        """A kubeconfig for the first k3s server: admin, token (an administrator's), reader (nodes and pods only),
        expired, expired-token, or foreign (of a cluster that is gone). Raises UnknownChoice.
        """
        return self.look(lambda _: kubeconfigs.write(self._site, kind))

    def write_env(self, path: Path, **overrides: str | None) -> Path:
        """Write a ready `.env`, for its owner alone; None leaves a variable out."""
        values: Mapping[str, str | None] = {**self.env, **overrides}
        path.touch(mode=0o600)
        path.write_text(dotenv_text({name: value for name, value in values.items() if value is not None}))
        return path

    def reset(self, seed: str = "fresh", **options: object) -> None:
        """Back to a seed: faults and the request log are cleared, sockets and certificates stay where they can.

        The lab has the nodes that the seed is made for, else those it was started with. Raises UnknownChoice, and
        LabBroken when something failed in the lab since the last reset.
        """
        self._check()
        self._run(self._site.reset(seeds.spec_for(seed, self._spec), seed, options))

    def fault(self, name: str, **options: object) -> None:
        """Break something. Raises UnknownChoice."""
        self._run(self._site.fault(name, options))

    def trap(self, waiting: Waiting) -> None:
        """Have something see each request as it comes in, on the lab's thread, and say what happens to it."""
        self.look(lambda _: self._site.traps.waiting.append(waiting))

    def clear_faults(self) -> None:
        """Repair everything that fault() broke, and take every trap away."""
        self._run(self._site.clear_faults())

    def publish(self, path: str, content: bytes | None) -> None:
        """Serve other content at a path of the download server, or nothing (None), until the next reset."""
        sources = self._site.sources
        self.look(lambda _: sources.withdraw(path) if content is None else sources.publish(path, content))

    def shell(self, machine: str, line: str) -> str:
        """Type a command line as root on a node, in a guest or on the k3s server outside, named by its host name.

        Returns what it prints. Raises SeedFailed when it fails, KeyError when no such machine is switched on.
        """
        return self._run(Admin(self._site).shell(self._site.machine(machine), line))

    @property
    def requests(self) -> list[Request]:
        """Everything that was asked of the lab since the last reset."""
        return self.look(lambda _: list(self._site.log.entries))

    @property
    def writes(self) -> list[Request]:
        """Those requests that change something on Proxmox, in guests or in k3s."""
        return self.look(lambda _: self._site.log.writes)

    def snapshot(self) -> dict[str, Any]:
        """What there is, as plain data to compare."""
        return self.look(lambda world: snapshot(world, self._site.guests.clusters.by_hash.values()))

    def look(self, question: Callable[[World], T]) -> T:
        """Run a function on the lab's thread, where the world may be read and changed, and where it may look again."""
        if threading.current_thread() is self._thread:
            return question(self._site.world)

        async def ask() -> T:
            return question(self._site.world)

        return self._run(ask())

    def wait_until(self, condition: Callable[[World], bool], timeout_s: float = 120.0) -> None:
        """Let the lab's time pass until the condition holds. Raises NotSettled.

        timeout_s is lab time; at a quick pace a busy machine gets some real seconds more.
        """
        waited_s, enough = 0.0, time.monotonic() + (0.0 if self._clock else _LEAST_PATIENCE_S)
        while not self.look(condition):
            if waited_s >= timeout_s and time.monotonic() >= enough:
                raise NotSettled(f"not so after {timeout_s:g} s of the lab's time")
            self._let_pass(_LOOK_EVERY_S)
            waited_s += _LOOK_EVERY_S

    def _check(self) -> None:
        failures = list(self._site.failures)
        self._site.failures.clear()
        if failures:
            raise LabBroken(f"{failures[0]!r}, and {len(failures) - 1} more") from failures[0]

    def _let_pass(self, seconds: float) -> None:
        if self._clock:
            self._clock.advance(seconds)
        else:
            time.sleep(seconds * self._pace)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=_PATIENCE_S)
