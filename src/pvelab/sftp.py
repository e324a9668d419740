"""SFTP, and so `scp`, on the files of a machine of the lab."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from errno import EEXIST, EINVAL

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_DIRECTORY, FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_SYMLINK

from pvelab.machine import Machine
from pvelab.shell.contents import Content
from pvelab.shell.entries import Entry, File, Folder, Link
from pvelab.shell.files import Writer

_TYPES = {File: FILEXFER_TYPE_REGULAR, Folder: FILEXFER_TYPE_DIRECTORY, Link: FILEXFER_TYPE_SYMLINK}
_TYPE_BITS = {File: 0o100000, Folder: 0o040000, Link: 0o120000}


@dataclass(slots=True)
class _Handle:
    """An open file. It is written from its beginning to its end; what was written is not written over."""

    path: str
    writer: Writer | None = None
    content: Content | None = None
    written_bytes: int = 0
    early: dict[int, bytes] = field(default_factory=dict)
    chunks: Iterator[bytes] | None = None
    start: int = 0
    chunk: bytes = b""

    def write(self, offset: int, data: bytes) -> None:
        """Write data at offset; pieces that come out of order wait for those before them."""
        if offset < self.written_bytes:
            raise OSError(EINVAL, "Invalid argument")
        self.early[offset] = data
        while self.writer and self.written_bytes in self.early:
            piece = self.early.pop(self.written_bytes)
            self.writer.write(piece)
            self.written_bytes += len(piece)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Data from offset on; going back starts again from the beginning."""
        if self.content is None:
            return b""
        if self.chunks is None or offset < self.start:
            self.chunks, self.start, self.chunk = self.content.chunks(), 0, b""
        data = bytearray()
        while len(data) < size_bytes:
            position = offset + len(data)
            if position >= self.start + len(self.chunk):
                self.start += len(self.chunk)
                self.chunk = next(self.chunks, b"")
                if not self.chunk:
                    break
                continue
            begin = position - self.start
            data += self.chunk[begin : begin + size_bytes - len(data)]
        return bytes(data)


class FileAccess(asyncssh.SFTPServer):
    """The files of a machine as its user sees them. OSErrors become SFTP's own answers."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], machine: Machine) -> None:
        super().__init__(channel)
        self._channel = channel
        self._files = machine.files
        self._accounts = machine.accounts
        self._user = str(channel.get_extra_info("username"))
        account = machine.accounts.get(self._user)
        self._home = account.home if account else "/"

    def exit(self) -> None:
        self._channel.exit(0)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        where = self._path(path)
        handle = _Handle(where)
        if pflags & asyncssh.FXF_WRITE:
            if pflags & asyncssh.FXF_EXCL and self._files.exists(where):
                raise FileExistsError(EEXIST, "File exists")
            if not pflags & asyncssh.FXF_CREAT:
                self._files.entry(where, self._user)
            mode = 0o644 if attrs.permissions is None else attrs.permissions & 0o777
            append = bool(pflags & asyncssh.FXF_APPEND)
            handle.writer = self._files.open_writer(where, self._user, mode=mode, append=append)
        else:
            handle.content = self._files.content(where, self._user)
        return handle

    def close(self, file_obj: object) -> None:
        if isinstance(file_obj, _Handle) and file_obj.writer:
            file_obj.writer.close()
            if file_obj.early:
                raise OSError(EINVAL, "Invalid argument")

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return file_obj.read(offset, size) if isinstance(file_obj, _Handle) else b""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        if isinstance(file_obj, _Handle):
            file_obj.write(offset, data)
        return len(data)

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return self._attributes(self._files.entry(self._path(path), self._user))

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return self._attributes(self._files.entry(self._path(path), self._user, follow=False))

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        assert isinstance(file_obj, _Handle)
        return self._attributes(self._files.entry(file_obj.path, self._user))

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._change(self._path(path), attrs)

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        if isinstance(file_obj, _Handle):
            self._change(file_obj.path, attrs)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        where = self._path(path)
        for name in self._files.names(where, self._user):
            entry = self._files.entry(posixpath.join(where, name), self._user, follow=False)
            yield asyncssh.SFTPName(name.encode(), attrs=self._attributes(entry))

    def remove(self, path: bytes) -> None:
        self._files.remove(self._path(path), self._user)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        mode = 0o755 if attrs.permissions is None else attrs.permissions & 0o777
        self._files.make_folder(self._path(path), self._user, mode=mode)

    def rmdir(self, path: bytes) -> None:
        self._files.remove_folder(self._path(path), self._user)

    def realpath(self, path: bytes) -> bytes:
        return posixpath.normpath(self._path(path)).encode()

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if self._files.exists(self._path(newpath)):
            raise FileExistsError(EEXIST, "File exists")
        self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._files.rename(self._path(oldpath), self._path(newpath), self._user)

    def readlink(self, path: bytes) -> bytes:
        entry = self._files.entry(self._path(path), self._user, follow=False)
        if not isinstance(entry, Link):
            raise OSError(EINVAL, "Invalid argument")
        return entry.target.encode()

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        self._files.make_link(self._path(newpath), oldpath.decode(), self._user)

    def _path(self, path: bytes) -> str:
        return posixpath.join(self._home, path.decode())

    def _change(self, path: str, attrs: asyncssh.SFTPAttrs) -> None:
        mode = None if attrs.permissions is None else attrs.permissions & 0o7777
        self._files.change(path, self._user, mode=mode, modified=attrs.mtime or 0)

    def _attributes(self, entry: Entry) -> asyncssh.SFTPAttrs:
        account = self._accounts.get(entry.owner)
        uid = account.uid if account else 0
        return asyncssh.SFTPAttrs(
            type=_TYPES[type(entry)],
            size=entry.content.size_bytes if isinstance(entry, File) else 4096,
            permissions=entry.mode | _TYPE_BITS[type(entry)],
            uid=uid,
            gid=uid,
            atime=int(entry.modified),
            mtime=int(entry.modified),
        )
