"""What k3s runs itself moves with its nodes, and a drain moves it away."""

from __future__ import annotations

from pathlib import Path

from lab.guest_world import Bench, output, play, shell
from lab.test_k3s_join import joined_agent, server_up
from pvelab.guest.machine import GuestMachine

PODS = "k3s kubectl get pods -n kube-system --no-headers"


async def pods(machine: GuestMachine, node: str) -> list[str]:
    """Status and name, without what is random in it, of the pods of a node."""
    lines = (await output(machine, f"{PODS} --field-selector spec.nodeName={node}")).splitlines()
    return sorted(f"{line.split()[2]} {line.split()[0].rsplit('-', 2)[0]}" for line in lines)


def test_what_ran_on_a_node_out_of_reach_runs_elsewhere_after_five_minutes(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        _, agent = await joined_agent(bench)
        await bench.passes(5)
        await output(existing, "k3s kubectl drain k3s-server --ignore-daemonsets --delete-emptydir-data")
        await output(existing, "k3s kubectl uncordon k3s-server")
        await bench.passes(5)
        moved = ["Running coredns", "Running local-path-provisioner", "Running metrics-server"]
        assert await pods(existing, "agent") == [*moved, "Running svclb-traefik", "Running traefik"]
        await output(agent, "systemctl stop k3s-agent")
        await bench.passes(60)
        assert "0/1" in await output(existing, f"{PODS} -l k8s-app=kube-dns")
        assert await pods(existing, "k3s-server") == ["Running svclb-traefik"]
        await bench.passes(300)
        assert await pods(existing, "k3s-server") == [*moved, "Running svclb-traefik", "Running traefik"]
        assert "Terminating coredns" in await pods(existing, "agent")
        await output(agent, "systemctl start k3s-agent")
        await bench.passes(20)
        assert await pods(existing, "agent") == ["Running svclb-traefik"]

    play(tmp_path, scenario)


def test_pods_go_some_time_after_their_node(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        _, agent = await joined_agent(bench)
        await bench.passes(5)
        await output(agent, "systemctl disable --now k3s-agent")
        await output(existing, "k3s kubectl delete node agent")
        assert await pods(existing, "agent") == ["Running svclb-traefik"]
        await bench.passes(45)
        assert await pods(existing, "agent") == []
        assert (await output(existing, "k3s kubectl get ds -A --no-headers")).split()[2:5] == ["1", "1", "1"]

    play(tmp_path, scenario)


def test_a_drain_asks_a_disruption_budget_again_until_it_may_or_time_is_up(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        await bench.passes(5)
        store = bench.cluster.store
        metadata = {"name": "dns", "namespace": "kube-system"}
        spec = {"minAvailable": "100%", "selector": {"matchLabels": {"k8s-app": "kube-dns"}}}
        document = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
        store.create("poddisruptionbudgets", document)
        line = "k3s kubectl drain k3s-server --ignore-daemonsets --delete-emptydir-data --timeout"
        refused = await shell(existing, f"{line}=7s")
        assert refused.exit_code == 1
        assert (
            b"(will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.\n" in refused.err
        )
        assert b"global timeout reached: 7s, continuing command...\n" in refused.err
        assert refused.out.count(b"evicting pod kube-system/coredns-") == 2
        assert (await output(existing, "k3s kubectl get pdb -A --no-headers")).split()[1:5] == [
            "dns",
            "100%",
            "N/A",
            "0",
        ]
        bench.clock.after(12, lambda: _forget(bench))
        done = await output(existing, f"{line}=60s")
        assert done.count("evicting pod kube-system/coredns-") == 4
        assert done.endswith("evicted\nnode/k3s-server drained\n")

    play(tmp_path, scenario)


def test_a_pod_that_does_not_end_holds_a_drain_up_until_its_time_is_over(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        _, agent = await joined_agent(bench)
        await bench.passes(5)
        await output(existing, "k3s kubectl drain k3s-server --ignore-daemonsets --delete-emptydir-data")
        await output(agent, "systemctl stop k3s-agent")
        refused = await shell(
            existing, "k3s kubectl drain agent --ignore-daemonsets --delete-emptydir-data --timeout=10s"
        )
        assert refused.exit_code == 1
        assert b'error when waiting for pod "coredns-' in refused.err
        assert b'in namespace "kube-system" to terminate: global timeout reached: 10s' in refused.err

    play(tmp_path, scenario)


def _forget(bench: Bench) -> None:
    bench.cluster.store.delete("poddisruptionbudgets", "dns", "kube-system")
