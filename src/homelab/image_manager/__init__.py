"""The cloud image: whom it is believed, where it belongs, and how it comes to a node.

origin: one image for the run, its published checksum and the copy here. sums: the list of checksums and its signature.
signature: OpenPGP. medium: what a file is by its first bytes. places: the storage of a node. manager: bringing it.
freshness: whether a VM was made from an older one. leftovers: images that homelab brought and nobody needs any more.
"""

from homelab.image_manager.manager import ImageManager
from homelab.image_manager.places import Place

__all__ = ["ImageManager", "Place"]
