"""Which token a member gets, and that it ends with the join."""

from __future__ import annotations

import re

import pytest
import yaml

from e2e.conftest import Homelab
from e2e.world import (
    NAME,
    ONLY_PVE3,
    cluster,
    ready_members,
)
from homelab.k3s_manager import tokens
from pvelab.lab import Lab
from pvelab.state import World

# --- tokens ------------------------------------------------------------------------------------------------------


def own_agent_token(world: World) -> str:
    """The cluster was made with --agent-token; returns the full token of its agents."""
    tokens = cluster(world).tokens
    tokens.agent_password = "for-agents-only"
    return tokens.agent_token


@pytest.mark.parametrize("role", ["agent", "server"])
def test_only_a_server_is_given_the_token_of_servers(lab: Lab, homelab: Homelab, via: str, role: str) -> None:
    folder = "/var/lib/rancher/k3s/server"
    for_agents = lab.look(own_agent_token)
    lab.shell("k3s-server", f"rm {folder}/agent-token")
    lab.shell("k3s-server", f"echo {for_agents} > {folder}/agent-token")
    for_servers = lab.shell("k3s-server", f"cat {folder}/token").strip()

    run = homelab("-v", "--via", via, K3S_ROLE_3=role, **ONLY_PVE3)

    assert run.exit_code in (0, 3), run.text
    assert ready_members(lab) == {"k3s-server", NAME}
    config = lab.shell(NAME, "cat /etc/rancher/k3s/config.yaml")
    assert (for_servers in config, for_agents in config) == (role == "server", False)
    assert "for-agents-only" not in run.text


def test_agent_gets_a_token_of_its_own_that_ends_with_the_join(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("--via", via, K3S_ROLE_3="agent", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    token = yaml.safe_load(lab.shell(NAME, "cat /etc/rancher/k3s/config.yaml"))["token"]
    assert re.fullmatch(r"K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}", token)
    assert lab.look(lambda world: cluster(world).tokens.bootstrap) == {}
    lab.shell(NAME, "systemctl restart k3s-agent")
    assert ready_members(lab) == {"k3s-server", NAME}


def test_token_of_a_join_that_failed_is_taken_back_too(lab: Lab, homelab: Homelab) -> None:
    lab.fault("join-fails", how="k3s-crash", vm=NAME)

    run = homelab(K3S_ROLE_3="agent", **ONLY_PVE3)

    assert run.exit_code == 3, run.text
    assert lab.look(lambda world: cluster(world).tokens.bootstrap) == {}


def test_older_release_that_wants_a_token_at_every_start_gets_the_lasting_one_of_agents(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "BOOTSTRAP_FROM", (1, 34))
    for_agents = lab.look(own_agent_token)
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/agent-token")
    lab.shell("k3s-server", f"echo {for_agents} > /var/lib/rancher/k3s/server/agent-token")

    run = homelab(K3S_ROLE_3="agent", **ONLY_PVE3)

    assert run.exit_code == 0, run.text
    assert for_agents in lab.shell(NAME, "cat /etc/rancher/k3s/config.yaml")
