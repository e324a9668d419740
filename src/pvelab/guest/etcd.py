"""The etcd of a cluster's servers: members, one learner at a time, quorum, and what is refused to protect it.

Source: etcd, server/etcdserver (mayAddMember, mayRemoveMember with strict-reconfig-check).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNHEALTHY = "etcdserver: unhealthy cluster"
TOO_MANY_LEARNERS = "etcdserver: too many learner members in cluster"
NOT_FOUND = "etcdserver: member not found"


class EtcdRefusal(Exception):
    """What etcd answers instead of changing its membership."""


@dataclass(slots=True, eq=False)
class Member:
    """A member; `is_up` while its process runs and can be reached."""

    id: int
    name: str
    address: str
    is_learner: bool = False
    is_up: bool = True

    def document(self) -> dict[str, Any]:
        """As `/db/info` shows it."""
        shown: dict[str, Any] = {
            "ID": self.id,
            "name": self.name,
            "peerURLs": [f"https://{self.address}:2380"],
            "clientURLs": [f"https://{self.address}:2379"],
        }
        return shown | ({"isLearner": True} if self.is_learner else {})


@dataclass(slots=True)
class Etcd:
    """The membership; it can be read and changed only while there is a quorum."""

    members: list[Member] = field(default_factory=list)
    removed: list[Callable[[Member], None]] = field(default_factory=list)
    """Told of each member that was removed."""

    @property
    def voters(self) -> list[Member]:
        """Members that count."""
        return [member for member in self.members if not member.is_learner]

    @property
    def has_quorum(self) -> bool:
        """More than half of the voters are up."""
        return sum(member.is_up for member in self.voters) > len(self.voters) // 2

    def find(self, name: str) -> Member | None:
        """The member of that name (node name, dash, suffix)."""
        return next((member for member in self.members if member.name == name), None)

    def of_node(self, node_name: str) -> list[Member]:
        """Members whose name says that they belong to this node."""
        return [member for member in self.members if member.name.rpartition("-")[0] == node_name]

    def found(self, name: str, address: str) -> Member:
        """Start a cluster of one."""
        self.members = [Member(_new_id(), name, address)]
        return self.members[0]

    def add_learner(self, name: str, address: str) -> Member:
        """Let a new server in as a learner. Raises EtcdRefusal."""
        if not all(member.is_up for member in self.voters):
            raise EtcdRefusal(UNHEALTHY)
        if any(member.is_learner for member in self.members):
            raise EtcdRefusal(TOO_MANY_LEARNERS)
        member = Member(_new_id(), name, address, is_learner=True)
        self.members.append(member)
        return member

    def add_ghost(self, name: str, address: str, *, is_learner: bool) -> Member:
        """A member whose process is gone, left behind by somebody."""
        member = Member(_new_id(), name, address, is_learner=is_learner, is_up=False)
        self.members.append(member)
        return member

    def promote(self, member: Member) -> bool:
        """Make a learner that runs a voter; False when it is not possible now."""
        if member not in self.members or not member.is_up or not self.has_quorum:
            return False
        member.is_learner = False
        return True

    def remove(self, member: Member) -> None:
        """Take a member out. Raises EtcdRefusal when the others would lose their quorum."""
        if not self.has_quorum:
            raise EtcdRefusal(UNHEALTHY)
        up = sum(voter.is_up for voter in self.voters)
        is_counted = member.is_up and not member.is_learner
        if is_counted and up - 1 < 1 + (len(self.voters) - 1) // 2:
            raise EtcdRefusal(UNHEALTHY)
        self.members.remove(member)
        for listener in list(self.removed):
            listener(member)


def _new_id() -> int:
    return secrets.randbits(63)
