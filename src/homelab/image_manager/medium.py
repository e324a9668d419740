"""What a file is, by its first bytes: a disk that a VM can boot, or something else under its name. Pure."""

from __future__ import annotations

HEAD_BYTES = 40_000
"""As much as it takes to tell: an ISO 9660 file system says so behind its first 32 KiB."""
QCOW2 = b"QFI\xfb"
PACKED = {
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
}
ISO_9660_AT, ISO_9660 = 32_769, b"CD001"
BOOT_SECTOR_AT, BOOT_SECTOR = 510, b"\x55\xaa"


def flaw_of(head: bytes, name: str, *, goes_by_name: bool) -> str:
    """Why a file that begins so is no disk image; empty if it is one. `goes_by_name`: a storage takes its word."""
    if head[ISO_9660_AT:].startswith(ISO_9660):
        return "it is an installer or another CD, and no disk that boots without a person"
    packed = next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
    if packed:
        return f"it is packed ({packed}), and Proxmox takes it only unpacked"
    is_raw = head[BOOT_SECTOR_AT:].startswith(BOOT_SECTOR)
    if not head.startswith(QCOW2) and not is_raw:
        return "it is neither a qcow2 image nor a raw disk with a boot sector"
    if goes_by_name and is_raw != name.endswith(".raw"):
        return f"it is a {'raw' if is_raw else 'qcow2'} disk, and its name {name} says otherwise"
    return ""
