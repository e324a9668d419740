"""How a route is declared, and what it is called with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pvelab.answers import Answer, Who
from pvelab.rules import permissions
from pvelab.state import Node, World


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose parameters are verified: `params` has those of the path too, `node` carries it out."""

    world: World
    who: Who
    node: Node
    params: Mapping[str, str]

    @property
    def vmid(self) -> int:
        """The VM that the path names."""
        return int(self.params["vmid"])

    def flag(self, name: str) -> bool:
        """Is a boolean parameter on? Absent ones are off."""
        return self.params.get(name) == "1"

    def may(self, path: str, *privileges: str) -> bool:
        """Has the caller any of the privileges there?"""
        return permissions.has_any(self.world, self.who, path, privileges)


Route = Callable[[Call], Awaitable[Answer]]
ROUTES: dict[tuple[str, str], Route] = {}


def route(method: str, path: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Answer METHOD path with what the function returns: data, an Answer, or something to await that gives one."""

    def declare(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        async def answer(call: Call) -> Answer:
            given = function(call)
            if isinstance(given, Awaitable):
                given = await given
            return given if isinstance(given, Answer) else Answer(given)

        ROUTES[method, path] = answer
        return function

    return declare
