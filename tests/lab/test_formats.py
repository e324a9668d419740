"""Values that have the wrong format are refused in Proxmox's words."""

from __future__ import annotations

import pytest

from replay.stage import Stage


@pytest.mark.parametrize(
    ("path", "params", "name", "text"),
    [
        ("/nodes/pve1/qemu", {"vmid": "100", "net0": "virtio,bridge=a/b"}, "net0", "net0.bridge: invalid format"),
        ("/nodes/pve1/qemu", {"vmid": "100", "cpu": "host,flags=+sing"}, "cpu", "CPU flags must be a subset of: aes,"),
        ("/nodes/pve1/qemu", {"vmid": "100", "cpu": "host,reported-model=max"}, "cpu", "'reported-model' not allowed"),
    ],
)
def test_formats_of_a_new_vm(stage: Stage, path: str, params: dict[str, str], name: str, text: str) -> None:
    assert text in stage.ask("POST", path, params=params).json["errors"][name]


def test_status_that_tasks_do_not_have_is_refused(stage: Stage) -> None:
    reply = stage.ask("GET", "/nodes/pve1/tasks", params={"statusfilter": "ok,sing"})
    assert reply.json["errors"] == {"statusfilter": "invalid format - invalid status 'sing'\n"}
