"""How commands leave the shell, a function or a loop."""

from __future__ import annotations


class Exit(Exception):
    """The shell ends."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Return(Exception):
    """A function, or a script read by `.`, ends."""


class LoopControl(Exception):
    """break or continue, out of `levels` loops."""

    def __init__(self, levels: int, *, continues: bool) -> None:
        super().__init__(levels)
        self.levels = levels
        self.continues = continues
