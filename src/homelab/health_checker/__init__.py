"""Looks at every node's VM and says what state it is in. Read-only.

inventory: which VM is whose. power: whether it runs. checker: both, with guards and k3s, for every node.
"""

from homelab.health_checker.checker import VMHealthChecker, why_not_member

__all__ = ["VMHealthChecker", "why_not_member"]
