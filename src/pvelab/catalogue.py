"""Named things to choose from, seeds and faults, each a function whose keyword parameters are its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Doing = Callable[..., Any]
_NUMBERS: Mapping[str, Callable[[str], float]] = {"int": int, "float": float}


class UnknownChoice(ValueError):
    """A name or an option that is not in the catalogue, or an option's value of the wrong kind."""


@dataclass(slots=True)
class Catalogue:
    """The things of one kind, by name."""

    kind: str
    things: dict[str, Doing] = field(default_factory=dict)
    plans: dict[str, Doing] = field(default_factory=dict)

    def add(self, name: str, plan: Doing | None = None) -> Callable[[Doing], Doing]:
        """Decorate the function that does it; its first parameter is given by the lab, the others are options.

        With a `plan`, a dataclass, the options are its fields, and the function's parameter `plan` is given one.
        """

        def added(function: Doing) -> Doing:
            self.things[name] = function
            if plan:
                self.plans[name] = plan
            return function

        return added

    def include(self, other: Catalogue) -> None:
        """Offer what another catalogue of the kind holds, too."""
        self.things |= other.things
        self.plans |= other.plans

    def choose(self, name: str, options: Mapping[str, object]) -> tuple[Doing, dict[str, Any]]:
        """The function and its options, texts turned into numbers where it wants them. Raises UnknownChoice."""
        if name not in self.things:
            raise UnknownChoice(f"no {self.kind} {name!r}; there are: {', '.join(self.things)}")
        known = self._options(name)
        unknown = [option for option in options if option not in known]
        if unknown:
            raise UnknownChoice(f"{self.kind} {name} has no option {unknown[0]!r}, only: {', '.join(known) or 'none'}")
        missing = [option for option, parameter in known.items() if _is_needed(parameter) and option not in options]
        if missing:
            raise UnknownChoice(f"{self.kind} {name} needs {missing[0]}=...")
        chosen = {option: _converted(known[option], value) for option, value in options.items()}
        return self.things[name], {"plan": self.plans[name](**chosen)} if name in self.plans else chosen

    def described(self) -> Iterator[tuple[str, str]]:
        """Each name with its options, and what it says of itself."""
        for name, function in self.things.items():
            options = ",".join(
                f"{option}=" + ("..." if _is_needed(parameter) else str(parameter.default))
                for option, parameter in self._options(name).items()
            )
            yield f"{name}:{options}" if options else name, " ".join((inspect.getdoc(function) or "").split())

    def _options(self, name: str) -> dict[str, inspect.Parameter]:
        plan = self.plans.get(name)
        parameters = list(inspect.signature(plan or self.things[name]).parameters.values())
        return {parameter.name: parameter for parameter in (parameters if plan else parameters[1:])}


def parse_choice(text: str) -> tuple[str, dict[str, str]]:
    """NAME[:key=value,...] as typed. Raises UnknownChoice."""
    name, _, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    wrong = [key for key, sign, _ in pairs if not sign]
    if wrong:
        raise UnknownChoice(f"{text!r}: write NAME:key=value,key=value")
    return name, {key: value for key, _, value in pairs}


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _converted(parameter: inspect.Parameter, value: object) -> object:
    convert = _NUMBERS.get(str(parameter.annotation))
    if convert is None or not isinstance(value, str):
        return value
    try:
        return convert(value)
    except ValueError:
        raise UnknownChoice(f"{parameter.name}={value}: give a number") from None
