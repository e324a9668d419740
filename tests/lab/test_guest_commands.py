"""The commands of a guest answer as Ubuntu's do."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path

import pytest

from lab.guest_world import VERSION, Bench, output, play, shell
from lab.test_k3s_join import joined_agent, server_up
from pvelab.guest.jsonpath import BadTemplate, render
from pvelab.guest.kube_ages import age
from pvelab.guest.machine import GuestMachine


async def refused(machine: GuestMachine, line: str, user: str = "root") -> tuple[int, str]:
    result = await shell(machine, line, user)
    return result.exit_code, result.err.decode()


def test_systemctl_tells_unknown_inactive_and_active_apart(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.booted(bench.vm())
        assert await output(machine, "systemctl is-active ssh; systemctl is-enabled ssh") == "active\nenabled\n"
        assert (await shell(machine, "systemctl is-active nope")).exit_code == 4
        await output(machine, "systemctl stop cron")
        assert (await shell(machine, "systemctl is-active cron")).exit_code == 3
        assert (await shell(machine, "systemctl is-enabled nope")).out == b"not-found\n"
        assert await refused(machine, "systemctl start nope") == (
            5,
            "Failed to start nope.service: Unit nope.service not found.\n",
        )
        assert await refused(machine, "systemctl enable nope") == (
            1,
            "Failed to enable unit: Unit file nope.service does not exist.\n",
        )
        assert (await refused(machine, "systemctl stop ssh", user="ubuntu"))[0] == 1
        shown = await output(machine, "systemctl show -p UnitFileState,ActiveState,LoadState nope")
        assert shown == "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n"

    play(tmp_path, scenario)


def test_disabled_unit_does_not_start_at_the_next_boot(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        machine = await bench.booted(vm)
        said = await shell(machine, "systemctl disable --now cron")
        assert said.err == b'Removed "/etc/systemd/system/multi-user.target.wants/cron.service".\n'
        bench.guests.power_off(vm)
        machine = await bench.booted(vm)
        assert await output(machine, "systemctl show -p ActiveState --value cron") == "inactive\n"

    play(tmp_path, scenario)


def test_unit_whose_program_is_missing_fails_in_a_loop(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.booted(bench.vm())
        unit = b"[Service]\nExecStart=/opt/nothing\nRestart=on-failure\nRestartSec=5s\n"
        machine.files.provide("/etc/systemd/system/own.service", unit)
        assert (await shell(machine, "systemctl start own")).exit_code == 1
        await bench.passes(12)
        shown = await output(machine, "systemctl show -p Result,NRestarts,ExecMainStatus,SubState own")
        assert shown == "Result=exit-code\nNRestarts=2\nExecMainStatus=203\nSubState=auto-restart\n"
        assert "Failed to locate executable /opt/nothing" in await output(machine, "journalctl -u own -o cat -n 20")

    play(tmp_path, scenario)


def test_journal_is_shown_by_unit_lines_boot_and_time(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        await bench.booted(vm)
        bench.guests.power_off(vm)
        machine = await bench.booted(vm)
        line = "journalctl --no-pager -o cat -u cron"
        started = "Started cron.service - Regular background program processing daemon."
        assert (await output(machine, line)).splitlines().count(started) == 2
        assert (await output(machine, f"{line} -b -n 1")) == f"{started}\n"
        assert await output(machine, f"{line} --since -5s") == "-- No entries --\n"
        assert (await output(machine, f"{line} --since '10 minutes ago' --grep Started -r")).count(started) == 2
        assert await refused(machine, f"{line} --since tomorrow") == (1, "Failed to parse timestamp: tomorrow\n")
        assert await refused(machine, f"{line} -n many") == (1, "Failed to parse lines 'many'\n")
        assert await refused(machine, "journalctl --frobnicate") == (
            1,
            "journalctl: unrecognized option '--frobnicate'\n",
        )

    play(tmp_path, scenario)


def test_ip_hostname_and_clock_are_those_of_the_guest(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.booted(bench.vm(name="k3s-vm-pve1"))
        assert f"inet {machine.address}/24" in await output(machine, "ip -4 -o addr show")
        assert (await output(machine, "ip route")).startswith("default via ")
        assert await output(machine, "timedatectl show -p NTPSynchronized --value") == "yes\n"
        assert await output(machine, "hostname; nproc; uname -m") == "k3s-vm-pve1\n2\nx86_64\n"
        assert "PRETTY_NAME" in await output(machine, "cat /etc/os-release")
        uuid = await output(machine, "cat /sys/class/dmi/id/product_uuid")
        assert uuid == "00000000-0000-4000-8000-000000000100\n"
        assert await output(machine, "cat /proc/sys/kernel/random/boot_id") == f"{machine.boot_id}\n"

    play(tmp_path, scenario)


def test_server_answers_from_outside_with_the_clusters_certificate(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        await bench.guests.settled()
        url = f"https://{existing.address}:6443"
        curl = await asyncio.to_thread(
            subprocess.run,
            ["curl", "-sk", "-w", "%{http_code} ", f"{url}/ping", f"{url}/version", f"{url}/db/info"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        assert curl.stdout.startswith("pong200 ")
        assert curl.stdout.count('"code": 401') == 2
        trust = ssl.create_default_context(cadata=bench.cluster.ca_pem.decode())
        _, writer = await asyncio.open_connection(existing.address, 6443, ssl=trust)
        writer.close()
        await writer.wait_closed()

    play(tmp_path, scenario)


def test_curl_in_a_guest_reaches_servers_and_gives_curls_exit_codes(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        machine = await bench.booted(bench.vm())
        await bench.guests.settled()
        url = f"https://{existing.address}:6443"
        assert await output(machine, f"curl -sk {url}/ping") == "pong"
        assert await output(machine, f"curl -sk -o /dev/null -w '%{{http_code}}' {url}/version") == "401"
        assert (await refused(machine, f"curl -sS {url}/ping"))[0] == 60
        assert (await refused(machine, f"curl -sSk https://{bench.network.outside(9)}:6443/ping"))[0] == 7
        assert (await refused(machine, "curl -sS https://get.k3s.io"))[0] == 6
        assert (await refused(machine, f"curl -sfk {url}/version"))[0] == 22
        password = (await output(existing, "cat /var/lib/rancher/k3s/server/token")).strip().rpartition(":")[2]
        members = await output(machine, f"curl -sk -K - {url}/db/info", stdin=f"user = server:{password}\n".encode())
        assert [member["name"][:10] for member in json.loads(members)["members"]] == ["k3s-server"]

    play(tmp_path, scenario)


def test_kubectl_labels_annotates_taints_and_cordons(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        await joined_agent(bench)
        kubectl = "k3s kubectl"
        assert await output(existing, f"{kubectl} label node agent homelab/role=worker") == "node/agent labeled\n"
        assert await output(existing, f"{kubectl} label node agent homelab/role=worker") == "node/agent not labeled\n"
        assert await refused(existing, f"{kubectl} label node agent homelab/role=other") == (
            1,
            "error: 'homelab/role' already has a value (worker), and --overwrite is false\n",
        )
        assert await output(existing, f"{kubectl} get nodes -l homelab/role=worker -o name") == "node/agent\n"
        assert await output(existing, f"{kubectl} annotate node agent a.b/c=d --overwrite") == "node/agent annotated\n"
        assert await output(existing, f"{kubectl} taint node agent key=v:NoSchedule") == "node/agent tainted\n"
        assert await output(existing, f"{kubectl} taint node agent key:NoSchedule-") == "node/agent untainted\n"
        assert await output(existing, f"{kubectl} cordon agent") == "node/agent cordoned\n"
        table = await output(existing, f"{kubectl} get node agent --no-headers")
        assert table.split()[1] == "Ready,SchedulingDisabled"
        assert await output(existing, f"{kubectl} uncordon agent") == "node/agent uncordoned\n"
        drained = await output(
            existing, f"{kubectl} drain agent --ignore-daemonsets --delete-emptydir-data --timeout=300s"
        )
        assert drained == "node/agent cordoned\nnode/agent drained\n"

    play(tmp_path, scenario)


def test_kubectl_drain_names_the_pods_that_stand_in_its_way(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        await joined_agent(bench)
        for name, owner in (("daemon", "DaemonSet"), ("web", "ReplicaSet"), ("alone", "")):
            owners = {"ownerReferences": [{"kind": owner}]} if owner else {}
            pod = {"metadata": {"name": name, "namespace": "default"} | owners, "spec": {"nodeName": "agent"}}
            bench.cluster.store.create("pods", {"apiVersion": "v1", "kind": "Pod"} | pod)
        code, said = await refused(existing, "k3s kubectl drain agent")
        assert code == 1
        assert "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/daemon" in said
        assert "cannot delete Pods that declare no controller (use --force to override): default/alone" in said
        said = await output(existing, "k3s kubectl drain agent --ignore-daemonsets --force")
        assert "evicting pod default/web\npod/alone evicted\npod/web evicted\n" in said
        assert await output(existing, "k3s kubectl get pods -o name") == "pod/daemon\n"
        line = "k3s kubectl get pods -o name --field-selector spec.nodeName"
        assert await output(existing, f"{line}=agent") == "pod/daemon\n"
        assert await output(existing, f"{line}!=agent") == ""

    play(tmp_path, scenario)


def test_kubectl_waits_for_a_condition_and_says_when_it_did_not_come(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        await joined_agent(bench)
        line = "k3s kubectl wait --for=condition=Ready node/agent --timeout=60s"
        assert await output(existing, line) == "node/agent condition met\n"
        code, said = await refused(existing, "k3s kubectl wait --for=delete node/agent --timeout=3s")
        assert (code, said) == (1, "error: timed out waiting for the condition on nodes/agent\n")

    play(tmp_path, scenario)


def test_kubectl_refuses_what_is_not_there_or_not_known(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        assert await refused(existing, "k3s kubectl get node nobody") == (
            1,
            'Error from server (NotFound): nodes "nobody" not found\n',
        )
        assert await output(existing, "k3s kubectl get node nobody --ignore-not-found -o json") == ""
        assert await refused(existing, "k3s kubectl delete node nobody") == (
            1,
            'Error from server (NotFound): nodes "nobody" not found\n',
        )
        assert (await refused(existing, "k3s kubectl frobnicate"))[1] == (
            'error: unknown command "frobnicate" for "kubectl"\n'
        )
        assert (await refused(existing, "k3s kubectl get widgets"))[1] == (
            'error: the server doesn\'t have a resource type "widgets"\n'
        )
        assert (await refused(existing, "k3s frobnicate"))[0] == 3
        listed = json.loads(await output(existing, "k3s kubectl get nodes -o json"))
        assert (listed["kind"], len(listed["items"])) == ("List", 1)
        secret = await output(existing, "k3s kubectl -n kube-system get secret k3s-server.node-password.k3s -o name")
        assert secret == "secret/k3s-server.node-password.k3s\n"
        wide = (await output(existing, "k3s kubectl get nodes -o wide")).splitlines()
        assert wide[0].split()[-1] == "CONTAINER-RUNTIME" and existing.address in wide[1] and VERSION in wide[1]

    play(tmp_path, scenario)


def test_k3s_saves_and_lists_etcd_snapshots(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        existing = await server_up(bench)
        saved = await shell(existing, "k3s etcd-snapshot save")
        assert saved.exit_code == 0 and b"level=info" in saved.err
        assert "on-demand-k3s-server-" in await output(existing, "k3s etcd-snapshot ls")

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{.items[*].name}", "a b"),
        ("{.items[1].name}", "b"),
        ('{.items[?(@.kind=="x")].name}', "a"),
        ('{range .items[*]}{.name}{"\\t"}{.kind}{"\\n"}{end}', "a\tx\nb\ty\n"),
        ("{.labels.a\\.b/c}", "d"),
        ("{.missing}", ""),
        ("{.items[0]}", '{"name":"a","kind":"x"}'),
    ],
)
def test_jsonpath_templates_are_filled_in_as_kubectl_does(template: str, shown: str) -> None:
    document = {"items": [{"name": "a", "kind": "x"}, {"name": "b", "kind": "y"}], "labels": {"a.b/c": "d"}}
    assert render(template, document) == shown


def test_unreadable_jsonpath_is_refused() -> None:
    with pytest.raises(BadTemplate):
        render("{.items[}", {})


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (5, "5s"),
        (119, "119s"),
        (125, "2m5s"),
        (700, "11m"),
        (11_000, "3h3m"),
        (100_000, "27h"),
        (260_000, "3d"),
        (900_000, "10d"),
    ],
)
def test_ages_are_short_as_kubectl_writes_them(seconds: int, shown: str) -> None:
    assert age("2025-01-01T00:00:00Z", 1_735_689_600 + seconds) == shown
