"""What runs remember: one at a time, what each meant to write, and what earlier ones did."""

from homelab.memory.cordons import Cordons
from homelab.memory.folder import (
    Cluster,
    find_folder,
    folder_by_identity,
    is_certain,
    make_folder,
    note_cluster,
    owner,
)
from homelab.memory.guest_keys import GuestKeys
from homelab.memory.journal import Intent, Journal, Write
from homelab.memory.notes import (
    CLAIMED_S,
    Claim,
    claim_taken_off,
    image_in,
    with_claim,
    with_image,
    with_line,
    without_claim,
    without_line,
)
from homelab.memory.past import (
    GIVEN_UP,
    REBOOTED,
    REPLACED,
    STRUCK,
    creation_of,
    note,
    note_creating,
    note_replacing,
    past_of,
)
from homelab.memory.run_lock import held
from homelab.memory.servers import ClusterMemory
from homelab.memory.stamps import read_stamp, stamp
from homelab.memory.told import news
from homelab.memory.trusted import TrustStore

__all__ = [
    "CLAIMED_S",
    "GIVEN_UP",
    "REBOOTED",
    "REPLACED",
    "STRUCK",
    "Claim",
    "Cluster",
    "ClusterMemory",
    "Cordons",
    "GuestKeys",
    "Intent",
    "Journal",
    "TrustStore",
    "Write",
    "claim_taken_off",
    "creation_of",
    "find_folder",
    "folder_by_identity",
    "held",
    "image_in",
    "is_certain",
    "make_folder",
    "news",
    "note",
    "note_cluster",
    "note_creating",
    "note_replacing",
    "owner",
    "past_of",
    "read_stamp",
    "stamp",
    "with_claim",
    "with_image",
    "with_line",
    "without_claim",
    "without_line",
]
