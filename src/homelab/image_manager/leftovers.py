"""Images of before: on a node that has a newer one by now, those that homelab brought and no VM needs are removed."""

from __future__ import annotations

import logging

from homelab.errors import HomelabError
from homelab.image_manager.places import Place, checksum_in
from homelab.proxmox.client import Proxmox

logger = logging.getLogger(__name__)


def remove_older(pve: Proxmox, node: str, place: Place) -> tuple[str, ...]:
    """The volumes that were removed; where that cannot be told or done, they stay.

    Ours is what has the name that homelab gives, with the checksum of its own content in it. The volume itself is no
    VM's disk: disks are copies. That no VM names it, as a CD for example, is read from the configs by root SSH.
    """
    try:
        rows = pve.storage_content(node, place.storage, content=place.content)
        return tuple(row.volume for row in rows if _is_removed(pve, node, row.volume, checksum_in(row.volume, place)))
    except HomelabError as error:
        logger.info("%s: images beside %s stay: %s", node, place.volume, error)
        return ()


def _is_removed(pve: Proxmox, node: str, volume: str, checksum: str) -> bool:
    if not checksum or pve.is_named_by_vms(node, volume):
        return False
    if not pve.file_sha256(node, pve.image_path(node, volume)).startswith(checksum):
        return False
    pve.free_volume(node, volume)
    return True
