"""Plans and carries out what happens to VMs: create, start, replace, delete."""

from homelab.vm_manager.applying import Replacements, Result, VmManager
from homelab.vm_manager.creating import Making, create_vm
from homelab.vm_manager.deleting import delete_vm, refuse_if_guarded
from homelab.vm_manager.first_boot import FirstBoots
from homelab.vm_manager.planning import plan
from homelab.vm_manager.preparing import judge
from homelab.vm_manager.resuming import refuse_beside_half_made

__all__ = [
    "FirstBoots",
    "Making",
    "Replacements",
    "Result",
    "VmManager",
    "create_vm",
    "delete_vm",
    "judge",
    "plan",
    "refuse_beside_half_made",
    "refuse_if_guarded",
]
