"""Collects what is amiss on one node while it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from homelab.errors import HomelabError, NodeFailed, Problem, Refused
from homelab.models import Finding, Severity
from homelab.preflight.rights import Judgement

Seen = TypeVar("Seen")

FORBIDDEN = 403


@dataclass(slots=True)
class Notes:
    """The findings about one node, in the order in which they were made.

    On the paths in `hidden` the token lacks privileges, so that Proxmox may leave things out. Where that stands against
    the VM (`is_forbidden`), what is refused is not told again.
    """

    node: str
    found: list[Finding] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()
    is_forbidden: bool = False

    def errors(self, problems: Iterable[Problem]) -> None:
        self.found.extend(Finding(self.node, problem) for problem in problems)

    def warn(self, problem: Problem | None) -> None:
        if problem:
            self.found.append(Finding(self.node, problem, Severity.WARNING))

    def read(self, what: str, question: Callable[[], Seen]) -> Seen | None:
        """What Proxmox says; None, and noted, where it does not say: that is no yes."""
        try:
            return question()
        except HomelabError as error:
            self._note_unknown(error, Problem(f"{self.node}: {what} cannot be read", str(error), error.cure))
            return None

    def check(self, rule: Callable[[], Seen]) -> Seen | None:
        """What a rule makes of it; None, and noted, where it refuses (NodeFailed) or cannot tell."""
        try:
            return rule()
        except NodeFailed as error:
            self.errors([error.problem])
        except HomelabError as error:
            self._note_unknown(error, error.problem)
        return None

    def demand(self, rule: Callable[[], Seen]) -> Seen | None:
        """As check, for what has to be so: that it cannot be told is as bad as a refusal."""
        try:
            return rule()
        except HomelabError as error:
            self.errors([error.problem])
        return None

    def check_privileges(self, rule: Callable[[], Judgement]) -> None:
        """What the token lacks, and what it goes without."""
        judgement = self.check(rule) or Judgement()
        self.errors([judgement.problem] if judgement.problem else [])
        self.warn(judgement.loss)
        self.hidden, self.is_forbidden = judgement.hidden, judgement.problem is not None

    def is_hidden(self, path: str) -> bool:
        """Does the token lack privileges there, so that Proxmox may leave it out of its lists?"""
        return path in self.hidden

    def _note_unknown(self, error: HomelabError, problem: Problem) -> None:
        is_told = self.is_forbidden and isinstance(error, Refused) and error.status == FORBIDDEN
        if not is_told:
            self.found.append(Finding(self.node, problem, Severity.UNKNOWN))
