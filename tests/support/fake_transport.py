"""A wire whose answers are written down beforehand: for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from homelab.errors import Unreachable
from homelab.models import Wire
from homelab.proxmox.transport import Params, Upload
from homelab.shell import Readable, Result
from support.fake_shell import done

Answers = dict[str, Any]
"""By `METHOD /path`: the data, an exception to raise, a function of the parameters, or a list of these in turn."""


class FakeTransport:
    """Either wire. A list is used up to its last entry, which stays."""

    def __init__(self, answers: Answers, wire: Wire = Wire.API) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.commands: list[str] = []
        self.inputs: list[object] = []
        self.limits_s: list[float] = []
        self.respond: Callable[[str], Result] = lambda _command: done()
        self.unreachable: Unreachable | None = None
        self._wire = wire

    @property
    def wire(self) -> Wire:
        return self._wire

    def call(self, method: str, path: str, params: Params | None = None, *, timeout_s: float = 30) -> Any:
        key = f"{method} {path}"
        self.calls.append((key, dict(params or {})))
        self.limits_s.append(timeout_s)
        answer = self.answers[key]
        if isinstance(answer, Turns):
            answer = answer.next()
        if isinstance(answer, Exception):
            raise answer
        return answer(dict(params or {})) if callable(answer) else answer

    def put_file(self, upload: Upload) -> str:
        answer = self.answers.get("put_file", upload.volume)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def connect(self) -> None:
        if self.unreachable is not None:
            raise self.unreachable

    def run(self, command: Sequence[str], *, stdin: bytes | Readable | None = None, timeout_s: float = 30) -> Result:
        self.commands.append(" ".join(command))
        self.inputs.append(stdin)
        self.limits_s.append(timeout_s)
        return self.respond(self.commands[-1])

    def write_file(self, path: str, content: bytes) -> None:
        self.commands.append(f"write {path} {content.decode()}")

    def path_of(self, volume: str) -> str:
        return f"/store/{volume}"


class Turns:
    """Answers one after the other; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self._left = list(answers)

    def next(self) -> Any:
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]
