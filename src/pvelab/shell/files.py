"""The files of a machine: folders, owners, modes, times, links; big content lies in real files on disk.

Errors are Python's own OSError with the errno and text that Linux gives. Paths are absolute.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from errno import EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EROFS
from functools import partial
from pathlib import Path

from pvelab.shell.contents import Content, Hole, Memory, OnDisk, Spool
from pvelab.shell.entries import READ, SEARCH, WRITE, Entry, File, Folder, Link, View, child, children, error, need

MAX_LINKS = 40


@dataclass(slots=True)
class Mounted:
    """A file system of limited size; other_bytes is what the files kept here do not account for."""

    device: str
    kind: str
    point: str
    total_bytes: int
    other_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a mounted file system is."""

    mounted: Mounted
    total_bytes: int
    used_bytes: int

    @property
    def available_bytes(self) -> int:
        return max(0, self.total_bytes - self.used_bytes)


class Writer:
    """An open file: what is written shows at once when it is closed, or up to where space ended."""

    def __init__(self, spool: Spool, has_room: Callable[[int], bool], keep: Callable[[Content], None]) -> None:
        self._spool = spool
        self._has_room = has_room
        self._keep = keep
        self._written_bytes = 0

    def write(self, data: bytes) -> None:
        """Add data. Raises OSError (no space left on device)."""
        self._written_bytes += len(data)
        if not self._has_room(self._written_bytes):
            self.close()
            raise error(ENOSPC, "")
        self._spool.write(data)

    def close(self) -> None:
        """Make what was written the content of the file."""
        self._keep(self._spool.finish())


