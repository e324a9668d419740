"""The SSH wire: which command a call becomes, what its end means, and how files come to a node."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homelab.errors import Misunderstood, NotThere, Refused, TimedOut, Undecided, Unreachable
from homelab.models import Wire
from homelab.proxmox.ssh import Ssh
from homelab.proxmox.transport import Upload
from homelab.shell import Result
from support.fake_shell import FakeShell, Respond, done

RECORDINGS = Path(__file__).parents[1] / "recordings"


def wire(respond: Respond, *, user: str = "root", node: str = "pve1") -> tuple[Ssh, FakeShell]:
    shell = FakeShell(respond)
    return Ssh(node, shell, user), shell


def always(stdout: str = "", stderr: str = "", exit_code: int = 0) -> Respond:
    return lambda _line, _typed: done(stdout, stderr, exit_code)


@pytest.mark.parametrize(
    ("call", "command"),
    [
        (("GET", "/nodes/pve2/tasks", {"vmid": 100}), "pvesh get /nodes/pve2/tasks --vmid 100 --output-format json"),
        (("POST", "/nodes/pve1/qemu", {"vmid": 100, "name": "a b"}), "qm create 100 --name 'a b'"),
        (("PUT", "/nodes/pve1/qemu/100/config", {"onboot": True}), "qm set 100 --onboot 1"),
        (("PUT", "/nodes/pve1/qemu/100/resize", {"disk": "scsi0", "size": "20G"}), "qm resize 100 scsi0 20G"),
        (("POST", "/nodes/pve1/qemu/100/status/start", None), "qm start 100"),
        (("POST", "/nodes/pve1/qemu/100/status/stop", None), "qm stop 100"),
        (("POST", "/nodes/pve1/qemu/100/status/resume", None), "qm resume 100"),
        (("POST", "/nodes/pve1/qemu/100/status/reset", None), "qm reset 100"),
        (("DELETE", "/nodes/pve1/qemu/100", {"purge": 0}), "qm destroy 100 --purge 0"),
        (
            ("POST", "/nodes/pve1/storage/local/download-url", {"url": "http://x/y", "content": "iso"}),
            "pvesh create /nodes/pve1/storage/local/download-url --url http://x/y --content iso --output-format json",
        ),
    ],
)
def test_call_becomes_its_command(call: tuple[str, str, dict[str, Any] | None], command: str) -> None:
    ssh, shell = wire(always("null"))
    ssh.call(*call)
    assert shell.commands == [command]
    assert ssh.wire is Wire.SSH


def test_call_without_a_command_is_refused_by_name() -> None:
    ssh, shell = wire(always())
    with pytest.raises(Refused, match="POST /cluster/firewall") as refused:
        ssh.call("POST", "/cluster/firewall")
    assert (refused.value.status, shell.commands) == (501, [])


def test_password_is_typed_and_stands_in_no_command() -> None:
    ssh, shell = wire(always())
    ssh.call("PUT", "/nodes/pve1/qemu/100/config", {"cipassword": "canary"})
    assert (shell.commands, shell.inputs) == (["qm set 100 --cipassword"], [b"canary\ncanary\n"])
    ssh.call("PUT", "/nodes/pve1/qemu/100/config", {"cipassword": "canary", "digest": "d1"})
    assert shell.commands[1:] == ["qm set 100 --digest d1 --cipassword"]


def test_create_with_password_and_keys_uses_a_file_that_is_gone_afterwards() -> None:
    ssh, shell = wire(always())
    ssh.call("POST", "/nodes/pve1/qemu", {"vmid": 100, "sshkeys": "ssh-ed25519%20AAAA%0A", "cipassword": "pw"})
    assert shell.commands == [
        "sh -c 'rm -f /run/homelab-sshkeys && umask 077 && cat > /run/homelab-sshkeys'",
        "qm create 100 --sshkeys /run/homelab-sshkeys",
        "rm -f /run/homelab-sshkeys",
        "qm set 100 --cipassword",
    ]
    assert shell.inputs[0] == b"ssh-ed25519 AAAA\n"


def test_key_file_is_removed_when_the_command_fails(caplog: pytest.LogCaptureFixture) -> None:
    def respond(line: str, _: bytes) -> Result:
        if line.startswith("qm"):
            return done("", "storage 'x' does not exist\n", 255)
        if line.startswith("rm"):
            raise Unreachable("SSH", "gone", "wait")
        return done("")

    ssh, shell = wire(respond)
    with pytest.raises(Refused, match="storage 'x' does not exist"):
        ssh.call("PUT", "/nodes/pve1/qemu/100/config", {"sshkeys": "k", "scsi0": "x:1"})
    assert shell.commands[-1] == "rm -f /run/homelab-sshkeys"
    assert "/run/homelab-sshkeys may be left" in caplog.text


def test_creation_whose_key_file_cannot_be_removed_is_undecided_so_that_the_next_run_looks_after_it() -> None:
    ssh, _ = wire(lambda line, _: done("", "I/O error\n", 1) if line.startswith("rm") else done(""))
    with pytest.raises(Undecided, match=r"removal of /run/homelab-sshkeys.*I/O error"):
        ssh.call("POST", "/nodes/pve1/qemu", {"vmid": 100, "sshkeys": "k"})


def recorded(*names: str) -> Iterator[Any]:
    for name in names:
        for line in (RECORDINGS / name).read_text().splitlines():
            case = json.loads(line)
            if case["via"] == "cli" and case["response"]["rc"] != 0:
                yield pytest.param(case["response"], id=case["id"])


@pytest.mark.parametrize("response", [*recorded("cli-qm.jsonl", "cli-pvesh.jsonl", "cli-pvesm.jsonl")])
def test_every_recorded_failure_is_an_answer_with_a_cure(response: dict[str, Any]) -> None:
    ssh, _ = wire(always(response["stdout"], response["stderr"], response["rc"]))
    with pytest.raises(Refused) as refused:
        ssh.call("POST", "/nodes/pve1/qemu", {"vmid": 100})
    missing = re.search(r"onfiguration file .*(does not exist|for VM \d+)", response["stderr"])
    assert isinstance(refused.value, NotThere) == bool(missing)
    assert refused.value.why
    assert refused.value.cure


def test_parameter_errors_are_kept_by_name() -> None:
    stderr = "400 Parameter verification failed.\nvmid: invalid format - no\n\nqm create <vmid> [OPTIONS]\n"
    ssh, _ = wire(always("", stderr, 255))
    with pytest.raises(Refused) as refused:
        ssh.call("POST", "/nodes/pve1/qemu", {"vmid": 5})
    assert (refused.value.status, refused.value.errors) == (400, {"vmid": "invalid format - no"})


def test_unknown_path_is_501_as_over_the_api() -> None:
    ssh, _ = wire(always("", "No 'get' handler defined for '/access/acl'\n", 1))
    with pytest.raises(Refused) as refused:
        ssh.call("GET", "/access/acl")
    assert refused.value.status == 501


def test_resize_that_fails_with_exit_code_0_is_refused_and_its_success_is_not() -> None:
    path, params = "/nodes/pve1/qemu/100/resize", {"disk": "scsi0", "size": "1G"}
    ssh, _ = wire(always("", "shrinking disks is not supported\n"))
    with pytest.raises(Refused, match="shrinking"):
        ssh.call("PUT", path, params)
    ssh, _ = wire(always("Image resized.\n", "perl: warning: Setting locale failed.\n"))
    assert ssh.call("PUT", path, params) is None


def test_worries_about_the_locale_are_no_error_and_no_part_of_one() -> None:
    worry = "perl: warning: Setting locale failed.\nperl: warning: check:\n\tLANGUAGE = (unset),\n    are supported\n"
    ssh, _ = wire(always("[]\n", worry))
    assert ssh.call("GET", "/nodes/pve1/qemu") == []
    ssh, _ = wire(always("", worry + "VM is locked (backup)\n", 255))
    with pytest.raises(Refused) as refused:
        ssh.call("POST", "/nodes/pve1/qemu/100/status/start")
    assert refused.value.why == "VM is locked (backup)"


def test_task_of_pvesh_is_given_back_since_its_exit_code_says_nothing() -> None:
    ssh, _ = wire(always('downloading x\n"UPID:pve1:1:2:3:download:x:root@pam:"\n', "download failed: refused\n"))
    upid = ssh.call("POST", "/nodes/pve1/storage/local/download-url", {"url": "http://x"})
    assert upid == "UPID:pve1:1:2:3:download:x:root@pam:"


@pytest.mark.parametrize(("stdout", "data"), [("", None), ("null\n", None), ("warning: x\n[1]\n", [1])])
def test_json_is_found_in_what_is_printed(stdout: str, data: object) -> None:
    ssh, _ = wire(always(stdout))
    assert ssh.call("GET", "/cluster/nextid") == data


def test_output_that_is_no_json_is_misunderstood() -> None:
    ssh, _ = wire(always("┌────┐\n"))
    with pytest.raises(Misunderstood):
        ssh.call("GET", "/nodes/pve1/qemu")


def test_machine_without_proxmox_is_named_as_such() -> None:
    ssh, _ = wire(always("", "sh: 1: pvesh: not found\n", 127))
    with pytest.raises(Refused) as refused:
        ssh.call("GET", "/version")
    assert "is this a Proxmox node" in refused.value.cure


def failing(*errors: Exception) -> Respond:
    left = list(errors)

    def respond(_line: str, _typed: bytes) -> Result:
        if left:
            raise left.pop(0)
        return done("[]")

    return respond


CUT = Undecided("SSH", "cut", "look")
SLOW = TimedOut("SSH", "no end", "look")


def test_read_that_was_cut_off_is_made_once_more() -> None:
    ssh, shell = wire(failing(CUT))
    assert ssh.call("GET", "/nodes/pve1/qemu") == []
    assert len(shell.commands) == 2


@pytest.mark.parametrize("errors", [(CUT, CUT), (SLOW,)])
def test_read_that_does_not_come_through_is_unreachable(errors: tuple[Exception, ...]) -> None:
    ssh, _ = wire(failing(*errors))
    with pytest.raises(Unreachable):
        ssh.call("GET", "/nodes/pve1/qemu")


@pytest.mark.parametrize("error", [CUT, SLOW])
def test_write_without_an_end_is_undecided_and_not_repeated(error: Exception) -> None:
    ssh, shell = wire(failing(error))
    with pytest.raises(Undecided):
        ssh.call("POST", "/nodes/pve1/qemu/100/status/start")
    assert len(shell.commands) == 1


def test_write_for_another_node_is_not_sent() -> None:
    ssh, shell = wire(always())
    with pytest.raises(Unreachable, match="matter of node pve2"):
        ssh.call("POST", "/nodes/pve2/qemu/100/status/start")
    assert shell.commands == []


def test_machine_with_another_name_is_read_from_but_not_acted_on() -> None:
    ssh, shell = wire(always("[]"), node="pve2")
    assert ssh.call("GET", "/nodes/pve2/qemu") == []
    with pytest.raises(Unreachable, match="is pve1") as wrong:
        ssh.call("POST", "/nodes/pve2/qemu/100/status/start")
    assert "NODE_HOST_n" in wrong.value.cure
    with pytest.raises(Unreachable, match="is pve1"):
        ssh.run(["qm", "unlock", "100"])
    assert len(shell.commands) == 1


def test_other_user_goes_through_sudo() -> None:
    ssh, shell = wire(lambda line, _: done("pve1.lan\n" if line.endswith("hostname") else "[]"), user="admin")
    ssh.call("GET", "/nodes/pve1/qemu")
    ssh.call("GET", "/nodes/pve1/qemu")
    assert shell.commands == ["sudo -n hostname", *["sudo -n pvesh get /nodes/pve1/qemu --output-format json"] * 2]


def test_sudo_that_asks_for_a_password_is_its_own_trouble() -> None:
    ssh, _ = wire(always("", "sudo: a password is required\n", 1), user="admin")
    with pytest.raises(Unreachable, match="a password is required") as refused:
        ssh.connect()
    assert "NOPASSWD" in refused.value.cure
    assert "SSH_USER=root" in refused.value.cure


class Disk:
    """A node's files as far as placing one needs them; `lose` bytes go missing on the way."""

    def __init__(self, lose: int = 0) -> None:
        self.files: dict[str, bytes] = {}
        self._lose = lose

    def __call__(self, line: str, typed: bytes) -> Result:
        words = line.replace("'", "").split()
        if words[:2] == ["pvesm", "path"]:
            return done("/var/lib/vz/template/iso/x.img\n") if "local:" in line else done("", "no storage\n", 255)
        if "cat" in words:
            self.files[words[-1]] = typed[self._lose :]
        if words[0] == "mv":
            self.files[words[-1]] = self.files.pop(words[-2])
        if words[0] == "rm":
            self.files.pop(words[-1], None)
        if words[0] == "stat":
            return done(f"{len(self.files[words[-1]])}\n")
        if words[0] == "sha256sum":
            return done(f"{hashlib.sha256(self.files[words[-1]]).hexdigest()}  {words[-1]}\n")
        return done()


