"""What an administrator types on a node to see how it is: a whole lab, over SSH."""

from __future__ import annotations

import json
from collections.abc import Iterator

import paramiko
import pytest

from pvelab.lab import Lab


def typed(lab: Lab, line: str, node: str = "pve1") -> tuple[int, str]:
    """The exit code and the output of a line typed on a node as root, errors among it."""
    number = [one.name for one in lab.spec.nodes].index(node) + 1
    with paramiko.SSHClient() as client:
        client.load_host_keys(lab.env["SSH_KNOWN_HOSTS"])
        key = lab.env["SSH_KEY_PATH"]
        address, port = lab.network.node(number), int(lab.env["SSH_PORT"])
        client.connect(address, port, "root", key_filename=key, allow_agent=False, look_for_keys=False)
        _, out, _ = client.exec_command(f"{{ {line}; }} 2>&1", timeout=20)
        text = out.read().decode()
        return out.channel.recv_exit_status(), text


def test_every_member_finds_its_own_folder_in_the_shared_one(lab: Lab) -> None:
    lab.reset("healthy")
    assert typed(lab, "ls /etc/pve/qemu-server")[1] == "100.conf\n"
    assert typed(lab, "ls /etc/pve/local/qemu-server", "pve3")[1] == "102.conf\n"
    listed = typed(lab, "ls -la /etc/pve", "pve2")[1]
    assert listed.startswith("total ") and "local -> nodes/pve2\n" in listed
    assert typed(lab, "echo hi > /etc/pve/note; rm /etc/pve/note; echo hi > /etc/pve/note")[0] == 0
    assert typed(lab, "cat /etc/pve/note", "pve3") == (0, "hi\n")
    assert typed(lab, "grep -c ring0_addr /etc/pve/corosync.conf")[1] == "3\n"


def test_members_are_listed_and_lost_ones_are_not(lab: Lab) -> None:
    assert typed(lab, "pvecm nodes")[1].splitlines()[-3:] == [
        "         1          1 pve1 (local)",
        "         2          1 pve2",
        "         3          1 pve3",
    ]
    lab.fault("no-quorum")
    code, said = typed(lab, "pvecm status; ha-manager status")
    assert "Total votes:      1\nQuorum:           2 Activity blocked\n" in said
    assert (code, said.splitlines()[-1]) == (0, "quorum No quorum on node")


def test_services_tell_what_is_broken(lab: Lab) -> None:
    assert typed(lab, "systemctl is-active pveproxy pve-cluster nosuch") == (0, "active\nactive\ninactive\n")
    assert "Active: active (running) since" in typed(lab, "systemctl status pveproxy.service")[1]
    lab.fault("api-down")
    lab.fault("config-missing")
    code, said = typed(lab, "systemctl status pveproxy")
    assert (code, "Active: failed" in said) == (3, True)
    failed = typed(lab, "systemctl --failed")[1]
    assert "pve-cluster.service" in failed and failed.endswith("\n2 loaded units listed.\n")
    assert typed(lab, "systemctl is-active pve-cluster") == (3, "failed\n")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("systemctl status nosuch", 4, "Unit nosuch.service could not be found.\n"),
        ("systemctl is-enabled nosuch", 4, "not-found\n"),
        ("systemctl reboot", 1, "systemctl: reboot: not known here\n"),
        ("systemctl list-units 'ssh*' -q | grep -c loaded", 0, "2\n"),
        ("journalctl -f", 1, "journalctl: -f: not known here\n"),
        ("journalctl -o verbose", 1, "journalctl: -o verbose: not known here\n"),
        ("journalctl -u nosuch", 0, "-- No entries --\n"),
        ("free --wide", 1, "free: --wide: not known here\n"),
        ("pvecm expected 1", 255, "pvecm: expected 1: not known here\n"),
        ("ha-manager add vm:100", 255, "ha-manager: add vm:100: not known here\n"),
        ("pveversion --all", 255, "pveversion: --all: not known here\n"),
        ("hostname -f", 0, "pve1.maas\n"),
        ("which qm nosuch", 1, "/usr/bin/qm\n"),
        ("free -b | tail -n 1 | tr -s ' '", 0, "Swap: 0 0 0\n"),
    ],
)
def test_what_is_typed_and_what_comes_back(lab: Lab, line: str, code: int, said: str) -> None:
    assert typed(lab, line) == (code, said)


def test_the_journal_has_the_tasks(lab: Lab) -> None:
    lab.reset("healthy")
    last = typed(lab, "journalctl -u pvedaemon.service -n1 -o cat --no-pager")[1]
    assert last.startswith("<root@pam> end task UPID:pve1:") and last.endswith(" OK\n")
    newest, older = typed(lab, "journalctl -r -n 2 --output=short-iso")[1].splitlines()
    assert newest > older
    assert " pve1 pvedaemon[" in newest
    assert len(typed(lab, "journalctl -n all -u pveproxy")[1].splitlines()) == 1


