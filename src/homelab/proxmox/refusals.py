"""What Proxmox answers when it says no, in words that lead on: the same on both wires."""

from __future__ import annotations

import re
from collections.abc import Mapping

from homelab.errors import HomelabError, NotThere, Refused, Undecided
from homelab.shell import Result

NOT_THERE = re.compile(
    r"Configuration file '[^']*' does not exist"
    r"|unable to find configuration file for VM \d+"
    r"|^no such task$"
)
PERMISSION = re.compile(r"Permission check failed(?: \((?P<path>/[^,)]*), (?P<privileges>[\w.|]+)[^)]*\))?")

ROLES = (
    ("VM.", "PVEVMAdmin"),
    ("Datastore.AllocateSpace", "PVEDatastoreUser"),
    ("Datastore.Audit", "PVEDatastoreUser"),
    ("Datastore.", "PVEDatastoreAdmin"),
    ("SDN.", "PVESDNUser"),
    ("Sys.Audit", "PVEAuditor"),
    ("Pool.", "PVEPoolAdmin"),
)
"""The smallest built-in role that holds a privilege; whatever is not listed only Administrator has."""

STALE = r"checksum mismatch \(file change by other user\?\)"
CURES: tuple[tuple[str, str], ...] = (
    (r"VM is locked \((\w+)\)", "wait until that {0} is over; if nothing runs any more: qm unlock VMID on the node"),
    (r"bridge '([^']+)' does not exist", "make {0} on the node, or set NETWORK_IFACES_n to a bridge that it has"),
    (r"storage '([^']+)' does not exist", "set STORAGE_n and IMG_STORAGE_n to storages that `pvesm status` lists"),
    (r"storage '([^']+)' does not support '(\w+)' content", "pvesm set {0} --content with {1} added to its list"),
    (r"storage '([^']+)' is (?:disabled|not online)", "enable {0}, or set STORAGE_n to another storage"),
    (r"protection mode enabled", "qm set VMID --protection 0, if the VM may really go"),
    (r"no quorum|not ready - no quorum", "bring the other nodes up until `pvecm status` says Quorate: Yes"),
    (
        r"ipcc_send_rec|Connection refused.*pve-cluster|[Uu]nable to load access control",
        "systemctl restart pve-cluster",
    ),
    (r"Only root can pass arbitrary filesystem paths", "needs SSH as root to the node: set SSH_USER and SSH_KEY_PATH"),
    (
        r"volume '([^']+)' does not exist",
        "bring {0} back, or take it out of the VM; qm config VMID shows where it stands",
    ),
    (r"is running - destroy failed", "qm stop VMID on the node first"),
    (r"VM (\d+) already exists", "VMID {0} is taken: set VMID_n to a free one, or leave it out"),
    (r"hostname lookup '([^']+)' failed", "use the node's own name from `pvecm nodes` in NODE_n"),
    (STALE, "somebody else changed the VM meanwhile: run again"),
    (
        r"No space left on device|not enough (?:free )?space|out of space|space in thin pool \S+ reached threshold",
        "free space on that storage, or choose another",
    ),
    (r"MAX (\d+) vcpus allowed", "set VM_CORES_n to {0} or less"),
    (r"requires KVM", "switch virtualisation on in the node's BIOS, or set VM_CPU_TYPE"),
    (r"start failed: QEMU exited", "the node's own log says more: journalctl -n 50 on the node"),
    (r"No QEMU guest agent configured", "qm set VMID --agent 1, then stop and start the VM"),
    (r"QEMU guest agent is not running", "in the guest: apt install qemu-guest-agent"),
)


LOOK_THERE = "the node's own log may say more: journalctl -n 50 on the node"


def cure_for(text: str) -> str:
    """What to do about a text of Proxmox'; empty where the text says all there is."""
    for pattern, cure in CURES:
        found = re.search(pattern, text)
        if found:
            return cure.format(*found.groups())
    return ""


def is_stale(error: HomelabError) -> bool:
    """Was a write not made since the VM was changed after the look that it was decided on?"""
    return re.search(STALE, error.why) is not None


def undecided(what: str, result: Result) -> Undecided:
    """The error for a command that ended by a signal, or failed without a word."""
    why = f"it ended with exit code {result.exit_code}: {result.stderr.strip() or 'nothing said'}"
    return Undecided(what, why, "look whether it was done before doing it again")


def refusal(what: str, text: str, status: int, *, errors: Mapping[str, str] | None = None, token: str = "") -> Refused:
    """The error for an answer of Proxmox'. `status` is the HTTP status; `token` is USER!ID, for the cure."""
    by_name = {name: words.strip() for name, words in (errors or {}).items()}
    details = "; ".join(f"{name}: {words}" for name, words in by_name.items())
    why = f"{text.strip()} {details}".strip()
    if any(NOT_THERE.search(words) for words in (text.strip(), *by_name.values())):
        return NotThere(what, why, "look where it is now: qm list on each node", status=status, errors=by_name)
    denied = PERMISSION.search(text)
    cure = _grant(denied, token) if denied else cure_for(why)
    return Refused(what, why, cure or LOOK_THERE, status=status, errors=by_name)


def path_to_grant_on(path: str) -> str:
    """Where a role lasts: Proxmox deletes those of one VM or one pool together with it."""
    return re.sub(r"^/(vms|pool)/.*", r"/\1", path)


def _grant(denied: re.Match[str], token: str) -> str:
    path, privileges = denied["path"] or "/vms", denied["privileges"] or "VM.Allocate"
    role = next((role for start, role in ROLES if privileges.startswith(start)), "Administrator")
    user = token.partition("!")[0]
    where = path_to_grant_on(path)
    return (
        f"the token lacks {privileges} on {path}: "
        f"pveum acl modify {where} --users '{user}' --tokens '{token}' --roles {role}"
    )
