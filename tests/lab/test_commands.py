"""A node's tools beyond the recorded cases: reading words, passwords and keys, output formats, refusals."""

from __future__ import annotations

import json

import pytest

from pvelab.machine import Account
from pvelab.shell.run import run
from replay.stage import Stage


def _vm(stage: Stage, options: str = "") -> None:
    assert stage.line(f"qm create 100 --name vm100 --memory 64 --scsi0 local:1 {options}").exit_code == 0


@pytest.mark.parametrize("option", ["--onboot", "--onboot 1", "--onboot=yes", "-onboot on"])
def test_boolean_option_may_be_given_in_words_or_alone(stage: Stage, option: str) -> None:
    _vm(stage, option)
    assert "onboot: 1\n" in stage.line("qm config 100").out


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
    ran = stage.line(f"qm create 100 {words}")
    assert ran.exit_code == 255
    assert ran.err.startswith(complaint)
    assert ran.err.endswith("qm create <vmid> [OPTIONS]\n")


def test_password_comes_from_the_input_and_is_not_shown(stage: Stage) -> None:
    _vm(stage)
    ran = stage.line("printf 'secret\\nsecret\\n' | qm set 100 --cipassword")
    assert (ran.exit_code, ran.out) == (0, "update VM 100: -cipassword <hidden>\n")
    assert stage.look(lambda world: world.vms[100].config["cipassword"])
    assert "secret" not in stage.line("qm config 100").out


def test_passwords_that_differ_are_refused(stage: Stage) -> None:
    _vm(stage)
    ran = stage.line("printf 'one\\ntwo\\n' | qm set 100 --cipassword")
    assert (ran.exit_code, ran.err) == (255, "passwords do not match\n")


def test_public_keys_are_read_from_a_file_and_kept_encoded(stage: Stage) -> None:
    _vm(stage)
    ran = stage.line("qm set 100 --sshkeys /root/k.pub")
    assert ran.out.startswith("update VM 100: -sshkeys ssh-ed25519%20AAAA")
    assert ran.out.endswith("%20bob%40x%0A\n")


def test_description_is_shown_on_one_line(stage: Stage) -> None:
    _vm(stage, "--description 'first: line\nsecond'")
    assert "description: first%3A line%0Asecond\n" in stage.line("qm config 100").out


def test_command_waits_for_its_task_in_lab_time(stage: Stage) -> None:
    _vm(stage)
    before = stage.look(lambda world: world.clock.now())
    assert stage.line("qm start 100 && qm status 100").out.endswith("status: running\n")
    assert stage.look(lambda world: world.clock.now()) - before >= 1
    assert stage.look(lambda world: [task.type for task in world.tasks.values()])[-1] == "qmstart"


def test_suspended_vm_is_paused_for_qm_and_running_for_the_api(stage: Stage) -> None:
    _vm(stage)
    shown = stage.line("qm start 100; qm suspend 100; qm status 100; qm list")
    assert shown.out.startswith("status: paused\n")
    assert " running " in shown.out.splitlines()[-1]


def test_rescan_finds_a_disk_that_no_configuration_names(stage: Stage) -> None:
    _vm(stage)
    stage.line("pvesm alloc local 100 vm-100-disk-7.raw 4M")
    dry = stage.line("qm rescan --vmid 100 --dryrun")
    assert dry.out.endswith("VM 100 add unreferenced volume 'local:100/vm-100-disk-7.raw' as 'unused0' to config\n")
    assert "unused0" not in stage.line("qm config 100").out
    stage.line("qm rescan")
    assert "unused0: local:100/vm-100-disk-7.raw\n" in stage.line("qm config 100").out


def test_imported_disk_goes_where_it_was_wanted(stage: Stage) -> None:
    _vm(stage)
    ran = stage.line("qm importdisk 100 /root/disk.qcow2 local --format qcow2 --target-disk scsi1")
    assert ran.out.endswith("scsi1: successfully imported disk 'local:100/vm-100-disk-1.qcow2'\n")
    assert "scsi1: local:100/vm-100-disk-1.qcow2\n" in stage.line("qm config 100").out


def test_wait_ends_when_the_vm_is_off(stage: Stage) -> None:
    _vm(stage)
    ran = stage.line("qm wait 100; qm start 100; qm wait 100 & sleep 3; qm stop 100; wait; qm status 100")
    assert ran.exit_code == 0
    assert ran.out.endswith("status: stopped\n")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("qm terminal", "400 not enough arguments\nqm terminal <vmid> [OPTIONS]\n"),
        ("qm showcmd 100 --pretty", "qm showcmd: not known here\n"),
        ("pvesm scan nfs 192.0.2.9", "pvesm scan nfs: not known here\n"),
        ("pvesm lvmscan", "pvesm scan lvm: not known here\n"),
    ],
)
def test_command_that_the_lab_does_not_have_is_refused_by_name(stage: Stage, line: str, complaint: str) -> None:
    ran = stage.line(line)
    assert (ran.exit_code, ran.out, ran.err) == (255, "", complaint)


