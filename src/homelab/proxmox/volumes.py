"""Files on a node's storages: images, snippets, disks."""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterator
from contextlib import suppress

from homelab.errors import HomelabError, Misunderstood, Refused, TaskFailed, Undecided
from homelab.proxmox.changes import Changes
from homelab.proxmox.recording import on_record
from homelab.proxmox.remote_files import output, remove_parts, remove_temporary, sha256_if_there, sha256_of
from homelab.proxmox.transport import Download, Link, Params, SshWire, Upload

logger = logging.getLogger(__name__)

LONGEST_LOOK_S = 20
LOOKS = 3


class Volumes(Changes):
    """Each write is verified by reading afterwards what the storage holds."""

    def upload(self, upload: Upload) -> str:
        """Bring a file into a storage; the volume id. Proxmox, or we over SSH, check its sha256."""
        return self._put(self.link(upload.node), upload)

    def copy(self, upload: Upload) -> str:
        """As upload, by root SSH whatever the wire."""
        return self._put(self.root(upload.node), upload)

    def _put(self, wire: Link | SshWire, upload: Upload) -> str:
        size = upload.source.stat().st_size
        try:
            with on_record(self._record, f"upload of {upload.volume}", upload.node):
                volume = wire.put_file(upload)
        except (Undecided, Misunderstood) as doubt:
            if self._size_of(upload.node, upload.volume) != size:
                raise doubt from doubt.__cause__
            return upload.volume
        found = self._size_of(upload.node, volume)
        if found != size:
            raise TaskFailed(f"upload of {volume} to {upload.node}", f"it has {found} bytes, not {size}", "run again")
        return volume

    def reaches(self, node: str, url: str) -> bool:
        """Does the node get an answer from there in time? Asked where a download cannot be left to itself: over SSH."""
        try:
            self.look_from(node, url)
        except HomelabError:
            return False
        return True

    def look_from(self, node: str, url: str) -> None:
        """Have the node ask for the headers of a URL. Raises what speaks against it, Refused also for privileges."""
        self.link(node).call("GET", f"/nodes/{node}/query-url-metadata", {"url": url}, timeout_s=LONGEST_LOOK_S)

    def download_url(self, download: Download, timeout_s: float = 1800) -> str:
        """Have the node fetch a file itself and check its sha256; the volume id. It may be there already."""
        node, volume = download.node, download.volume
        params: Params = {
            "url": download.url,
            "content": download.content,
            "filename": download.filename,
            "checksum": download.sha256,
            "checksum-algorithm": "sha256",
        }
        try:
            self._do(node, "POST", f"/nodes/{node}/storage/{download.storage}/download-url", params, timeout_s)
        except (Undecided, Misunderstood) as doubt:
            if self._size_of(node, volume) is None:
                raise doubt from doubt.__cause__
        if self._size_of(node, volume) is None:
            raise TaskFailed(f"download of {download.url} by {node}", f"{volume} is not there", "run again")
        return volume

    def put_snippet(self, node: str, storage: str, name: str, content: str) -> str:
        """Have a cloud-init snippet there by root SSH, which the API cannot; the volume id.

        One that is there is compared by its sha256; where it is another, it is written anew, and that is said.
        """
        volume = f"{storage}:snippets/{name}"
        root = self.root(node)
        path = root.path_of(volume)
        found = sha256_if_there(root, path)
        if found == hashlib.sha256(content.encode()).hexdigest():
            return volume
        if found:
            logger.warning("%s: %s holds something else than its name says, and is written anew", node, volume)
        with on_record(self._record, f"snippet {volume}", node):
            root.write_file(path, content.encode())
        return volume

    def free_volume(self, node: str, volume: str, timeout_s: float = 120) -> None:
        """Remove a volume; one that is gone already is as wanted."""
        storage = volume.partition(":")[0]
        self._do(node, "DELETE", f"/nodes/{node}/storage/{storage}/content/{volume}", None, timeout_s)

    def free_as_root(self, node: str, volume: str, timeout_s: float = 120) -> None:
        """As free_volume, by root SSH whatever the wire."""
        storage = volume.partition(":")[0]
        self._do_as_root(node, "DELETE", f"/nodes/{node}/storage/{storage}/content/{volume}", None, timeout_s)

    def is_named_by_vms(self, node: str, volume: str, *, beside: int = 0) -> bool:
        """Does the config of a VM that sees the storage, or a snapshot of one, name this volume? Read by root SSH.

        The VM `beside` does not count, nor what a running VM had on its cloud-init drive before a change (section
        special:cloudinit).
        """
        name = volume.partition(":")[0]
        is_own = any(one.name == name and not one.is_shared for one in self.storages(node))
        printed = _grepped(self.root(node), f"-e '[' -e {shlex.quote(volume)}")
        naming = (file for file in _naming(printed, volume) if not is_own or file.startswith(f"{node}/"))
        return any(not file.endswith(f"/{beside}.conf") for file in naming)

    def remove_parts(self, node: str, volume: str) -> None:
        """Remove, by root SSH, what an upload of this volume that was cut off left beside it."""
        root = self.root(node)
        remove_parts(root, root.path_of(volume))

    def remove_key_files(self, node: str) -> None:
        """Remove, by root SSH, the files of SSH keys that commands which were cut off left."""
        remove_temporary(self.root(node))

    def image_path(self, node: str, volume: str) -> str:
        """Where a volume lies on the node, by root SSH."""
        return self.root(node).path_of(volume)

    def file_sha256(self, node: str, path: str) -> str:
        """By root SSH; reads the whole file there."""
        return sha256_of(self.root(node), path, 600)

    def _size_of(self, node: str, volume: str) -> int | None:
        """File size of a volume; None when the storage does not list it."""
        storage = volume.partition(":")[0]
        listed = self.storage_content(node, storage)
        return next((row.size_bytes for row in listed if row.volume == volume), None)


def _grepped(root: SshWire, wanted: str) -> str:
    """Lines of all VMs' configs with one of these strings; again where a VM went after the shell had listed it."""
    # a second file makes grep say the name of the first
    command = ["sh", "-c", f"cd /etc/pve/nodes && grep -F {wanted} */qemu-server/*.conf /dev/null"]
    for _ in range(LOOKS - 1):
        with suppress(Refused):
            return output(root, command, good=(0, 1))
    return output(root, command, good=(0, 1))


def _naming(printed: str, volume: str) -> Iterator[str]:
    """The configs that name a volume, from their lines with section heads and with its name."""
    section = ""
    for line in printed.splitlines():
        file, _, text = line.partition(":")
        if text.startswith("["):
            section = f"{file}:{text}"
        elif volume in text and section != f"{file}:[special:cloudinit]":
            yield file
