"""Reads what kubectl and k3s print into types; anything not understood is said, never guessed. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from homelab.errors import Misunderstood
from homelab.models import K3sNode

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
ETCD = "node-role.kubernetes.io/etcd"


def parse_nodes(text: str, where: str) -> tuple[K3sNode, ...]:
    """The items of `kubectl get nodes -o json`."""
    try:
        return tuple(_node(item) for item in json.loads(text)["items"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misunderstood(
            f"{where}: the list of Nodes is not understood", f"{type(error).__name__}: {error}"
        ) from error


def _node(item: Mapping[str, Any]) -> K3sNode:
    metadata, status = item["metadata"], item["status"]
    labels: Mapping[str, str] = metadata.get("labels", {})
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    return K3sNode(
        name=metadata["name"],
        is_ready=conditions.get("Ready") == "True" and "deletionTimestamp" not in metadata,
        system_uuid=status["nodeInfo"]["systemUUID"].lower(),
        version=status["nodeInfo"]["kubeletVersion"],
        is_server=CONTROL_PLANE in labels,
        is_etcd=ETCD in labels,
        is_etcd_voter=conditions.get("EtcdIsVoter") == "True",
        addresses=tuple(address["address"] for address in status.get("addresses", [])),
        boot_id=status["nodeInfo"].get("bootID", ""),
    )


def parse_members(text: str, where: str) -> tuple[str, ...]:
    """Names in the answer of /db/info; an SQLite cluster lists none."""
    try:
        return tuple(member["name"] for member in json.loads(text)["members"])
    except (ValueError, KeyError, TypeError) as error:
        raise Misunderstood(f"{where}: the list of etcd members is not understood", str(error)) from error


def parse_version(text: str) -> tuple[int, ...]:
    """`v1.33.4+k3s1` as numbers that can be compared: (1, 33, 4, 1)."""
    version, _, build = text.strip().removeprefix("v").partition("+k3s")
    try:
        return (*(int(part) for part in version.partition("-")[0].split(".")), int(build or 0))
    except ValueError as error:
        raise Misunderstood("a k3s version is not understood", repr(text)) from error
