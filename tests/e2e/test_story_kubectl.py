"""What the tool reports is what the kubectl on PATH sees from outside, through the Kubernetes API."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.conftest import Homelab, Run
from e2e.world import vm_on
from pvelab.lab import Lab

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
MEMBER = re.compile(r"(\S+) (?:joined cluster(?: again)? as (?:server|agent)|already in cluster, skipping)")
JOINED = re.compile(r"(\S+) joined cluster(?: again)? as (server|agent)")
OUTSIDE = "k3s-server"
PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Seen:
    """A Node as kubectl shows it."""

    is_ready: bool
    role: str
    uuid: str


def kubectl(lab: Lab, *words: str) -> dict[str, Any]:
    """What `kubectl WORDS -o json` prints with the lab's kubeconfig, and nothing of this machine's."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(lab.folder), "KUBECONFIG": lab.env["KUBECONFIG"]}
    command = ["kubectl", *words, "-o", "json"]
    said = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=PATIENCE_S).stdout
    document: dict[str, Any] = json.loads(said)
    return document


def nodes(lab: Lab) -> dict[str, Seen]:
    """All Nodes by name."""
    return {item["metadata"]["name"]: seen(item) for item in kubectl(lab, "get", "nodes")["items"]}


def seen(item: dict[str, Any]) -> Seen:
    conditions = {one["type"]: one["status"] for one in item["status"]["conditions"]}
    is_server = "node-role.kubernetes.io/control-plane" in item["metadata"]["labels"]
    is_ready = conditions["Ready"] == "True" and (not is_server or conditions["EtcdIsVoter"] == "True")
    return Seen(is_ready, "server" if is_server else "agent", item["status"]["nodeInfo"]["systemUUID"].lower())


def told(run: Run) -> str:
    """All that happened, one line each."""
    return "\n".join(outcome["what"] for outcome in json.loads(run.out)["outcomes"])


def assert_seen_as_told(lab: Lab, run: Run) -> dict[str, Seen]:
    """Whom the report calls a member is Ready, in the role that it tells, and is the very VM; nobody else is there."""
    found, report = nodes(lab), told(run)
    assert set(MEMBER.findall(report)) == set(found) - {OUTSIDE}
    assert all(one.is_ready for one in found.values())
    for name, role in JOINED.findall(report):
        assert found[name].role == role
    for name in set(found) - {OUTSIDE}:
        node = name.removeprefix("k3s-vm-")
        config = lab.shell(node, f"qm config {vm_on(lab, node)[0]}")
        assert f"smbios1: uuid={found[name].uuid}" in config
    return found


@pytest.mark.parametrize(
    ("seed", "joined"), [("fresh", 3), ("stopped", 1), ("stopped-server", 1)], ids=["fresh", "stuck", "stuck-server"]
)
def test_members_that_the_report_names_are_those_that_kubectl_shows(
    lab: Lab, homelab: Homelab, seed: str, joined: int
) -> None:
    lab.reset(seed)
    before = {} if seed == "fresh" else nodes(lab)

    run = homelab("--json")

    assert run.exit_code == 0, run.text
    assert len(JOINED.findall(told(run))) == joined
    found = assert_seen_as_told(lab, run)
    changed = {name for name in found if name != OUTSIDE and found[name] != before.get(name)}
    assert changed == {name for name, _ in JOINED.findall(told(run))}


def test_deleted_vm_leaves_nothing_that_kubectl_shows_and_comes_back(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    deleted = homelab.delete("pve1", "100", "--yes")

    assert deleted.exit_code == 0, deleted.text
    assert set(nodes(lab)) == {OUTSIDE, "k3s-vm-pve2", "k3s-vm-pve3"}
    secrets = [item["metadata"]["name"] for item in kubectl(lab, "get", "secrets", "-A")["items"]]
    assert "k3s-vm-pve2.node-password.k3s" in secrets
    assert "k3s-vm-pve1.node-password.k3s" not in secrets

    run = homelab("--json")

    assert run.exit_code == 0, run.text
    assert_seen_as_told(lab, run)


def test_vm_that_is_told_not_to_have_joined_is_no_node_for_kubectl(lab: Lab, homelab: Homelab) -> None:
    lab.fault("join-fails", how="k3s-crash", vm="k3s-vm-pve3")

    run = homelab("--json", "--node", "pve3")

    assert run.exit_code == 3, run.text
    assert "k3s-vm-pve3 is not joined" in told(run)
    assert set(nodes(lab)) == {OUTSIDE}
