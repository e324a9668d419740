"""Runs that are cut off, and what they leave; things that happen while a run is under way."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.conftest import Homelab
from homelab.proxmox.api import Api
from homelab.proxmox.ssh import Ssh
from homelab.runtime import Interruption
from homelab.shell import Shell
from pvelab.interception import Arrival
from pvelab.lab import Lab
from pvelab.state import World

NODES = ("pve1", "pve2", "pve3")


@contextmanager
def killed(method: str, path: str, *, after: bool = False) -> Iterator[None]:
    """Whoever sends METHOD path is gone just before it is sent, or just after it was taken, and handles no error."""

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def dies(self: object, asked: str, asked_path: str, *arguments: Any, **named: Any) -> Any:
            is_meant = asked == method and re.fullmatch(path, asked_path) is not None
            if is_meant and not after:
                raise SystemExit
            answer = call(self, asked, asked_path, *arguments, **named)
            if is_meant:
                raise SystemExit
            return answer

        return dies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "call", dying(Api.call))
        patch.setattr(Ssh, "call", dying(Ssh.call))
        yield


@contextmanager
def killed_at_command(words: str) -> Iterator[None]:
    """Whoever runs a command with these words on another machine is gone just before it is sent."""
    run = Shell.run

    def dies(self: Shell, command: Sequence[str] | str, **named: Any) -> Any:
        if words in (command if isinstance(command, str) else " ".join(command)):
            raise SystemExit
        return run(self, command, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shell, "run", dies)
        yield


class Ending:
    """A signal that tells the run to end, once: by the time that it is given, the run has heard it."""

    def __init__(self, patch: pytest.MonkeyPatch, number: signal.Signals) -> None:
        self._number, self._is_given, self._is_heard = number, False, threading.Event()
        wait = Interruption.wait_for

        def listening(interruption: Interruption, ended: Sequence[threading.Event], say: Callable[[], None]) -> None:
            def heard() -> None:
                say()
                self._is_heard.set()

            wait(interruption, ended, heard)

        patch.setattr(Interruption, "wait_for", listening)

    def give(self, _world: World) -> None:
        if not self._is_given:
            self._is_given = True
            os.kill(os.getpid(), self._number)
            assert self._is_heard.wait(timeout=10)


def left_over(lab: Lab) -> dict[str, list[str]]:
    """Volumes by storage that no VM's configuration names."""
    seen = lab.snapshot()
    named = " ".join(text for vm in seen["vms"].values() for text in vm["config"].values())
    return {
        where: lost
        for where, volumes in seen["volumes"].items()
        if (lost := [volume for volume in volumes if volume not in named])
    }


def tags(lab: Lab) -> dict[int, str]:
    return {vmid: vm["config"].get("tags", "") for vmid, vm in lab.snapshot()["vms"].items()}


def open_writes(homelab: Homelab) -> int:
    """How many writes the journal does not know the end of."""
    (journal,) = homelab.home.glob("state/homelab/*/journal.jsonl")
    text = journal.read_text()
    return text.count('"event": "intended"') - text.count('"event": "ended"')


class Meanwhile:
    """Something that happens just before a request comes in, once."""

    def __init__(self, lab: Lab, fits: Callable[[Arrival], bool], happens: Callable[[World], None]) -> None:
        self._fits, self._happens, self._is_over = fits, happens, False
        self._lab = lab
        lab.trap(self)

    def take(self, arrival: Arrival) -> None:
        if not self._is_over and self._fits(arrival):
            self._is_over = True
            self._lab.look(self._happens)
