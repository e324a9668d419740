"""What stands against making a VM on a node, all of it at once, each with its cure. Read-only."""

from homelab.preflight.gathering import Looked, Preflight

__all__ = ["Looked", "Preflight"]
