"""Reads what kubectl and k3s print into types; anything not understood is said, never guessed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homelab import json_text
from homelab.errors import Misunderstood
from homelab.memory import read_stamp
from homelab.models import K3sNode

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
LOOK = "on that machine: sudo k3s kubectl get nodes; is it a k3s server that works?"
ETCD = "node-role.kubernetes.io/etcd"
UNHEALTHY = "Unhealthy"
"""Why EtcdIsVoter is False of a member that counts and does not answer; a learner or no member gives other reasons."""


def parse_nodes(text: str | bytes, where: str) -> tuple[K3sNode, ...]:
    """The items of `kubectl get nodes -o json`."""
    try:
        return tuple(_node(item) for item in json_text.read(text)["items"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misunderstood(
            f"{where}: the list of Nodes is not understood", f"{type(error).__name__}: {error}", LOOK
        ) from error


def _node(item: Mapping[str, Any]) -> K3sNode:
    metadata, status = item["metadata"], item["status"]
    labels, info = _fields(metadata.get("labels", {})), _fields(status["nodeInfo"])
    conditions = {_text(one, "type"): {**one, "status": _text(one, "status")} for one in status.get("conditions", [])}
    ready, voter = conditions.get("Ready", {}), conditions.get("EtcdIsVoter", {})
    is_voter, is_unhealthy = voter.get("status") == "True", voter.get("reason") == UNHEALTHY
    return K3sNode(
        name=_text(metadata, "name"),
        is_ready=ready.get("status") == "True" and "deletionTimestamp" not in metadata,
        system_uuid=_text(info, "systemUUID").lower(),
        version=_text(info, "kubeletVersion"),
        is_server=CONTROL_PLANE in labels,
        is_etcd=ETCD in labels,
        is_etcd_voter=is_voter or is_unhealthy,
        addresses=tuple(_text(address, "address") for address in status.get("addresses", [])),
        boot_id=_text({"bootID": "", **info}, "bootID"),
        is_cordoned=bool(_fields(item.get("spec", {})).get("unschedulable")),
        is_etcd_healthy=not is_unhealthy,
        voting_since=read_stamp(str(voter.get("lastTransitionTime"))) if is_voter else None,
        labels={key: _text(labels, key) for key in labels},
    )


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """A member of etcd, `<node>-<8 hex>`; a learner has no vote yet. `urls` is where it serves members and clients."""

    name: str
    is_learner: bool = False
    urls: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """The name of its Node."""
        return self.name.rpartition("-")[0]


def parse_members(text: str | bytes, where: str) -> tuple[EtcdMember, ...]:
    """The answer of /db/info; an SQLite cluster lists none."""
    try:
        return tuple(_member(_fields(member)) for member in json_text.read(text)["members"])
    except (ValueError, KeyError, TypeError) as error:
        raise Misunderstood(f"{where}: the list of etcd members is not understood", str(error), LOOK) from error


def _member(fields: Mapping[str, Any]) -> EtcdMember:
    urls = (*fields.get("peerURLs", ()), *fields.get("clientURLs", ()))
    return EtcdMember(_text(fields, "name"), fields.get("isLearner") is True, tuple(map(str, urls)))


def _fields(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"fields, not {type(value).__name__}")
    return value


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text but {type(value).__name__}")
    return value


def parse_version(text: str) -> tuple[int, ...]:
    """`v1.33.4+k3s1` as numbers that can be compared: (1, 33, 4, 1)."""
    version, _, build = text.strip().removeprefix("v").partition("+k3s")
    try:
        return (*(int(part) for part in version.partition("-")[0].split(".")), int(build or 0))
    except ValueError as error:
        raise Misunderstood("a k3s version is not understood", repr(text[:80]), LOOK) from error
