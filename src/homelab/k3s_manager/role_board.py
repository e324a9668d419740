"""Who joins as what in this run: decided together, once, and changed where a server fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from homelab.k3s_manager import roles
from homelab.models import Action, K3sNode, NodePlan, Plan
from homelab.settings import Role


@dataclass(slots=True)
class RoleBoard:
    """The roles by Proxmox node. Thread-safe; `progress` says a sentence."""

    progress: Callable[[str], None]
    _roles: dict[str, Role] = field(default_factory=dict)
    _plan: tuple[NodePlan, ...] = ()
    _had: dict[str, str] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def prepare(self, plan: Plan) -> None:
        """Remember who is to join or has joined, so that roles can be decided together."""
        self._plan = tuple(node for node in plan.nodes if node.ends_running)

    @property
    def has_started(self) -> bool:
        """Were VMs started in this run?"""
        return any(plan.action is Action.START for plan in self._plan)

    @property
    def has_new_server(self) -> bool:
        """Has a server begun to join?"""
        return Role.SERVER in {self._roles.get(name) for name in self._begun}

    def note_role(self, uuid: str, tag: str) -> None:
        """The role tag of a machine that is replaced in this run."""
        self._had[uuid] = tag

    def leave_out(self, node: NodePlan) -> None:
        """The node has no running VM, so it counts for no role (once roles are decided this changes nothing)."""
        with self._lock:
            self._plan = tuple(plan for plan in self._plan if plan.name != node.name)

    def begin(self, plan: NodePlan, nodes: Callable[[], Sequence[K3sNode]]) -> Role:
        """The node's role, now that it begins to join; `nodes` are looked at when the first one begins."""
        with self._lock:
            if not self._roles:
                self._roles = roles.assign(self._plan, nodes(), self._had)
            self._begun.add(plan.name)
            return self._roles[plan.name]

    def give_place_away(self, failed: NodePlan) -> None:
        """A node that was to be an agent and has not begun takes the place of a server that failed."""
        with self._lock:
            self._begun.add(failed.name)
            if not self._roles:
                self.leave_out(failed)
                return
            if self._roles.get(failed.name) is Role.SERVER:
                self._give(Role.SERVER, f"in place of {failed.name}")

    def keep(self, plan: NodePlan, role: Role) -> None:
        """The node turns out to have this role already: one that has not begun gets that which was meant for it."""
        with self._lock:
            meant, self._roles[plan.name] = self._roles[plan.name], role
            if meant is not role:
                self._give(meant, f"since {plan.config.vm_name} is {roles.named(role)} already")

    def _give(self, role: Role, why: str) -> None:
        """To the first that can have it; what was to be a server last stops being one first."""
        plans = self._plan if role is Role.SERVER else tuple(reversed(self._plan))
        if heir := next((plan for plan in plans if self._is_free(plan) and self._roles[plan.name] is not role), None):
            self._roles[heir.name] = role
            self.progress(f"{heir.config.vm_name}: becomes {roles.named(role)} {why}")

    def _is_free(self, plan: NodePlan) -> bool:
        return plan.name not in self._begun and plan.config.role is Role.AUTO and not plan.facts.vm