def test_the_node_describes_itself(lab: Lab) -> None:
    assert typed(lab, "pveversion -v")[1].startswith("proxmox-ve: 9.2.0 (running kernel: ")
    assert "Mem:" in typed(lab, "free -h")[1]
    assert "G " in typed(lab, "df -h")[1]
    assert 'VERSION_ID="13"' in typed(lab, "cat /etc/os-release")[1]
    assert "iface vmbr0 inet static" in typed(lab, "cat /etc/network/interfaces")[1]


def test_links_and_addresses_are_told_in_three_ways(lab: Lab) -> None:
    address = lab.network.node(1)
    assert f"    inet {address}/16 scope global vmbr0\n" in typed(lab, "ip a")[1]
    assert "inet " not in typed(lab, "ip link")[1]
    assert f"vmbr0            UP             {address}/16 \n" in typed(lab, "ip -br a")[1]
    assert {one["ifname"] for one in json.loads(typed(lab, "ip -j a")[1])} >= {"vmbr0", "eno1"}


def test_resources_under_high_availability_are_listed(lab: Lab) -> None:
    lab.reset("healthy")
    lab.look(lambda world: world.ha.update({"vm:100": {"state": "started"}, "vm:999": {"state": "started"}}))
    assert typed(lab, "ha-manager status")[1] == "quorum OK\nservice vm:100 (pve1, started)\n"


def test_pvesh_asks_other_members_over_ssh(lab: Lab) -> None:
    lab.reset("healthy")
    assert json.loads(typed(lab, "pvesh get /nodes/pve3/qemu/102/config --output-format json")[1])["name"]
    code, said = typed(lab, "pvesh get /nodes/pve3/qemu/999/config --output-format json")
    first, second = said.splitlines()
    assert (code, first) == (255, "Configuration file 'nodes/pve3/qemu-server/999.conf' does not exist")
    assert second.startswith("proxy handler failed: command '/usr/bin/ssh -e none -o 'BatchMode=yes'")
    assert second.endswith("--output-format json' failed: exit code 2")
    lab.fault("node-down", node="pve3")
    code, said = typed(lab, "pvesh get /nodes/pve3/qemu")
    assert (code, said.splitlines()[0]) == (
        255,
        f"ssh: connect to host {lab.network.node(3)} port 22: No route to host",
    )


class Terminal:
    """A person in front of `ssh root@pve1`."""

    def __init__(self, client: paramiko.SSHClient) -> None:
        self.channel = client.invoke_shell(width=200)
        self.channel.settimeout(10)
        self.seen = ""

    def until(self, text: str) -> str:
        """What came on screen up to that text."""
        while text not in self.seen:
            data = self.channel.recv(4096)
            assert data, f"the session ended before {text!r}: {self.seen!r}"
            self.seen += data.decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, keys: str) -> None:
        """Press keys."""
        self.channel.sendall(keys.encode())


@pytest.fixture
def terminal(lab: Lab) -> Iterator[Terminal]:
    with paramiko.SSHClient() as client:
        client.load_host_keys(lab.env["SSH_KNOWN_HOSTS"])
        key, port = lab.env["SSH_KEY_PATH"], int(lab.env["SSH_PORT"])
        client.connect(lab.network.node(1), port, "root", key_filename=key, allow_agent=False, look_for_keys=False)
        yield Terminal(client)


PROMPT = "root@pve1:~# "


def test_a_person_at_a_terminal_has_a_shell_that_remembers(terminal: Terminal) -> None:
    terminal.until(PROMPT)
    terminal.type("cd /etc/pve; greeting=hello\r")
    terminal.until("root@pve1:/etc/pve# ")
    terminal.type("echo $greetinx\x7fg; pwd\r")
    assert terminal.until("root@pve1:/etc/pve# ").endswith("\r\nhello\r\n/etc/pve\r\n")
    terminal.type("\x1b[A\x1b[A\x1b[B\r")
    assert terminal.until("root@pve1:/etc/pve# ").endswith("\r\nhello\r\n/etc/pve\r\n")
    terminal.type("nonsense\x15nosuch\r")
    assert "sh: 1: nosuch: not found\r\n" in terminal.until("root@pve1:/etc/pve# ")
    terminal.type("\rexit 3\r")
    terminal.until("logout\r\n")
    assert terminal.channel.recv_exit_status() == 3


def test_control_c_ends_what_runs_and_what_is_typed(terminal: Terminal) -> None:
    terminal.until(PROMPT)
    terminal.type("half a line\x03")
    terminal.until("^C\r\n" + PROMPT)
    terminal.type("cat\r")
    terminal.type("sleep 1000000\r")
    terminal.until("sleep 1000000\r\n")
    terminal.type("\x03")
    terminal.until("^C\r\n" + PROMPT)
    terminal.type("echo done; sleep 0.1\recho ahead\r")
    terminal.until("done\r\n" + PROMPT)
    terminal.until("ahead\r\n" + PROMPT)
    terminal.type("\x04")
    terminal.until("logout\r\n")
    assert terminal.channel.recv_exit_status() == 0


def test_session_that_is_left_ends(lab: Lab, terminal: Terminal) -> None:
    terminal.until(PROMPT)
    terminal.type("sleep 0.2; echo left > /root/left\r")
    terminal.until("left > /root/left\r\n")
    terminal.channel.close()
    assert typed(lab, "sleep 1; cat /root/left") == (0, "left\n")
