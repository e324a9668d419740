"""A node's tools beyond the recorded cases: reading words, passwords and keys, output formats, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pvelab.machine import Account
from pvelab.shell.run import run
from replay.stage import Ran, Stage


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


@pytest.fixture
def stage(one_stage: Stage) -> Stage:
    one_stage.reset()
    return one_stage


def _line(stage: Stage, line: str) -> Ran:
    return stage.shell(["sh", "-c", line])


def _vm(stage: Stage, options: str = "") -> None:
    assert _line(stage, f"qm create 100 --name vm100 --memory 64 --scsi0 local:1 {options}").exit_code == 0


@pytest.mark.parametrize("option", ["--onboot", "--onboot 1", "--onboot=yes", "-onboot on"])
def test_boolean_option_may_be_given_in_words_or_alone(stage: Stage, option: str) -> None:
    _vm(stage, option)
    assert "onboot: 1\n" in _line(stage, "qm config 100").out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--onboot maybe", "400 unable to parse boolean option"),
        ("--memory", "Option memory requires an argument"),
        ("--scsi31 local:1", "Unknown option: scsi31"),
        ("101", "400 too many arguments"),
    ],
)
def test_words_that_cannot_be_read_are_refused_with_the_usage(stage: Stage, words: str, complaint: str) -> None:
    ran = _line(stage, f"qm create 100 {words}")
    assert ran.exit_code == 255
    assert ran.err.startswith(complaint)
    assert ran.err.endswith("qm create <vmid> [OPTIONS]\n")


def test_password_comes_from_the_input_and_is_not_shown(stage: Stage) -> None:
    _vm(stage)
    ran = _line(stage, "printf 'secret\\nsecret\\n' | qm set 100 --cipassword")
    assert (ran.exit_code, ran.out) == (0, "update VM 100: -cipassword <hidden>\n")
    assert stage.look(lambda world: world.vms[100].config["cipassword"])
    assert "secret" not in _line(stage, "qm config 100").out


def test_passwords_that_differ_are_refused(stage: Stage) -> None:
    _vm(stage)
    ran = _line(stage, "printf 'one\\ntwo\\n' | qm set 100 --cipassword")
    assert (ran.exit_code, ran.err) == (255, "passwords do not match\n")


def test_public_keys_are_read_from_a_file_and_kept_encoded(stage: Stage) -> None:
    _vm(stage)
    ran = _line(stage, "qm set 100 --sshkeys /root/k.pub")
    assert ran.out.startswith("update VM 100: -sshkeys ssh-ed25519%20AAAA")
    assert ran.out.endswith("%20bob%40x%0A\n")


def test_description_is_shown_on_one_line(stage: Stage) -> None:
    _vm(stage, "--description 'first: line\nsecond'")
    assert "description: first%3A line%0Asecond\n" in _line(stage, "qm config 100").out


def test_command_waits_for_its_task_in_lab_time(stage: Stage) -> None:
    _vm(stage)
    before = stage.look(lambda world: world.clock.now())
    assert _line(stage, "qm start 100 && qm status 100").out.endswith("status: running\n")
    assert stage.look(lambda world: world.clock.now()) - before >= 1
    assert stage.look(lambda world: [task.type for task in world.tasks.values()])[-1] == "qmstart"


def test_suspended_vm_is_paused_for_qm_and_running_for_the_api(stage: Stage) -> None:
    _vm(stage)
    shown = _line(stage, "qm start 100; qm suspend 100; qm status 100; qm list")
    assert shown.out.startswith("status: paused\n")
    assert " running " in shown.out.splitlines()[-1]


def test_rescan_finds_a_disk_that_no_configuration_names(stage: Stage) -> None:
    _vm(stage)
    _line(stage, "pvesm alloc local 100 vm-100-disk-7.raw 4M")
    dry = _line(stage, "qm rescan --vmid 100 --dryrun")
    assert dry.out.endswith("VM 100 add unreferenced volume 'local:100/vm-100-disk-7.raw' as 'unused0' to config\n")
    assert "unused0" not in _line(stage, "qm config 100").out
    _line(stage, "qm rescan")
    assert "unused0: local:100/vm-100-disk-7.raw\n" in _line(stage, "qm config 100").out


def test_imported_disk_goes_where_it_was_wanted(stage: Stage) -> None:
    _vm(stage)
    ran = _line(stage, "qm importdisk 100 /root/disk.qcow2 local --format qcow2 --target-disk scsi1")
    assert ran.out.endswith("scsi1: successfully imported disk 'local:100/vm-100-disk-1.qcow2'\n")
    assert "scsi1: local:100/vm-100-disk-1.qcow2\n" in _line(stage, "qm config 100").out


def test_wait_ends_when_the_vm_is_off(stage: Stage) -> None:
    _vm(stage)
    ran = _line(stage, "qm wait 100; qm start 100; qm wait 100 & sleep 3; qm stop 100; wait; qm status 100")
    assert ran.exit_code == 0
    assert ran.out.endswith("status: stopped\n")


@pytest.mark.parametrize(
    "line", ["qm monitor 100", "qm showcmd 100", "pvesm scan", "pvesh usage /version", "qm help nosuch"]
)
def test_command_that_the_lab_does_not_have_is_refused_by_name(stage: Stage, line: str) -> None:
    ran = _line(stage, line)
    assert ran.exit_code == 255
    assert ran.err


def test_tools_are_roots_alone(stage: Stage) -> None:
    def add(node_accounts: dict[str, Account]) -> None:
        key = node_accounts["root"].authorized_keys
        node_accounts["admin"] = Account("admin", 1000, "/tmp", list(key), sudo=True)

    stage.look(lambda world: add(world.nodes["pve1"].accounts))
    for tool in ("qm list", "pvesm status", "pvesh get /version"):
        result = stage.run(_as_admin(stage, f"{tool}; sudo -n {tool}"))
        assert result == (0, b"please run as root\n")


async def _as_admin(stage: Stage, line: str) -> tuple[int, bytes]:
    result = await run(stage.world.nodes["pve1"], "admin", line)
    return result.exit_code, result.err


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", '{"release":"9.2","repoid":"14a22df3","version":"9.2.11"}\n'),
        ("json-pretty", '{\n   "release" : "9.2",\n   "repoid" : "14a22df3",\n   "version" : "9.2.11"\n}\n'),
        ("yaml", "---\nrelease: '9.2'\nrepoid: 14a22df3\nversion: 9.2.11\n"),
    ],
)
def test_pvesh_prints_in_the_format_asked_for(stage: Stage, form: str, expected: str) -> None:
    assert _line(stage, f"pvesh get /version --output-format {form}").out == expected


def test_pvesh_prints_an_object_as_a_table_without_a_format(stage: Stage) -> None:
    out = _line(stage, "pvesh get /version --noborder --noheader").out
    assert [line.split() for line in out.splitlines()] == [
        ["release", "9.2"],
        ["repoid", "14a22df3"],
        ["version", "9.2.11"],
    ]


def test_pvesh_lists_what_lies_below(stage: Stage) -> None:
    lines = _line(stage, "pvesh ls /nodes").out.split()
    assert lines == ["Dr---", "pve1"]


def test_node_tells_its_uptime_memory_and_version(stage: Stage) -> None:
    uptime_s, _ = _line(stage, "cat /proc/uptime").out.split()
    assert 86_000 < float(uptime_s) < 87_000
    assert _line(stage, "grep -c '^Mem' /proc/meminfo").out == "3\n"
    assert _line(stage, "uptime -p").out.startswith("up 1 days")
    assert _line(stage, "uname -rm").out == "6.17.4-2-pve x86_64\n"
    assert _line(stage, "pveversion").out == "pve-manager/9.2.11/14a22df3 (running kernel: 6.17.4-2-pve)\n"


def test_node_shows_its_bridges(stage: Stage) -> None:
    shown = json.loads(_line(stage, "ip -j address show").out)
    assert [(one["ifname"], [a["local"] for a in one["addr_info"]]) for one in shown] == [
        ("eth0", []),
        ("vmbr0", ["192.0.2.10"]),
    ]
    assert json.loads(_line(stage, "ip -j neigh").out) == []
    assert _line(stage, "ip route").exit_code == 1


def test_services_of_a_node_are_active(stage: Stage) -> None:
    ran = _line(stage, "systemctl is-active pve-cluster; systemctl is-active nosuch")
    assert (ran.exit_code, ran.out) == (3, "active\ninactive\n")
    assert _line(stage, "systemctl restart pveproxy").exit_code == 1


def test_qemu_img_tells_size_and_format(stage: Stage) -> None:
    shown = json.loads(_line(stage, "qemu-img info --output=json /root/disk.qcow2").out)
    assert (shown["format"], shown["virtual-size"]) == ("qcow2", 64 << 20)
    assert "No such file" in _line(stage, "qemu-img info --output=json /root/none").err


def test_file_written_over_ssh_is_a_volume_at_once(stage: Stage) -> None:
    line = (
        "mkdir -p /var/lib/vz/template/iso && echo x > /var/lib/vz/template/iso/x.img && pvesm list local --content iso"
    )
    assert "local:iso/x.img iso     iso          2\n" in _line(stage, line).out


def test_configuration_of_a_vm_is_a_file_on_every_member(stage: Stage) -> None:
    _vm(stage)
    assert "name: vm100\n" in _line(stage, "cat /etc/pve/nodes/pve1/qemu-server/100.conf").out


def test_cluster_status_needs_a_cluster(stage: Stage) -> None:
    ran = _line(stage, "pvecm status")
    assert (ran.exit_code, ran.out) == (2, "")
    stage.look(lambda world: setattr(world, "cluster_name", "homelab"))
    assert "Quorate:          Yes\n" in _line(stage, "pvecm status").out
