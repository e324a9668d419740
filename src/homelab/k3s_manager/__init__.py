"""Membership in the k3s cluster: proof, join, replace, no ghosts."""

from homelab.k3s_manager.guest import GuestFinder
from homelab.k3s_manager.manager import NOT_WANTED, K3sManager, Ways
from homelab.k3s_manager.marking import Marking
from homelab.k3s_manager.roles import foresee

__all__ = ["NOT_WANTED", "GuestFinder", "K3sManager", "Marking", "Ways", "foresee"]
