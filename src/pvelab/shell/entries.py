"""What lies in a machine's folders, computed folders among it, and who may touch it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from errno import EACCES

from pvelab.shell.contents import Content, Memory

READ, WRITE, SEARCH = 4, 2, 1

View = Callable[[], Mapping[str, bytes | Callable[[], bytes]]]
"""Gives the files of a computed folder (as /proc) by relative path; a name that ends in / is an empty folder."""


@dataclass(slots=True)
class File:
    """A regular file."""

    owner: str
    mode: int
    modified: float
    content: Content


@dataclass(slots=True)
class Link:
    """A symbolic link."""

    owner: str
    modified: float
    target: str
    mode: int = 0o777


@dataclass(slots=True)
class Folder:
    """A directory; one with a view is computed whenever it is looked at, and read-only."""

    owner: str
    mode: int
    modified: float
    children: MutableMapping[str, Entry] = field(default_factory=dict)
    view: View | None = None


Entry = File | Folder | Link


def children(folder: Folder) -> Mapping[str, Entry]:
    """What is in the folder, by name."""
    if folder.view is None:
        return folder.children
    names = {path.partition("/")[0] for path in folder.view()}
    return {name: found for name in names if (found := child(folder, name)) is not None}


def child(folder: Folder, name: str) -> Entry | None:
    """What is in the folder under this name."""
    if folder.view is None:
        return folder.children.get(name)
    paths = folder.view()
    if name in paths:
        return _computed(folder, paths[name])
    if any(path.startswith(name + "/") for path in paths):
        return Folder(folder.owner, folder.mode, folder.modified, view=_part_of(folder.view, name + "/"))
    return None


def _part_of(view: View, prefix: str) -> View:
    return lambda: {
        path.removeprefix(prefix): content
        for path, content in view().items()
        if path.startswith(prefix) and path != prefix
    }


def _computed(folder: Folder, content: bytes | Callable[[], bytes]) -> File:
    data = content if isinstance(content, bytes) else content()
    return File(folder.owner, folder.mode & 0o666, folder.modified, Memory(data))


def need(entry: Entry, user: str, wanted: int, path: str) -> None:
    """Raise PermissionError unless the user has the wanted rights; root has all."""
    shift = 6 if entry.owner == user else 0
    if user != "root" and (entry.mode >> shift) & wanted != wanted:
        raise error(EACCES, path)


def error(number: int, path: str) -> OSError:
    """The error that Linux gives, with its text."""
    return OSError(number, os.strerror(number), path)