def upload(tmp_path: Path, seen: list[tuple[int, int]] | None = None, storage: str = "local") -> Upload:
    source = tmp_path / "image"
    source.write_bytes(b"image" * 1000)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return Upload(
        source, "pve1", storage, "iso", "x.img", digest, None if seen is None else lambda *at: seen.append(at)
    )


def test_upload_arrives_checked_under_its_name_and_tells_its_progress(tmp_path: Path) -> None:
    disk, seen = Disk(), list[tuple[int, int]]()
    ssh, shell = wire(disk)
    assert ssh.put_file(upload(tmp_path, seen)) == "local:iso/x.img"
    assert disk.files == {"/var/lib/vz/template/iso/x.img": b"image" * 1000}
    assert seen[-1] == (5000, 5000)
    assert ssh.put_file(upload(tmp_path)) == "local:iso/x.img"
    assert shell.commands[0] == "pvesm path local:iso/x.img"


def test_upload_that_lost_bytes_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = Disk(lose=1)
    ssh, _ = wire(disk)
    with pytest.raises(Refused, match="4999 of 5000 bytes"):
        ssh.put_file(upload(tmp_path))
    assert disk.files == {}


def test_upload_to_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    def respond(line: str, typed: bytes) -> Result:
        return done("", "cat: write error: No space left on device\n", 1) if "cat >" in line else Disk()(line, typed)

    ssh, shell = wire(respond)
    with pytest.raises(Refused, match="No space left") as full:
        ssh.put_file(upload(tmp_path))
    assert "free space" in full.value.cure
    assert shell.commands[-1].startswith("rm -f ")


