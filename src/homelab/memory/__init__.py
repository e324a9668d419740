"""What runs remember: one at a time, what each meant to write, and what earlier ones did."""

from homelab.memory.folder import find_folder, make_folder, owner
from homelab.memory.joins import Joins
from homelab.memory.journal import Intent, Journal, Write
from homelab.memory.past import REBOOTED, REPLACED, STRUCK, note, note_replacing, past_of
from homelab.memory.run_lock import held
from homelab.memory.told import news

__all__ = [
    "REBOOTED",
    "REPLACED",
    "STRUCK",
    "Intent",
    "Joins",
    "Journal",
    "Write",
    "find_folder",
    "held",
    "make_folder",
    "news",
    "note",
    "note_replacing",
    "owner",
    "past_of",
]