def test_deletion_of_what_is_not_set_is_a_warning(stage: Stage) -> None:
    _vm(stage)
    ran = stage.line("qm set 100 --delete net3")
    assert (ran.exit_code, ran.out) == (0, "update VM 100: -delete net3\n")
    assert ran.err == "cannot delete 'net3' - not set in current configuration!\n"


@pytest.mark.parametrize(
    ("option", "what"), [("scsi0", "drive 'scsi0'"), ("unused0", "unused disk 'local:100/vm-100-disk-1.raw'")]
)
def test_protected_disks_are_not_removed(stage: Stage, option: str, what: str) -> None:
    _vm(stage)
    stage.line("qm set 100 --scsi1 local:1; qm set 100 --delete scsi1; qm set 100 --protection 1")
    assert stage.line(f"qm set 100 --delete {option}").err == f"can't remove {what} - protection mode enabled\n"


@pytest.mark.parametrize(
    ("line", "problem", "shown"),
    [
        ("qm guest", "incomplete command 'qm guest'", "       qm guest exec <vmid> [<extra-args>] [OPTIONS]"),
        ("qm guest nosuch 100", "unknown command 'qm guest nosuch'", "       qm help [<extra-args>] [OPTIONS]"),
        ("qm help nosuch", "unknown command 'nosuch'", "       qm help [<extra-args>] [OPTIONS]"),
        ("pvesm scan", "incomplete command 'pvesm scan'", "       pvesm scan zfs"),
        ("pvesh help nosuch", "unknown command 'nosuch'", "       pvesh help [<extra-args>] [OPTIONS]"),
    ],
)
def test_words_that_are_no_command_get_the_usage(stage: Stage, line: str, problem: str, shown: str) -> None:
    ran = stage.line(line)
    assert (ran.exit_code, ran.out) == (255, "")
    assert ran.err.splitlines()[0] == f"ERROR: {problem}"
    assert ran.err.splitlines()[-1] == shown


def test_command_may_be_cut_short_where_it_is_clear(stage: Stage) -> None:
    _vm(stage)
    assert stage.line("qm stat 100").out == "status: stopped\n"
    assert stage.line("qm di resc --vmid 100").out == "rescan volumes...\n"
    unclear = stage.line("qm sta 100").err
    assert unclear.startswith("ERROR: incomplete command 'qm sta'") and "       qm start <vmid>" in unclear
    assert stage.line("pvesh g /cluster/nextid --output-format json").out == '"101"\n'


def test_help_tells_what_there_is(stage: Stage) -> None:
    assert stage.line("qm help").out.startswith("USAGE: qm <COMMAND> [ARGS] [OPTIONS]\n\n       qm cloudinit dump")
    assert "\n  --net[n]   " in stage.line("qm help create").out
    assert stage.line("qm help guest").out.count("USAGE: qm guest ") == 4
    assert stage.line("pvesh help get").out == "USAGE: pvesh get <api_path> [OPTIONS] [FORMAT_OPTIONS]\n"
    assert stage.line("pvesh help").out.startswith("USAGE: pvesh <COMMAND>")


def test_pvesh_tells_what_a_method_takes(stage: Stage) -> None:
    assert stage.line("pvesh usage /nodes/pve1/qemu").out == (
        "USAGE: pvesh get /nodes/pve1/qemu  [OPTIONS]\n"
        "USAGE: pvesh create /nodes/pve1/qemu --vmid <integer> [OPTIONS]\n"
    )
    verbose = stage.line("pvesh usage /cluster/nextid --verbose --returns --command get").out
    assert "\n  --vmid     <integer> (100 - 999999999)\n\t     The (unique) ID of the VM.\n" in verbose
    assert 'RETURNS: {\n   "description" : "The next free VMID.",\n' in verbose
    assert stage.line("pvesh usage /nope").err == "no such resource '/nope'\n"
    assert stage.line("pvesh usage /version --command set").err == "no 'set' handler for '/version'\n"
    assert "command: value 'patch' does not have a value" in stage.line("pvesh usage /version --command patch").err
    assert stage.line("pvesh usage").err == "400 not enough arguments\npvesh usage <api_path> [OPTIONS]\n"


def test_pvesh_lists_with_what_can_be_done(stage: Stage) -> None:
    assert stage.line("pvesh ls /").out.splitlines()[0] == "Dr---        access"
    assert "-r-c-        status\n" in stage.line("pvesh ls nodes/localhost/").out
    assert stage.line("pvesh ls /version").err == "resource '/version' does not define child links\n"


