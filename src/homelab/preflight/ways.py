"""The ways to a node, and from it to the image: without one a run takes another, or the VM misses something."""

from __future__ import annotations

from homelab.errors import ChangedIdentity, HomelabError, NodeFailed, Problem, Refused
from homelab.image_manager import ImageManager
from homelab.models import MIB, Finding, HostStatus, Severity, StorageState, Wire
from homelab.preflight.notes import FORBIDDEN, Notes
from homelab.preflight.storages import snippet_storage
from homelab.proxmox.client import Proxmox


def look_at_api(pve: Proxmox, notes: Notes) -> None:
    """An API that was to be used and is not."""
    trouble = pve.link(notes.node).trouble
    if trouble:
        notes.warn(Problem(f"{notes.node}: its API is not used, but SSH", str(trouble), trouble.cure))


def is_another_machine(pve: Proxmox, notes: Notes) -> bool:
    """As refuse_another_machine, noted."""
    try:
        refuse_another_machine(pve, notes.node)
    except ChangedIdentity as changed:
        notes.found.append(Finding(notes.node, changed.problem, Severity.UNKNOWN))
        return True
    return False


def refuse_another_machine(pve: Proxmox, node: str) -> None:
    """Raise ChangedIdentity where SSH shows another host key than the known one, though the API may be the right one.

    Then nothing may be written there. That SSH does not answer, or not in time, is another matter.
    """
    try:
        pve.root(node)
    except ChangedIdentity:
        raise
    except HomelabError:
        return


def look_at_ssh(pve: Proxmox, notes: Notes) -> None:
    """Root over SSH, which brings what the API cannot: the snippet by which the guest agent is installed."""
    if pve.wire(notes.node) is Wire.API:
        try:
            pve.root(notes.node)
        except ChangedIdentity:
            return
        except HomelabError as error:
            why = f"{error.why}; without it a VM is made without the guest agent"
            notes.warn(Problem(f"{notes.node}: {error.what} does not work", why, error.cure))


def look_at_snippets(notes: Notes, there: tuple[StorageState, ...]) -> None:
    """A place for that snippet, unless it may be among what Proxmox does not show the token."""
    try:
        snippet_storage(notes.node, there)
    except NodeFailed as error:
        if not any(path.startswith("/storage/") for path in notes.hidden):
            notes.warn(error.problem)


def look_at_image(pve: Proxmox, notes: Notes, images: ImageManager) -> None:
    """The node fetches the image by itself; else it is uploaded to it.

    A token that may not have the node look does not have it fetch either: that is no trouble, as there is the upload.
    """
    try:
        pve.look_from(notes.node, images.image.url)
    except HomelabError as error:
        if not (isinstance(error, Refused) and error.status == FORBIDDEN):
            cure = f"let {notes.node} reach it (DNS, route, proxy), or leave it so: it is uploaded from this machine"
            notes.warn(Problem(f"{notes.node}: the node does not reach the image itself", str(error), cure))


def look_at_upload(pve: Proxmox, notes: Notes, images: ImageManager, host: HostStatus) -> None:
    """An upload by the API passes through the node's /var/tmp."""
    size_bytes, free_bytes = images.size_bytes(), host.root_free_bytes
    if free_bytes is not None and free_bytes < size_bytes and pve.wire(notes.node) is Wire.API:
        notes.warn(
            Problem(
                f"{notes.node}: its root file system has no room for an upload of the image",
                f"it passes through /var/tmp: {size_bytes / MIB:.1f} MiB are needed, {free_bytes / MIB:.1f} MiB free",
                f"on {notes.node}: du -xh / | sort -h | tail shows what takes the room",
            )
        )
