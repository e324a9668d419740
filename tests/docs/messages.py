"""Every message that the code can give for something gone wrong, read from its source as patterns."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SOURCES = PROJECT / "src" / "homelab"
HOLE = ".*"
LEAST_LETTERS = 3
BASE = "HomelabError"
BAD_VALUE = "KEY=value cannot be used"
KEPT = f"{HOLE} is kept"
CAUGHT = frozenset(
    {"the guest agent gives no address", "the guest agent gives no host key", "SSH does not answer", "configuration"}
    | {"host key", "its address cannot be found", "nobody answers at its address"}
)
"""Titles of errors that are always caught and told in other words."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is wrong and why, as regular expressions: text that is only known at run time is a hole in them.

    An empty pattern says nothing that could be looked for.
    """

    what: str
    why: str
    where: str

    def is_told_in(self, heading: str, section: str) -> bool:
        """Does the heading name it, and the section below give the reason?"""
        if self.what:
            names_it = re.fullmatch(f"{self.what}(?:: .*)?", heading)
            return names_it is not None and (not self.why or re.search(self.why, f"{heading}\n{section}") is not None)
        return re.fullmatch(f".*: {self.why}.*", heading) is not None

    def __str__(self) -> str:
        return f"{self.where}: {self.what or '(any)'}: {self.why or '(any)'}"


@cache
def messages() -> tuple[Message, ...]:
    """Those of the whole tool, each once."""
    files = sorted(SOURCES.rglob("*.py"))
    errors = _error_classes(files)
    found = [message for path in files for message in _Module(path, errors).messages()]
    return tuple({(one.what, one.why): one for one in found if one.what or one.why}.values())


def _error_classes(files: Sequence[Path]) -> frozenset[str]:
    """The names of all subclasses of HomelabError."""
    known = {BASE}
    classes = [node for path in files for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    while True:
        more = {
            one.name for one in classes if any(isinstance(base, ast.Name) and base.id in known for base in one.bases)
        }
        if more <= known:
            return frozenset(known)
        known |= more


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class _Maker:
    """A function that returns an error whose what or why may be an argument of its own."""

    function: ast.FunctionDef
    names: Sequence[str]
    what: ast.expr
    why: ast.expr

    def made(self, arguments: Sequence[ast.expr], caller: ast.AST) -> Iterator[tuple[str, str]]:
        """What and why when it is called with these arguments."""
        if len(arguments) != len(self.names):
            return
        given = dict(zip(self.names, arguments, strict=True))

        def filled(expression: ast.expr) -> list[str]:
            if isinstance(expression, ast.Name) and expression.id in given:
                return patterns(given[expression.id], caller)
            return patterns(expression, self.function)

        yield from _product(filled(self.what), filled(self.why))


class _Module:
    """The messages of one file."""

    def __init__(self, path: Path, errors: frozenset[str]) -> None:
        self._path = path
        self._titled = errors | {"Problem", "misunderstood"}
        self._tree = _tree(path)
        self._functions = [one for one in ast.walk(self._tree) if isinstance(one, ast.FunctionDef)]
        self._makers = {one.name: maker for one in self._functions if (maker := self._maker(one)) is not None}

    def messages(self) -> Iterator[Message]:
        for function in (self._tree, *self._functions):
            for node in _own_nodes(function):
                for what, why in self._pairs(node, function):
                    if what.replace("\\", "") not in CAUGHT:
                        yield Message(what, why, f"{self._path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}")

    def _pairs(self, node: ast.AST, function: ast.AST) -> Iterator[tuple[str, str]]:
        """What and why of the messages that a node makes; mostly none or one."""
        match node:
            case ast.Call(func=ast.Name(id="Guard"), args=[sentence, *_]):
                yield from _product(patterns(sentence, function), [""])
            case ast.Call(func=ast.Name(id="Trouble"), args=[text, cause, *_]):
                causes = [f"{HOLE} does not join: {known}" for known in patterns(cause, function)]
                yield from _product(causes, patterns(text, function))
            case (
                ast.Call(func=ast.Name(id="BadValue"), args=[why, *_])
                | ast.Call(func=ast.Name(id="matching"), args=[_, why, _])
            ):
                yield from _product([BAD_VALUE], patterns(why, function))
            case ast.Call(func=ast.Name(id="Outcome"), args=[_, ast.Attribute(attr="FAILED"), what, why, *_]):
                yield from _product(patterns(what, function), patterns(why, function))
            case ast.Tuple(elts=[ast.Attribute(value=ast.Name(id="Verdict"), attr="UNKNOWN"), why, _]):
                yield from _product([KEPT], patterns(why, function))
            case ast.Call(keywords=keywords) if _sets_unknown(keywords):
                reason = next(one.value for one in keywords if one.arg == "reason")
                yield from _product([KEPT], patterns(reason, function))
            case ast.Call(func=ast.Name(id="Wait"), args=[what, *_]):
                yield from _product(patterns(what, function), [""])
            case ast.Call(args=[ast.Starred(value=ast.Call(func=ast.Name(id=name)))]) if self._is_titled(node):
                yield from self._returned(name)
            case ast.Call(args=[what, *rest]) if self._is_titled(node):
                yield from _product(patterns(what, function), patterns(rest[0], function) if rest else [""])
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=args) if name in self._makers:
                yield from self._makers[name].made(args, function)

    def _maker(self, function: ast.FunctionDef) -> _Maker | None:
        """What a function is that returns an error."""
        names = [one.arg for one in function.args.args if one.arg != "self"]
        for node in ast.walk(function):
            match node:
                case ast.Return(value=ast.Call(args=[what, why, *_]) as call) if self._is_titled(call):
                    return _Maker(function, names, what, why)
        return None

    def _is_titled(self, call: ast.Call) -> bool:
        """Is the first argument of this call the title of an error?"""
        if isinstance(call.func, ast.Call):
            return isinstance(call.func.func, ast.Name) and call.func.func.id == "type"
        return isinstance(call.func, ast.Name) and call.func.id in self._titled

    def _returned(self, name: str) -> Iterator[tuple[str, str]]:
        """What and why in the tuples that a function returns."""
        function = next(one for one in self._functions if one.name == name)
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                what, why = node.value.elts[:2]
                yield from _product(patterns(what, function), patterns(why, function))


def _sets_unknown(keywords: Sequence[ast.keyword]) -> bool:
    return any(
        one.arg == "verdict" and isinstance(one.value, ast.Attribute) and one.value.attr == "UNKNOWN"
        for one in keywords
    )


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a module or function, without those of functions in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _own_nodes(child)


def patterns(expression: ast.expr, scope: ast.AST) -> list[str]:
    """A text as regular expressions, one for each way it may come out; empty if hardly a letter of it is known."""
    return [found if _letters(found) >= LEAST_LETTERS else "" for found in _ways(expression, scope)]


def _letters(found: str) -> int:
    return len(re.sub(r"\\.|\W", "", found.replace(HOLE, "")))


def _ways(expression: ast.expr, scope: ast.AST) -> list[str]:
    match expression:
        case ast.Constant(value=str(text)):
            return [re.escape(text)]
        case ast.JoinedStr(values=parts):
            return ["".join(way) for way in itertools.product(*(_ways(part, scope) for part in parts))]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return ["".join(way) for way in itertools.product(_ways(left, scope), _ways(right, scope))]
        case ast.IfExp(body=one, orelse=other):
            return [*_ways(one, scope), *_ways(other, scope)]
        case ast.Name(id=name):
            assigned = [way for value in _assigned(name, scope) for way in _ways(value, scope)]
            return list(dict.fromkeys(assigned)) or [HOLE]
    return [HOLE]


def _product(whats: Sequence[str], whys: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from itertools.product(whats, whys)


def _assigned(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    """What is assigned to a local name."""
    for node in _own_nodes(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                named = zip(targets, values, strict=False)
                yield from (value for target, value in named if isinstance(target, ast.Name) and target.id == name)