def test_snapshots_are_shown_as_a_tree(stage: Stage) -> None:
    stage.line("qm create 100 --scsi0 local:1,format=qcow2")
    alone = stage.line("qm listsnapshot 100").out
    assert alone == "`-> current                                             You are here!\n"
    stage.line("qm snapshot 100 first --description good; qm snapshot 100 second")
    lines = stage.line("qm listsnapshot 100").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["`->", "first"], ["`->", "second"], ["`->", "current"]]
    assert [line.index("`") for line in lines] == [0, 4, 8]
    assert lines[0].endswith(" good") and lines[1].endswith(" no-description")


@pytest.mark.parametrize(
    ("options", "words", "complaint"),
    [
        ("", "", "unable to find a serial interface\n"),
        ("--serial0 socket", "--iface serial1", "serial interface 'serial1' is not configured\n"),
        ("--serial0 /dev/ttyS0", "--iface serial0", "wrong serial type on interface 'serial0'\n"),
        ("--serial0 socket", "", "VM 100 not running\n"),
    ],
)
def test_console_that_cannot_be_opened(stage: Stage, options: str, words: str, complaint: str) -> None:
    _vm(stage, options)
    assert stage.line(f"qm terminal 100 {words}").err == complaint


def test_console_needs_a_terminal(stage: Stage) -> None:
    _vm(stage, "--serial0 socket")
    ran = stage.line("qm start 100 && qm terminal 100")
    assert ran.out == "starting serial terminal on interface serial0 (press Ctrl+O to exit)\n"
    assert "Inappropriate ioctl" in ran.err


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
    assert stage.line(f"pvesh get /version --output-format {form}").out == expected


def test_pvesh_prints_an_object_as_a_table_without_a_format(stage: Stage) -> None:
    out = stage.line("pvesh get /version --noborder --noheader").out
    assert [line.split() for line in out.splitlines()] == [
        ["release", "9.2"],
        ["repoid", "14a22df3"],
        ["version", "9.2.11"],
    ]


def test_pvesh_lists_what_lies_below(stage: Stage) -> None:
    lines = stage.line("pvesh ls /nodes").out.split()
    assert lines == ["Dr---", "pve1"]


def test_node_tells_its_uptime_memory_and_version(stage: Stage) -> None:
    uptime_s, _ = stage.line("cat /proc/uptime").out.split()
    assert 86_000 < float(uptime_s) < 87_000
    assert stage.line("grep -c '^Mem' /proc/meminfo").out == "3\n"
    assert stage.line("uptime -p").out.startswith("up 1 days")
    assert stage.line("uname -rm").out == "6.17.4-2-pve x86_64\n"
    assert stage.line("pveversion").out == "pve-manager/9.2.11/14a22df3 (running kernel: 6.17.4-2-pve)\n"


def test_node_shows_its_bridges(stage: Stage) -> None:
    shown = json.loads(stage.line("ip -j address show").out)
    assert [(one["ifname"], [a["local"] for a in one["addr_info"]]) for one in shown] == [
        ("eth0", []),
        ("vmbr0", ["192.0.2.10"]),
    ]
    assert json.loads(stage.line("ip -j neigh").out) == []
    assert stage.line("ip route").exit_code == 1


def test_services_of_a_node_are_active(stage: Stage) -> None:
    ran = stage.line("systemctl is-active pve-cluster; systemctl is-active nosuch")
    assert (ran.exit_code, ran.out) == (3, "active\ninactive\n")
    assert stage.line("systemctl restart pveproxy").exit_code == 1


def test_qemu_img_tells_size_and_format(stage: Stage) -> None:
    shown = json.loads(stage.line("qemu-img info --output=json /root/disk.qcow2").out)
    assert (shown["format"], shown["virtual-size"]) == ("qcow2", 64 << 20)
    assert "No such file" in stage.line("qemu-img info --output=json /root/none").err


def test_file_written_over_ssh_is_a_volume_at_once(stage: Stage) -> None:
    line = (
        "mkdir -p /var/lib/vz/template/iso && echo x > /var/lib/vz/template/iso/x.img && pvesm list local --content iso"
    )
    assert "local:iso/x.img iso     iso       2\n" in stage.line(line).out


def test_configuration_of_a_vm_is_a_file_on_every_member(stage: Stage) -> None:
    _vm(stage)
    assert "name: vm100\n" in stage.line("cat /etc/pve/nodes/pve1/qemu-server/100.conf").out


def test_cluster_status_needs_a_cluster(stage: Stage) -> None:
    ran = stage.line("pvecm status")
    assert (ran.exit_code, ran.out) == (2, "")
    stage.look(lambda world: setattr(world, "cluster_name", "homelab"))
    assert "Quorate:          Yes\n" in stage.line("pvecm status").out
