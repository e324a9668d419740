"""What stands against making a VM on a node, all of it at once, each with its cure. Read-only."""

from homelab.preflight.gathering import Looked, Preflight
from homelab.preflight.ways import refuse_another_machine

__all__ = ["Looked", "Preflight", "refuse_another_machine"]
