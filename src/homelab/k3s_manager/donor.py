"""k3s as it lies on a server of the cluster: for when its release is nowhere to be had."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from homelab.errors import Misunderstood
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.shelf import Shelf

BINARY = "/usr/local/bin/k3s"
LOOK = 'uname -m; "$1" --version; sha256sum "$1"; wc -c < "$1"'
LOOKED = re.compile(r"(\S+)\nk3s version (\S+).*\n([0-9a-f]{64}) .*\n *([0-9]+)\n?", re.DOTALL)
LOOK_TIMEOUT_S = 60
PIECE = 'dd if="$1" bs=4M skip="$2" count=1 status=none | base64 -w 0'
PIECE_BYTES = 4 << 20
"""Comes as base64, since a guest agent gives texts only; it gives no more than 16 MiB at once."""
PIECE_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Copy:
    """The binary that a server runs; `machine` is its kind of processor as uname tells it."""

    where: str
    machine: str
    version: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Donor:
    """The server that is asked gives its k3s."""

    servers: Servers
    shelf: Shelf

    def find(self) -> Copy:
        """What it has; raises HomelabError."""
        return self.servers.ask(_look)

    def give(self, copy: Copy, name: str) -> BinaryIO:
        """The binary, brought here if it does not lie on the shelf by that name. Raises HomelabError."""
        return self.servers.ask(lambda server: self.shelf.put_together(_pieces(server, copy), name, copy.sha256))


def _look(server: K3sServer) -> Copy:
    said = server.run(["sh", "-c", LOOK, "look", BINARY], timeout_s=LOOK_TIMEOUT_S).stdout
    found = LOOKED.fullmatch(said)
    if not found:
        raise Misunderstood(f"{server.where}: {BINARY} is not understood", said.strip()[:200])
    return Copy(server.where, found[1], found[2], found[3], int(found[4]))


def _pieces(server: K3sServer, copy: Copy) -> Iterator[bytes]:
    for number in range(-(-copy.size_bytes // PIECE_BYTES)):
        words = ["sh", "-c", PIECE, "piece", BINARY, str(number)]
        try:
            yield base64.b64decode(server.run(words, timeout_s=PIECE_TIMEOUT_S).stdout)
        except binascii.Error as error:
            raise Misunderstood(f"{server.where}: {BINARY} cannot be copied", str(error)) from error
