"""Which options a storage of each type may have, must have, and cannot lose; as its plugin declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pvelab.answers import refused

_EVERY = frozenset({"bwlimit", "content", "disable", "nodes"})
_FILES = _EVERY | {"content-dirs", "format", "max-protected-backups", "preallocation", "prune-backups"}
_FILES |= {"create-base-path", "create-subdirs", "mkdir"}
CHAIN = "snapshot-as-volume-chain"
REQUIRED = {
    "dir": ("path",), "nfs": ("server", "export"), "cifs": ("server", "share"), "lvm": ("vgname",),
    "lvmthin": ("thinpool", "vgname"), "zfspool": ("pool",),
}  # fmt: skip
OPTIONAL = {
    "dir": _FILES | {"is_mountpoint", "shared", CHAIN},
    "nfs": _FILES | {"options", "path", CHAIN},
    "cifs": _FILES | {"domain", "options", "password", "path", "smbversion", "subdir", "username", CHAIN},
    "lvm": _EVERY
    | {"base", "saferemove", "saferemove-stepsize", "saferemove_throughput", "shared", "tagged_only", CHAIN},
    "lvmthin": _EVERY,
    "zfspool": _EVERY | {"blocksize", "mountpoint", "sparse"},
}
_FIXED = ("base", "path")


def check_new(kind: str, options: Iterable[str]) -> None:
    """Refuse options that the type does not have, and one that is missing. Raises ApiError."""
    if kind not in OPTIONAL:
        return
    given = set(options)
    _check_known(kind, given)
    for option in REQUIRED[kind]:
        if option not in given:
            raise refused(f"missing value for required option '{option}'")


def check_change(kind: str, options: Mapping[str, str], deleted: Iterable[str]) -> None:
    """Refuse what cannot be set or taken away later. Raises ApiError."""
    if kind not in OPTIONAL:
        return
    _check_known(kind, options)
    for option in deleted:
        if option in REQUIRED[kind]:
            raise refused(f"unable to delete required option '{option}'")
        if option not in OPTIONAL[kind]:
            raise refused(f"no such option '{option}'")
        if option in _FIXED:
            text = "fixed" if option == "base" else "required"
            raise refused(f"unable to delete {text} option '{option}'")
        if option in options:
            raise refused(f"cannot set and delete property '{option}' at the same time!")


def _check_known(kind: str, options: Iterable[str]) -> None:
    for option in sorted(options):
        if option not in OPTIONAL[kind] and option not in REQUIRED[kind]:
            raise refused(f"unexpected property '{option}'")
