"""What counts as a write: everything that is not known to read."""

from __future__ import annotations

import pytest

from pvelab.writes import is_api_write, is_command_write, is_program_write


@pytest.mark.parametrize(
    "command",
    [
        "qm status 100",
        "qm config 100 --current",
        "pvesh get /cluster/resources --output-format json",
        "sudo -n k3s kubectl get nodes -o json --request-timeout=10s",
        "sudo -n kubectl -n kube-system get secret x",
        "sudo -n cat /var/lib/rancher/k3s/server/node-token",
        "timeout 600 cloud-init status --wait",
        "LC_ALL=C qm list 2>/dev/null || true",
        "if [ -e /etc/x ]; then cat /etc/x; else echo none; fi",
        "test -e /x && sha256sum /x | cut -d' ' -f1",
        "sh -c 'hostname; uname -m'",
        "systemctl show -p ActiveState k3s >/dev/null 2>&1",
        "echo $(cat /etc/machine-id)",
        "curl -sk https://127.0.0.1:6443/ping",
        "pvesm path local:iso/x.img\nstat -c %s /x",
        "k3s --version",
        "qm guest cmd 100 network-get-interfaces",
        "qm cloudinit dump 100 user",
        "dd if=/dev/zero of=/dev/null count=1",
        "",
    ],
)
def test_a_command_that_looks_is_not_a_write(command: str) -> None:
    assert not is_command_write(command)


@pytest.mark.parametrize(
    "command",
    [
        "qm start 100",
        "qm guest exec 100 -- true",
        "pvesh create /nodes/pve1/qemu/100/status/start",
        "cat > /tmp/x",
        "cat>>/tmp/x",
        "sudo -n tee /etc/x",
        "echo a; rm /x",
        "echo $(rm /x)",
        'echo "`rm /x`"',
        "sh /root/install.sh",
        "sh -c 'rm /x'",
        "sudo -n k3s kubectl delete node x",
        "k3s token create --ttl 15m",
        "curl -o /tmp/k3s http://127.0.0.1/k3s",
        "systemctl restart --no-block k3s",
        "if true; then mv a b; fi",
        "env -i PATH=/bin sh install.sh",
        "dd of=/tmp/x",
        "nobody-knows-this",
        "echo 'unclosed",
    ],
)
def test_a_command_that_changes_or_is_unknown_is_a_write(command: str) -> None:
    assert is_command_write(command)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nodes", False),
        ("POST", "/nodes/pve1/qemu/100/agent/ping", False),
        ("POST", "/nodes/pve1/qemu/100/agent/exec", True),
        ("POST", "/nodes/pve1/qemu/100/status/start", True),
        ("PUT", "/nodes/pve1/qemu/100/config", True),
        ("DELETE", "/nodes/pve1/qemu/100", True),
    ],
)
def test_an_api_call_writes_unless_it_gets_or_asks_the_agent(method: str, path: str, expected: bool) -> None:
    assert is_api_write(method, path) is expected


def test_a_program_that_ran_writes_by_its_words_or_by_where_its_output_went() -> None:
    assert not is_program_write(["sudo", "-n", "cat", "/etc/x"], ["/dev/null"])
    assert is_program_write(["cat", "/etc/x"], ["/tmp/y"])
    assert is_program_write(["qm", "destroy", "100"])
