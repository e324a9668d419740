"""A true qcow2 image, small on disk and large inside, as a stand-in for a cloud image."""

from __future__ import annotations

import random
import struct

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_COVERED_BY_ONE_L2_TABLE = (_CLUSTER // 8) * _CLUSTER
_COPIED = 1 << 63
_HEADER = ">4sIQIIQIIQQIIQQQQII"
_DATA_CLUSTERS = 4


def qcow2_image(virtual_size: int, seed: int) -> bytes:
    """A version 3 image of that virtual size whose first clusters hold a boot sector and data made from the seed."""
    l1_entries = -(-virtual_size // _COVERED_BY_ONE_L2_TABLE)
    metadata = 5
    clusters = metadata + _DATA_CLUSTERS
    l2_table = struct.pack(f">{_DATA_CLUSTERS}Q", *(_COPIED | (metadata + n) * _CLUSTER for n in range(_DATA_CLUSTERS)))
    parts = [
        _header(virtual_size, l1_entries),
        struct.pack(">Q", 2 * _CLUSTER),
        struct.pack(f">{clusters}H", *[1] * clusters),
        struct.pack(">Q", _COPIED | 4 * _CLUSTER) + bytes(8 * (l1_entries - 1)),
        l2_table,
    ]
    return b"".join(part.ljust(_CLUSTER, b"\0") for part in parts) + _disk_content(seed)


def _header(virtual_size: int, l1_entries: int) -> bytes:
    length = struct.calcsize(_HEADER)
    return struct.pack(
        _HEADER,
        *(b"QFI\xfb", 3, 0, 0, _CLUSTER_BITS, virtual_size, 0, l1_entries, 3 * _CLUSTER),
        *(_CLUSTER, 1, 0, 0, 0, 0, 0, 4, length),
    )


def _disk_content(seed: int) -> bytes:
    boot_sector = bytes(510) + b"\x55\xaa"
    rest = random.Random(seed).randbytes(_DATA_CLUSTERS * _CLUSTER - len(boot_sector))
    return boot_sector + rest
