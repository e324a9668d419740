"""Reads the options of the guest's commands, in the forms that getopt and Go's flags take."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


class BadOption(Exception):
    """An option that the command does not know, or one without its value; the text names it."""


@dataclass(slots=True)
class Options:
    """What was given: flags and values by their long or only name, and the words that are no options."""

    flags: set[str] = field(default_factory=set)
    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def value(self, name: str, default: str = "") -> str:
        """The last value given for an option."""
        return self.values.get(name, [default])[-1]

    def __contains__(self, name: str) -> bool:
        return name in self.flags or name in self.values


@dataclass(frozen=True, slots=True)
class Grammar:
    """The options of a command; `short` maps letters to names, each of them also in one of the other two."""

    flags: Collection[str] = ()
    values: Collection[str] = ()
    short: dict[str, str] = field(default_factory=dict)

    def parse(self, words: Sequence[str]) -> Options:
        """Take a command's words apart. Raises BadOption."""
        found = Options()
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":
                found.words += left
                break
            if word.startswith("--"):
                self._long(word[2:], left, found)
            elif word.startswith("-") and len(word) > 1:
                self._letters(word[1:], left, found)
            else:
                found.words.append(word)
        return found

    def _long(self, text: str, left: list[str], found: Options) -> None:
        name, equals, value = text.partition("=")
        if name in self.values:
            if not equals and not left:
                raise BadOption(f"--{name}")
            found.values.setdefault(name, []).append(value if equals else left.pop(0))
        elif name in self.flags:
            if value not in ("false", "0"):
                found.flags.add(name)
        else:
            raise BadOption(f"--{name}")

    def _letters(self, letters: str, left: list[str], found: Options) -> None:
        while letters:
            letter, letters = letters[0], letters[1:]
            name = self.short.get(letter)
            if name is None:
                raise BadOption(letter)
            if name in self.flags:
                found.flags.add(name)
                continue
            if not letters and not left:
                raise BadOption(letter)
            found.values.setdefault(name, []).append(letters.removeprefix("=") if letters else left.pop(0))
            letters = ""
