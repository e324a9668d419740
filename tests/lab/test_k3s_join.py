"""Guests become members of the existing k3s cluster, or are refused as k3s refuses."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.guest_world import VERSION, Bench, output, play, shell
from pvelab.guest.k3s_release import k3s_binary
from pvelab.guest.machine import GuestMachine
from pvelab.state import Vm

TOKEN_FILE = "/var/lib/rancher/k3s/server/node-token"
REJECTED = "Node password rejected, duplicate hostname"


async def server_up(bench: Bench, datastore: str = "etcd") -> GuestMachine:
    existing = bench.existing(datastore)
    await bench.passes(15)
    return existing


async def install(bench: Bench, machine: GuestMachine, role: str, config: str = "", version: str = VERSION) -> None:
    """Push the binary, write config.yaml with the token, run the installer, start without waiting."""
    token = (await output(bench.guests.existing, f"cat {TOKEN_FILE}")).strip()
    machine.files.provide("/usr/local/bin/k3s", k3s_binary(version), mode=0o755)
    text = config or f"server: https://{bench.network.outside(1)}:6443\ntoken: {token}\n"
    await output(
        machine, "mkdir -p /etc/rancher/k3s && umask 077 && cat > /etc/rancher/k3s/config.yaml", stdin=text.encode()
    )
    env = f"INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC={role}"
    await output(machine, f"{env} pvelab-k3s-install")
    unit = "k3s" if role == "server" else "k3s-agent"
    await output(machine, f"systemctl restart --no-block {unit}")


async def three_servers(bench: Bench) -> tuple[GuestMachine, Vm, Vm]:
    """The server that was there, and two more."""
    existing = await server_up(bench)
    vms = bench.vm(100, "second"), bench.vm(101, "third")
    for vm in vms:
        await install(bench, await bench.booted(vm), "server")
        await bench.passes(30)
    return existing, *vms


async def node(bench: Bench, name: str) -> dict[str, Any]:
    text = await output(bench.guests.existing, f"k3s kubectl get node {name} -o json --ignore-not-found")
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


async def is_ready(bench: Bench, name: str, kind: str = "Ready") -> bool:
    path = f'{{.status.conditions[?(@.type=="{kind}")].status}}'
    line = f"k3s kubectl get node {name} -o jsonpath={shlex.quote(path)}"
    return await output(bench.guests.existing, line) == "True"


async def until(bench: Bench, condition: Callable[[], Any], seconds: float = 60) -> None:
    end = bench.clock.now() + seconds
    while not await condition():
        assert bench.clock.now() < end, "did not come"
        await bench.passes(1)


async def journal(machine: GuestMachine, unit: str) -> str:
    return await output(machine, f"journalctl -u {unit} --no-pager -o cat")


async def joined_agent(bench: Bench, vmid: int = 100, name: str = "agent") -> tuple[Vm, GuestMachine]:
    vm = bench.vm(vmid, name)
    machine = await bench.booted(vm)
    await install(bench, machine, "agent")
    await bench.passes(15)
    assert await is_ready(bench, name)
    return vm, machine


def test_existing_server_is_ready_and_shows_itself(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        assert (await output(existing, "sudo -n k3s kubectl get nodes", user="ubuntu")).splitlines()[1].split()[:3] == [
            "k3s-server",
            "Ready",
            "control-plane,etcd,master",
        ]
        assert (await output(existing, "k3s --version")).startswith(f"k3s version {VERSION} (")
        version = json.loads(await output(existing, "k3s kubectl get --raw /version"))
        assert version["gitVersion"] == VERSION
        refused = await shell(existing, "k3s kubectl get nodes", user="ubuntu")
        assert refused.exit_code == 1 and b"permission denied" in refused.err

    play(tmp_path, scenario)


def test_agent_is_ready_after_about_ten_seconds_as_the_very_machine_of_its_vm(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench)
        machine = await bench.booted(bench.vm(100, "agent"))
        await install(bench, machine, "agent")
        assert await output(machine, "systemctl is-enabled k3s-agent") == "enabled\n"
        shown = await output(machine, "systemctl show -p ActiveState,SubState k3s-agent")
        assert shown == "ActiveState=activating\nSubState=start\n"
        await bench.passes(12)
        found = await node(bench, "agent")
        assert found["status"]["nodeInfo"]["systemUUID"] == "00000000-0000-4000-8000-000000000100"
        assert found["status"]["nodeInfo"]["machineID"] == machine.machine_id
        assert await is_ready(bench, "agent")
        assert await output(machine, "systemctl is-active k3s-agent") == "active\n"
        assert (await shell(machine, "k3s kubectl get nodes")).err.startswith(b"The connection to the server localhost")

    play(tmp_path, scenario)


def test_server_is_ready_first_and_votes_later(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        machine = await bench.booted(bench.vm(100, "second"))
        await install(bench, machine, "server")
        await bench.passes(17)
        assert await is_ready(bench, "second")
        assert not await is_ready(bench, "second", "EtcdIsVoter")
        await bench.passes(8)
        assert await is_ready(bench, "second", "EtcdIsVoter")
        members = json.loads(await output(existing, "curl -sk https://127.0.0.1:6443/db/info"))["members"]
        assert [member["name"].rpartition("-")[0] for member in members] == ["k3s-server", "second"]
        assert (await output(machine, "k3s kubectl get nodes -o name")).split() == ["node/k3s-server", "node/second"]

    play(tmp_path, scenario)


def test_same_name_on_a_new_disk_is_refused_until_node_and_secret_are_gone(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        vm, _ = await joined_agent(bench)
        bench.guests.power_off(vm)
        bench.new_disk(vm)
        machine = await bench.booted(vm)
        await install(bench, machine, "agent")
        await bench.passes(20)
        assert await output(machine, "systemctl show -p ActiveState --value k3s-agent") == "activating\n"
        assert REJECTED in await journal(machine, "k3s-agent")
        await output(existing, "k3s kubectl delete node agent")
        await output(existing, "k3s kubectl -n kube-system delete secret agent.node-password.k3s --ignore-not-found")
        await bench.passes(20)
        assert await is_ready(bench, "agent")
        assert (await node(bench, "agent"))["status"]["nodeInfo"]["machineID"] == machine.machine_id

    play(tmp_path, scenario)


def test_stopped_vm_makes_its_node_not_ready_and_a_start_brings_it_back(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench)
        vm, _ = await joined_agent(bench)
        bench.guests.power_off(vm)
        await bench.passes(35)
        assert await is_ready(bench, "agent")
        await bench.passes(10)
        table = await output(bench.guests.existing, "k3s kubectl get nodes agent --no-headers")
        assert table.split()[:2] == ["agent", "NotReady"]
        bench.on(vm)
        await bench.passes(30)
        assert await is_ready(bench, "agent")

    play(tmp_path, scenario)


def test_paused_vm_is_not_ready_until_it_is_resumed(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench)
        vm, _ = await joined_agent(bench)
        bench.guests.pause(vm)
        await bench.passes(45)
        assert not await is_ready(bench, "agent")
        bench.guests.resume(vm)
        await bench.passes(10)
        assert await is_ready(bench, "agent")

    play(tmp_path, scenario)


def test_three_servers_survive_one_and_stop_answering_without_two(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing, second, third = await three_servers(bench)
        assert len(bench.cluster.etcd.voters) == 3
        bench.guests.power_off(second)
        await bench.passes(45)
        assert not await is_ready(bench, "second")
        bench.guests.power_off(third)
        result = await shell(existing, "k3s kubectl --request-timeout=5s get nodes")
        assert result.exit_code == 1 and b"ServiceUnavailable" in result.err
        info = await output(existing, "curl -sk https://127.0.0.1:6443/db/info")
        assert "failed to get etcd MemberList" in info
        for vm in (second, third):
            bench.on(vm)
        await bench.passes(40)
        assert await is_ready(bench, "second")
        assert await is_ready(bench, "third")

    play(tmp_path, scenario)


def test_deleting_a_dead_servers_node_takes_its_member_along(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing, _, third = await three_servers(bench)
        bench.guests.power_off(third)
        await output(existing, "k3s kubectl delete node third --timeout=60s")
        assert [member.name.rpartition("-")[0] for member in bench.cluster.etcd.members] == ["k3s-server", "second"]
        bench.new_disk(third)
        await install(bench, await bench.booted(third), "server")
        await bench.passes(30)
        assert await is_ready(bench, "third", "EtcdIsVoter")

    play(tmp_path, scenario)


def test_recreated_server_whose_node_was_left_is_a_duplicate_and_crashes_in_a_loop(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        _, _, third = await three_servers(bench)
        bench.guests.power_off(third)
        bench.new_disk(third)
        machine = await bench.booted(third)
        await install(bench, machine, "server")
        await bench.passes(30)
        assert "duplicate node name found" in await journal(machine, "k3s")
        assert int(await output(machine, "systemctl show -p NRestarts --value k3s")) >= 2

    play(tmp_path, scenario)


def test_sqlite_cluster_takes_agents_but_no_servers(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench, "sqlite")
        await joined_agent(bench)
        machine = await bench.booted(bench.vm(101, "second"))
        await install(bench, machine, "server")
        await bench.passes(10)
        assert "/v1-k3s/server-bootstrap: 400 Bad Request" in await journal(machine, "k3s")

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("server: https://{address}:6443\ntoken: wrong\n", "v1-k3s/config: 401 Unauthorized"),
        ("server: https://{nobody}:6443\ntoken: wrong\n", "failed to get CA certs"),
        ("token: wrong\n", "Error: --server is required"),
        ("server: https://{address}:6443\ntoken-file: /nope\n", "open /nope: no such file or directory"),
        (
            "server: https://{address}:6443\ntoken: x\nnode-label: [node-role.kubernetes.io/worker=true]\n",
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [node-role.kubernetes.io/worker]",
        ),
        ("server: [unclosed\n", "failed to load config file /etc/rancher/k3s/config.yaml: yaml:"),
    ],
)
def test_agent_with_wrong_settings_says_why_in_its_journal(tmp_path: Path, config: str, text: str) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench)
        machine = await bench.booted(bench.vm(100, "agent"))
        filled = config.format(address=bench.network.outside(1), nobody=bench.network.outside(9))
        await install(bench, machine, "agent", config=filled)
        await bench.passes(10)
        assert text in await journal(machine, "k3s-agent")
        assert await output(machine, "systemctl show -p ActiveState --value k3s-agent") == "activating\n"

    play(tmp_path, scenario)


def test_agent_waits_for_a_server_that_is_down_and_joins_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        machine = await bench.booted(bench.vm(100, "agent"))
        token = (await output(existing, f"cat {TOKEN_FILE}")).strip()
        bench.guests.existing_off()
        machine.files.provide("/usr/local/bin/k3s", k3s_binary(VERSION), mode=0o755)
        config = f"server: https://{bench.network.outside(1)}:6443\ntoken: {token}\n"
        machine.files.provide("/etc/rancher/k3s/config.yaml", config.encode(), mode=0o600)
        env = "INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC=agent"
        await output(machine, f"{env} pvelab-k3s-install; systemctl restart --no-block k3s-agent")
        await bench.passes(20)
        assert "connection refused" in await journal(machine, "k3s-agent")
        bench.guests.existing_on()
        await bench.passes(30)
        assert await is_ready(bench, "agent")

    play(tmp_path, scenario)


def test_running_agent_whose_node_was_deleted_comes_back(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        _, machine = await joined_agent(bench)
        await output(existing, "k3s kubectl delete node agent")
        assert not await node(bench, "agent")
        await bench.passes(60)
        assert await is_ready(bench, "agent")
        assert int(await output(machine, "systemctl show -p NRestarts --value k3s-agent")) >= 1

    play(tmp_path, scenario)


def test_crashing_k3s_restarts_again_and_again(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench)
        bench.guests.crashing.add("agent")
        machine = await bench.booted(bench.vm(100, "agent"))
        await install(bench, machine, "agent")
        await bench.passes(30)
        assert int(await output(machine, "systemctl show -p NRestarts --value k3s-agent")) >= 3
        assert not await node(bench, "agent")

    play(tmp_path, scenario)


def test_bootstrap_token_joins_an_agent_and_can_be_deleted_afterwards(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        token = (await output(existing, "k3s token create --ttl 15m --description 'join agent'")).strip()
        machine = await bench.booted(bench.vm(100, "agent"))
        address = bench.network.outside(1)
        await install(bench, machine, "agent", config=f"server: https://{address}:6443\ntoken: {token}\n")
        await bench.passes(15)
        assert await is_ready(bench, "agent")
        [listed] = json.loads(await output(existing, "k3s token list --output json"))
        assert listed["description"] == "join agent"
        await output(existing, f"k3s token delete {listed['token'].partition('.')[0]}")
        assert json.loads(await output(existing, "k3s token list --output json")) == []
        await output(machine, "systemctl restart k3s-agent")
        await bench.passes(10)
        assert await is_ready(bench, "agent")

    play(tmp_path, scenario)


def test_server_started_without_a_server_to_join_founds_a_cluster_of_its_own(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        machine = await bench.booted(bench.vm(100, "second"))
        await install(bench, machine, "server", config="cluster-init: true\n")
        await bench.passes(15)
        assert (await output(machine, "k3s kubectl get nodes -o name")).split() == ["node/second"]
        there = await output(existing, "curl -sk https://127.0.0.1:6443/cacerts")
        here = await output(machine, "curl -sk https://127.0.0.1:6443/cacerts")
        assert there != here

    play(tmp_path, scenario)


def test_removed_member_ends_and_joins_anew_only_with_an_empty_database(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        machine = await bench.booted(bench.vm(100, "second"))
        await install(bench, machine, "server")
        await bench.passes(40)
        await output(existing, "k3s kubectl annotate node second etcd.k3s.cattle.io/remove=true")
        await bench.passes(15)
        assert "the member has been permanently removed from the cluster" in await journal(machine, "k3s")
        assert int(await output(machine, "systemctl show -p NRestarts --value k3s")) >= 1
        await output(machine, "systemctl stop k3s && rm -rf /var/lib/rancher/k3s/server/db")
        await output(existing, "k3s kubectl delete node second")
        await output(machine, "systemctl restart --no-block k3s")
        await bench.passes(40)
        assert await is_ready(bench, "second", "EtcdIsVoter")

    play(tmp_path, scenario)


def test_tombstone_makes_k3s_set_its_old_database_aside_and_join_anew(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        machine = await bench.booted(bench.vm(100, "second"))
        await install(bench, machine, "server")
        await bench.passes(40)
        await output(existing, "k3s kubectl delete node second")
        await output(machine, "systemctl stop k3s && touch /var/lib/rancher/k3s/server/db/etcd/tombstone")
        await output(machine, "systemctl restart --no-block k3s")
        await bench.passes(40)
        assert await is_ready(bench, "second", "EtcdIsVoter")
        names = await output(machine, "ls /var/lib/rancher/k3s/server/db")
        assert any(name.startswith("etcd-old-") for name in names.split())

    play(tmp_path, scenario)


def test_agent_restarts_through_another_server_when_the_named_one_is_down(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await server_up(bench)
        for vmid, name in ((100, "second"), (101, "third")):
            await install(bench, await bench.booted(bench.vm(vmid, name)), "server")
            await bench.passes(40)
        _, machine = await joined_agent(bench, 102)
        bench.guests.existing_off()
        await output(machine, "systemctl restart k3s-agent")
        await bench.passes(10)
        node = bench.cluster_of(machine).store.get("nodes", "agent")
        assert node["status"]["conditions"][-1]["status"] == "True"

    play(tmp_path, scenario)


def test_server_whose_address_changed_does_not_start(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        _, _, third = await three_servers(bench)
        bench.guests.power_off(third)
        third.cloudinit_seed["network"] = third.cloudinit_seed["network"].replace(
            "bc:24:11:00:00:65", "bc:24:11:00:00:99"
        )
        third.config["net0"] = "virtio=BC:24:11:00:00:99,bridge=vmbr0"
        machine = await bench.booted(third)
        assert "this server is a not a member of the etcd cluster. Found" in await journal(machine, "k3s")

    play(tmp_path, scenario)
