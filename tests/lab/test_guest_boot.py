"""A guest comes up from its disk and its cloud-init drive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest

from lab.guest_world import PERSON, Bench, output, play, shell
from pvelab.machine import AgentError, AgentSilent


async def log_in(address: str, user: str = "ubuntu") -> asyncssh.SSHClientConnection:
    key = asyncssh.import_private_key(PERSON.private_openssh)
    return await asyncssh.connect(address, 2222, username=user, client_keys=[key], known_hosts=None, config=None)


def test_fresh_guest_answers_ssh_after_20_seconds_and_is_done_after_35(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm(name="k3s-vm-pve1")
        machine = bench.on(vm)
        await bench.passes(19)
        assert not machine.has_sshd
        await bench.passes(2)
        assert machine.has_sshd
        await bench.guests.settled()
        async with await log_in(machine.address) as connection:
            assert (await connection.run("hostname; whoami")).stdout == "k3s-vm-pve1\nubuntu\n"
            assert (await connection.run("cloud-init status")).stdout == "status: running\n"
            await bench.passes(15)
            assert (await connection.run("cloud-init status")).stdout == "status: done\n"
            assert (await connection.run("sudo -n cat /etc/machine-id")).stdout == f"{machine.machine_id}\n"

    play(tmp_path, scenario)


def test_waiting_for_cloud_init_lets_time_pass_and_ends_with_its_status(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        machine = bench.on(bench.vm())
        await bench.passes(21)
        result = await shell(machine, "cloud-init status --wait", user="ubuntu")
        assert result.exit_code == 0
        assert result.out.decode().endswith("\nstatus: done\n")

    play(tmp_path, scenario)


def test_agent_answers_only_once_vendor_data_installed_it(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        bench.on(vm)
        await bench.passes(25)
        with pytest.raises(AgentSilent):
            bench.guests.agent(vm, "ping", {})
        await bench.passes(12)
        assert bench.guests.agent(vm, "ping", {}) == {}
        interfaces = bench.guests.agent(vm, "network-get-interfaces", {})
        assert [one["name"] for one in interfaces] == ["lo", "eth0"]
        assert interfaces[1]["hardware-address"] == "bc:24:11:00:00:64"
        assert interfaces[1]["ip-addresses"][0]["ip-address"] == bench.network.guest(1)

    play(tmp_path, scenario)


def test_guest_without_vendor_data_never_has_an_agent(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm(vendor="")
        await bench.booted(vm)
        with pytest.raises(AgentSilent):
            bench.guests.agent(vm, "ping", {})

    play(tmp_path, scenario)


def test_agent_without_a_port_in_the_configuration_stays_silent(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm(agent="0")
        await bench.booted(vm)
        with pytest.raises(AgentSilent):
            bench.guests.agent(vm, "ping", {})

    play(tmp_path, scenario)


def test_agent_runs_commands_and_reads_files(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        machine = await bench.booted(vm)
        command = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]
        pid = bench.guests.agent(vm, "exec", {"command": command})["pid"]
        await bench.passes(1)
        assert bench.guests.agent(vm, "exec-status", {"pid": pid}) == {
            "exited": 1,
            "exitcode": 3,
            "out-data": "out\n",
            "err-data": "err\n",
        }
        with pytest.raises(AgentError, match="PID ld does not exist"):
            bench.guests.agent(vm, "exec-status", {"pid": pid})
        with pytest.raises(AgentError, match=r"Failed to execute child process “/no/such”"):
            bench.guests.agent(vm, "exec", {"command": ["/no/such"]})
        key = bench.guests.agent(vm, "file-read", {"file": "/etc/ssh/ssh_host_ed25519_key.pub"})["content"]
        assert key == machine.files.read("/etc/ssh/ssh_host_ed25519_key.pub").decode()

    play(tmp_path, scenario)


def test_output_of_the_agent_is_cut_at_16_mib_and_its_bytes_are_taken_for_characters(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        await bench.booted(vm)

        async def ran(*words: str) -> dict[str, Any]:
            pid = bench.guests.agent(vm, "exec", {"command": list(words)})["pid"]
            answer: dict[str, Any] = {"exited": 0}
            while not answer["exited"]:
                await bench.passes(1)
                answer = bench.guests.agent(vm, "exec-status", {"pid": pid})
            return answer

        assert (await ran("echo", "\u2192"))["out-data"] == "\u00e2\u0086\u0092\n"
        whole = await ran("head", "-c", str(16 << 20), "/dev/zero")
        assert len(whole["out-data"]) == 16 << 20 and "out-truncated" not in whole
        cut = await ran("head", "-c", str((16 << 20) + 1), "/dev/zero")
        assert (len(cut["out-data"]), cut["out-truncated"]) == (16 << 20, 0)
        bench.guests.machine_in(vm).files.provide("/root/f", b"x" * ((1 << 20) + 3))
        read = bench.guests.agent(vm, "file-read", {"file": "/root/f", "decode": 0})
        assert read["content"].endswith("eA==eHh4") and "truncated" not in read
        assert bench.guests.agent(vm, "file-read", {"file": "/root/f", "count": 3})["truncated"] == 1
        assert bench.guests.agent(vm, "file-read", {"file": "/root/f", "count": 3, "offset": 1 << 20})["truncated"] == 1

    play(tmp_path, scenario)


def test_same_disk_keeps_identity_and_address_over_a_power_cut(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        before = await bench.booted(vm)
        await output(before, "echo kept > /root/note")
        identity = (before.machine_id, before.address, before.files.read("/etc/ssh/ssh_host_ed25519_key"))
        bench.guests.power_off(vm)
        after = await bench.booted(vm)
        assert (after.machine_id, after.address, after.files.read("/etc/ssh/ssh_host_ed25519_key")) == identity
        assert after.boot_id != before.boot_id
        assert await output(after, "cat /root/note") == "kept\n"
        assert bench.guests.agent(vm, "ping", {}) == {}

    play(tmp_path, scenario)


def test_new_disk_is_a_new_machine_with_a_new_address(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        before = await bench.booted(vm)
        bench.new_disk(vm)
        bench.guests.remove(vm)
        after = await bench.booted(vm)
        assert after.machine_id != before.machine_id
        assert (before.address, after.address) == (bench.network.guest(1), bench.network.guest(2))
        key = "/etc/ssh/ssh_host_ed25519_key"
        assert after.files.read(key) != before.files.read(key)

    play(tmp_path, scenario)


def test_changed_cloud_init_data_makes_new_host_keys_at_the_next_boot(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        before = await bench.booted(vm)
        key = before.files.read("/etc/ssh/ssh_host_ed25519_key")
        bench.guests.power_off(vm)
        vm.cloudinit_seed["meta"] = "instance-id: another\n"
        after = await bench.booted(vm)
        assert after.files.read("/etc/ssh/ssh_host_ed25519_key") != key
        assert after.machine_id == before.machine_id

    play(tmp_path, scenario)


def test_static_address_is_used_instead_of_a_lease(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        wanted = bench.network.guest(77)
        machine = await bench.booted(bench.vm(ipconfig0=f"ip={wanted}/24,gw={bench.network.guest(254)}"))
        await bench.guests.settled()
        assert machine.address == wanted
        async with await log_in(wanted) as connection:
            assert (await connection.run("hostname -I")).stdout == f"{wanted} \n"

    play(tmp_path, scenario)


def test_address_outside_the_lab_leaves_the_guest_out_of_reach(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.booted(bench.vm(ipconfig0="ip=192.0.2.7/24,gw=192.0.2.1"))
        await bench.guests.settled()
        assert machine.address == "192.0.2.7"
        assert "Bind to port 2222 on 192.0.2.7 failed" in machine.journal.of("ssh.service")[-1]

    play(tmp_path, scenario)


def test_empty_disk_never_boots(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        bench.new_disk(vm, origin=None)
        machine = await bench.booted(vm)
        assert not machine.has_sshd
        assert not bench.guests.obeys_acpi(vm)

    play(tmp_path, scenario)


def test_stuck_guest_never_comes_past_its_kernel(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm(name="k3s-vm-pve1")
        bench.guests.stuck.add("k3s-vm-pve1")
        machine = await bench.booted(vm)
        assert not machine.has_sshd
        bench.guests.stuck.clear()
        assert (await bench.booted(vm)).has_sshd

    play(tmp_path, scenario)


def test_power_cut_closes_the_door_and_a_paused_guest_does_not_answer(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        machine = await bench.booted(vm)
        await bench.guests.settled()
        bench.guests.pause(vm)
        await bench.guests.settled()
        with pytest.raises(AgentSilent):
            bench.guests.agent(vm, "ping", {})
        assert not bench.guests.obeys_acpi(vm)
        bench.guests.resume(vm)
        await bench.guests.settled()
        (await log_in(machine.address)).close()
        bench.guests.power_off(vm)
        await bench.guests.settled()
        with pytest.raises(ConnectionRefusedError):
            await log_in(machine.address)

    play(tmp_path, scenario)


def test_boot_stands_still_while_the_vm_is_paused(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        machine = bench.on(vm)
        await bench.passes(5)
        bench.guests.pause(vm)
        await bench.passes(60)
        assert not machine.has_sshd
        bench.guests.resume(vm)
        await bench.passes(1)
        assert machine.has_sshd

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("vendor", "code", "status"),
    [
        ("#cloud-config\npackages: [no-such-package]\n", 1, "error"),
        ("#cloud-config\nruncmd:\n  - 'exit 3'\n", 1, "error"),
        ("#cloud-config\npackages: [qemu-guest-agent\n", 2, "done"),
        ("#cloud-config\nnonsense: true\n", 2, "done"),
        ("#cloud-config\nruncmd:\n  - [touch, /root/was-here]\n", 0, "done"),
    ],
)
def test_cloud_init_tells_success_errors_and_recoverable_errors_apart(
    tmp_path: Path, vendor: str, code: int, status: str
) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.booted(bench.vm(vendor=vendor))
        result = await shell(machine, "cloud-init status --format json")
        assert result.exit_code == code
        assert f'"status": "{status}"' in result.out.decode()

    play(tmp_path, scenario)


def test_command_that_hangs_keeps_cloud_init_running_without_moving_time(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        before = bench.clock.now()
        machine = await bench.booted(bench.vm(vendor="#cloud-config\nruncmd: [sleep 1000]\n"))
        assert bench.clock.now() == before + 40
        assert await output(machine, "cloud-init status") == "status: running\n"

    play(tmp_path, scenario)


def test_program_started_by_the_agent_ends_with_the_power(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        vm = bench.vm()
        machine = await bench.booted(vm)
        pid = bench.guests.agent(vm, "exec", {"command": ["sh", "-c", "sleep 60; touch /root/late"]})["pid"]
        await bench.passes(30)
        assert bench.guests.agent(vm, "exec-status", {"pid": pid}) == {"exited": 0}
        bench.guests.power_off(vm)
        await bench.passes(60)
        assert not machine.files.exists("/root/late")

    play(tmp_path, scenario)


def test_unknown_command_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        machine = await bench.booted(bench.vm())
        result = await shell(machine, "nosuchthing")
        assert (result.exit_code, result.err.decode()) == (127, "sh: 1: nosuchthing: not found\n")
        assert (await shell(machine, "k3s --version")).exit_code == 127

    play(tmp_path, scenario)