def test_upload_that_takes_too_long_is_undecided(tmp_path: Path) -> None:
    def respond(line: str, typed: bytes) -> Result:
        if "cat >" in line:
            raise SLOW
        return Disk()(line, typed)

    ssh, _ = wire(respond)
    with pytest.raises(Undecided):
        ssh.put_file(upload(tmp_path))


def test_storage_that_has_no_paths_is_refused(tmp_path: Path) -> None:
    ssh, _ = wire(Disk())
    with pytest.raises(Refused, match="no storage"):
        ssh.put_file(upload(tmp_path, storage="nowhere"))


def test_small_file_is_placed_whole() -> None:
    disk = Disk()
    ssh, _ = wire(disk)
    ssh.write_file("/var/lib/vz/snippets/v.yaml", b"#cloud-config\n")
    assert disk.files == {"/var/lib/vz/snippets/v.yaml": b"#cloud-config\n"}


def test_what_a_killed_run_wrote_of_a_file_is_removed_before_it_is_written_again() -> None:
    ssh, shell = wire(Disk())
    ssh.write_file("/var/lib/vz/snippets/v.yaml", b"#cloud-config\n")
    made = "mkdir -p /var/lib/vz/snippets && rm -f /var/lib/vz/snippets/.v.yaml.????????.part"
    assert shell.commands[0] == f"sh -c '{made}'"