class FileSystem:
    """All files of one machine. Every method takes the user on whose behalf it acts; root may do all."""

    def __init__(self, folder: Path, now: Callable[[], float], root_bytes: int = 94 << 30) -> None:
        self._spool_folder = folder
        self._now = now
        self.root = Folder("root", 0o755, now())
        self.mounted = [Mounted("/dev/mapper/pve-root", "ext4", "/", root_bytes)]
        self._ever_written_bytes = 0
        """The files hold no more than that; mostly it tells without a count that there is room."""

    def entry(self, path: str, user: str = "root", *, follow: bool = True) -> Entry:
        """What is at path. Raises FileNotFoundError, NotADirectoryError, PermissionError."""
        _, _, found = self._walk(path, user, follow=follow)
        if found is None:
            raise error(ENOENT, path)
        return found

    def exists(self, path: str) -> bool:
        """Is there anything at path, links followed?"""
        return self._kind(path) is not None

    def is_file(self, path: str) -> bool:
        """Is there a regular file at path?"""
        return self._kind(path) is File

    def is_folder(self, path: str) -> bool:
        """Is there a directory at path?"""
        return self._kind(path) is Folder

    def read(self, path: str, user: str = "root") -> bytes:
        """The whole content of a file; use `content` for one that may be big."""
        return self.content(path, user).data()

    def content(self, path: str, user: str = "root") -> Content:
        """The content of a file: size, chunks, digest."""
        found = self.entry(path, user)
        if not isinstance(found, File):
            raise error(EISDIR, path)
        need(found, user, READ, path)
        return found.content

    def names(self, path: str, user: str = "root") -> list[str]:
        """The names in a directory, sorted."""
        found = self.entry(path, user)
        if not isinstance(found, Folder):
            raise error(ENOTDIR, path)
        need(found, user, READ, path)
        return sorted(children(found))

    def write(self, path: str, content: bytes | Content, user: str = "root", *, mode: int = 0o644) -> None:
        """Put a file in place at once, keeping the mode and owner of one that is there."""
        held = Memory(content) if isinstance(content, bytes) else content
        if not self._has_room(path, held.allocated_bytes):
            raise error(ENOSPC, path)
        self._keep(self._file_to_write(path, user, mode), held)

    def provide(self, path: str, content: bytes | Content = b"", *, mode: int = 0o644, owner: str = "root") -> None:
        """Put a file of this owner in place and make its folders: for seeds and for what a machine does itself."""
        self.make_folder(posixpath.dirname(path), parents=True)
        self.write(path, content, mode=mode)
        self.change(path, mode=mode, owner=owner)

    def adopt(self, path: str, real: Path, *, owned: bool = True, mode: int = 0o644) -> None:
        """Put a real file in place; if owned, it is deleted with the last file that holds it."""
        self.write(path, OnDisk(real, owned=owned), mode=mode)

    def allocate(self, path: str, size_bytes: int, *, mode: int = 0o640) -> None:
        """Make a sparse file, such as a new raw disk."""
        self.write(path, Hole(size_bytes), mode=mode)

    def open_writer(self, path: str, user: str = "root", *, mode: int = 0o644, append: bool = False) -> Writer:
        """Open for writing as `>` and `>>` do; the file exists, and is empty unless appended to, from now on."""
        file = self._file_to_write(path, user, mode)
        spool = Spool(self._spool_folder)
        if append:
            for chunk in file.content.chunks():
                spool.write(chunk)
        else:
            file.content, file.modified = Memory(b""), self._now()
        return Writer(spool, partial(self._has_room, path), partial(self._keep, file))

    def make_folder(self, path: str, user: str = "root", *, mode: int = 0o755, parents: bool = False) -> None:
        """Make a directory; with parents, those above it too, and one that exists is no error."""
        if parents:
            above = posixpath.dirname(posixpath.normpath(path))
            if self.is_folder(path):
                return
            if above != "/" and not self.is_folder(above):
                self.make_folder(above, user, mode=mode, parents=True)
        self._add(path, user, Folder(user, mode, self._now()))

    def make_link(self, path: str, target: str, user: str = "root") -> None:
        """Make a symbolic link at path."""
        self._add(path, user, Link(user, self._now(), target))

    def mount(self, path: str, view: View) -> None:
        """Make path a computed, read-only folder."""
        self.make_folder(path, parents=True)
        folder = self.entry(path)
        if isinstance(folder, Folder):
            folder.view = view

    def remove(self, path: str, user: str = "root") -> None:
        """Remove a file or link."""
        parent, name, found = self._parent_to_change(path, user)
        if found is None:
            raise error(ENOENT, path)
        if isinstance(found, Folder):
            raise error(EISDIR, path)
        del parent.children[name]
        parent.modified = self._now()

    def remove_folder(self, path: str, user: str = "root", *, tree: bool = False) -> None:
        """Remove an empty directory, or with tree all that is in it too."""
        parent, name, found = self._parent_to_change(path, user)
        if found is None:
            raise error(ENOENT, path)
        if not isinstance(found, Folder):
            raise error(ENOTDIR, path)
        if children(found):
            if not tree:
                raise error(ENOTEMPTY, path)
            need(found, user, WRITE, path)
        del parent.children[name]
        parent.modified = self._now()

    def rename(self, old: str, new: str, user: str = "root") -> None:
        """Move within the machine, replacing a file at new, as rename(2) does."""
        old_parent, old_name, moved = self._parent_to_change(old, user)
        if moved is None:
            raise error(ENOENT, old)
        new_parent, new_name, there = self._parent_to_change(new, user)
        if isinstance(there, Folder) and not isinstance(moved, Folder):
            raise error(EISDIR, new)
        if isinstance(moved, Folder) and (posixpath.normpath(new) + "/").startswith(posixpath.normpath(old) + "/"):
            raise error(EINVAL, new)
        if isinstance(moved, Folder) and there is not None:
            raise error(ENOTEMPTY if isinstance(there, Folder) else ENOTDIR, new)
        del old_parent.children[old_name]
        new_parent.children[new_name] = moved
        old_parent.modified = new_parent.modified = self._now()

    def change(
        self, path: str, user: str = "root", *, mode: int | None = None, owner: str = "", modified: float = 0
    ) -> None:
        """Set the mode, owner or time of modification (Unix time) of what is at path."""
        found = self.entry(path, user)
        if user not in ("root", found.owner) or (owner and user != "root"):
            raise error(EACCES, path)
        if mode is not None:
            found.mode = mode
        found.owner = owner or found.owner
        found.modified = modified or found.modified

    def usage(self, path: str) -> Usage:
        """How full the file system is that holds path."""
        mounted = self._mounted_at(path)
        return Usage(mounted, mounted.total_bytes, mounted.other_bytes + self._held_bytes(mounted.point))

    def _mounted_at(self, path: str) -> Mounted:
        normal = posixpath.normpath(path) + "/"
        holding = (one for one in self.mounted if normal.startswith(one.point.rstrip("/") + "/"))
        return max(holding, key=lambda one: len(one.point))

    def _has_room(self, path: str, needed_bytes: int) -> bool:
        mounted = self._mounted_at(path)
        if mounted.other_bytes + self._ever_written_bytes + needed_bytes <= mounted.total_bytes:
            return True
        return needed_bytes <= self.usage(path).available_bytes

    def _keep(self, file: File, content: Content) -> None:
        file.content, file.modified = content, self._now()
        self._ever_written_bytes += content.allocated_bytes

    def _held_bytes(self, point: str) -> int:
        """What the files below point take, each content counted once, without what is mounted further down."""
        elsewhere = {id(self._folder(one.point)) for one in self.mounted if one.point != point}
        start = self._folder(point)
        folders = [start] if start else []
        contents: set[Content] = set()
        while folders:
            folder = folders.pop()
            for found in folder.children.values() if folder.view is None else ():
                if isinstance(found, File):
                    contents.add(found.content)
                elif isinstance(found, Folder) and id(found) not in elsewhere:
                    folders.append(found)
        return sum(content.allocated_bytes for content in contents)

    def _folder(self, path: str) -> Folder | None:
        try:
            found = self.entry(path)
        except OSError:
            return None
        return found if isinstance(found, Folder) else None

    def _kind(self, path: str) -> type[Entry] | None:
        try:
            return type(self.entry(path))
        except OSError:
            return None

    def _file_to_write(self, path: str, user: str, mode: int) -> File:
        parent, name, found = self._walk(path, user, follow=True)
        if isinstance(found, Folder) or path.endswith("/"):
            raise error(EISDIR, path)
        if parent.view:
            raise error(EROFS, path)
        if isinstance(found, File):
            need(found, user, WRITE, path)
            return found
        need(parent, user, WRITE | SEARCH, path)
        made = File(user, mode, self._now(), Memory(b""))
        parent.children[name] = made
        parent.modified = self._now()
        return made

    def _add(self, path: str, user: str, entry: Entry) -> None:
        parent, name, found = self._walk(path, user, follow=False)
        if found is not None:
            raise error(EEXIST, path)
        if parent.view:
            raise error(EROFS, path)
        need(parent, user, WRITE | SEARCH, path)
        parent.children[name] = entry
        parent.modified = self._now()

    def _parent_to_change(self, path: str, user: str) -> tuple[Folder, str, Entry | None]:
        parent, name, found = self._walk(path, user, follow=False)
        if not name:
            raise error(EINVAL, path)
        if parent.view:
            raise error(EROFS, path)
        need(parent, user, WRITE | SEARCH, path)
        is_sticky = parent.mode & 0o1000 and user not in ("root", parent.owner)
        if is_sticky and found is not None and found.owner != user:
            raise error(EACCES, path)
        return parent, name, found

    def _walk(self, path: str, user: str, *, follow: bool) -> tuple[Folder, str, Entry | None]:
        """The folder that holds the last part of path, that part (empty for the root itself), and what is there."""
        above: list[tuple[str, Folder]] = [("", self.root)]
        parts = _parts(path)
        links_left = MAX_LINKS
        while parts:
            part = parts.pop()
            if part == "..":
                above = above[:-1] or above
                continue
            folder = above[-1][1]
            if user != "root":
                need(folder, user, SEARCH, path)
            found = folder.children.get(part) if folder.view is None else child(folder, part)
            if not parts and not (follow and isinstance(found, Link)):
                return folder, part, found
            if isinstance(found, Folder):
                above.append((part, found))
            elif isinstance(found, Link):
                links_left -= 1
                if not links_left:
                    raise error(ELOOP, path)
                parts += _parts(found.target)
                above = above[:1] if found.target.startswith("/") else above
            else:
                raise error(ENOENT if found is None else ENOTDIR, path)
        name, folder = above[-1]
        return (above[-2][1] if len(above) > 1 else folder), name, folder


def _parts(path: str) -> list[str]:
    """The parts of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
