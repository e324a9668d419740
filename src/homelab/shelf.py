"""Files that are kept from run to run and can be had again: each whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from homelab import download, private_files


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of them, by name; `bring` downloads the file of a URL with this sha256 to a path, if it is not there.

    `is_read_only`: no text is kept, for those who change nothing.
    """

    folder: Path
    bring: Callable[[str, Path, str], object]
    is_read_only: bool = False

    def downloaded(self, url: str, name: str, sha256: str) -> BinaryIO:
        """The file of a URL. Raises NotFetched."""
        path = self.folder / name
        self.bring(url, path, sha256)
        return path.open("rb")

    def put_together(self, pieces: Iterable[bytes], name: str, sha256: str) -> BinaryIO:
        """The file of these pieces, which are asked for only where it is not there yet.

        Raises NotFetched unless it has this sha256, and what comes while the pieces do.
        """
        path, new = self.folder / name, self.folder / f".{name}.new"
        try:
            if not download.is_whole(path, sha256):
                _write(new, pieces)
                if not download.is_whole(new, sha256):
                    raise download.NotFetched(
                        f"file {path}", f"what came does not have the sha256 {sha256}", "run again"
                    )
                new.replace(path)
            return path.open("rb")
        except OSError as error:
            why = error.strerror or str(error)
            raise download.NotFetched(f"file {path}", why, "free space there, or allow it") from error
        finally:
            with suppress(OSError):
                new.unlink()

    def text(self, name: str) -> str:
        """What `keep_text` wrote; empty where nothing can be read."""
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def keep_text(self, name: str, text: str) -> None:
        """As far as that can be written: it is for another day."""
        if self.is_read_only:
            return
        with suppress(OSError):
            private_files.make_folder(self.folder)
            private_files.replace(self.folder / name, text)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    private_files.make_folder(path.parent)
    with open(path, "wb", opener=private_files.opener) as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
