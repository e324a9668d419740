"""Room for a VM, and leave to make it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Homelab
from e2e.world import NO_JOIN, ONLY_PVE3, before_call, limited_token, nodes_with_running_vm, uuids, work_on
from homelab.errors import Unreachable
from homelab.preflight import rights
from pvelab.lab import Lab
from pvelab.state import Acl, World


def no_content(lab: Lab) -> None:
    lab.shell("pve3", "pvesm set local --content iso,snippets,import")


def disabled(lab: Lab) -> None:
    lab.shell("pve1", "pvesm set local-lvm --disable 1")


def full(lab: Lab) -> None:
    lab.fault("storage-full", node="pve3", storage="local")


def nothing(_lab: Lab) -> None:
    """All is as it should be; the setting is not."""


@pytest.mark.parametrize(
    ("breaks", "settings", "node", "said", "cure"),
    [
        (no_content, {}, "pve3", "pve3: storage local takes no VM disks", "set IMG_STORAGE_3 (or STORAGE_3)"),
        (disabled, {}, "pve1", "pve1: storage local-lvm is not there", "set IMG_STORAGE_1 (or STORAGE_1) to one of:"),
        (full, {}, "pve3", "pve3: storage local is full", "free some space on it"),
        (nothing, {"IMG_STORAGE_3": "tank"}, "pve3", "pve3: storage tank is not there", "to one of: local"),
        (nothing, {"VM_MEMORY_3": "60000"}, "pve3", "pve3: not enough memory for the VM", "VM_MEMORY_3"),
        (nothing, {"HOST_RESERVE_MIB": "6000"}, "pve3", "pve3: not enough memory for the VM", "NODE_ENABLED_3=0"),
        (nothing, {"VM_CORES_3": "64"}, "pve3", "pve3: 64 cores are too many: the host has 2 threads", "VM_CORES_3"),
    ],
)
def test_node_without_room_gets_nothing_and_the_others_theirs(
    lab: Lab, homelab: Homelab, via: str, breaks: Callable[[Lab], None], settings: dict[str, str], node: str,
    said: str, cure: str,
) -> None:  # fmt: skip
    breaks(lab)

    run = homelab("--via", via, **settings, **NO_JOIN)

    assert run.exit_code == 3, run.text
    assert nodes_with_running_vm(lab) == sorted({"pve1", "pve2", "pve3"} - {node})
    assert said in run.err
    assert cure in run.err
    assert not [request for request in work_on(lab) if request.node == node]


@pytest.mark.parametrize(
    ("without", "lacks", "granted_on"),
    [
        ("/vms", "VM.Allocate on /vms/102; VM.PowerMgmt on /vms/102; VM.Config.CPU on /vms/102; ", "/vms"),
        ("/storage/local", "Datastore.AllocateSpace on /storage/local", "/storage/local"),
        ("/sdn/zones/localnetwork", "SDN.Use on /sdn/zones/localnetwork/vmbr0", "/sdn/zones/localnetwork/vmbr0"),
    ],
)
def test_vm_is_not_deleted_by_a_token_that_may_not_make_its_replacement(
    lab: Lab, homelab: Homelab, without: str, lacks: str, granted_on: str
) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    token = limited_token(lab, without)

    run = homelab("--via", "api", API_TOKEN=token, NODE_ENABLED_1="0", NODE_ENABLED_2="0", **NO_JOIN)

    assert uuids(lab) == before, run.text
    assert "pve3: the API token may not make VM k3s-vm-pve3: it lacks " in run.text
    assert lacks in run.text
    assert re.search(rf"pveum acl modify {granted_on} .*--tokens 'root@pam!lim' --roles ", run.err)


@pytest.mark.parametrize(
    ("prepared", "lacks", "cure"),
    [
        ("qm set 102 --startup order=3", "Sys.Modify on /;", "qm set 102 --delete startup"),
        ("pvesh set /cluster/options --registered-tags homelab", "Sys.Modify on /, for the tags homelab;",
         "pvesh set /cluster/options --delete registered-tags"),
    ],
    ids=["start-order", "tags"],
)  # fmt: skip
def test_vm_is_not_deleted_by_a_token_that_may_not_give_the_next_one_what_it_had(
    lab: Lab, homelab: Homelab, prepared: str, lacks: str, cure: str
) -> None:
    lab.reset("stopped")
    lab.shell("pve3", prepared)
    before = uuids(lab)

    run = homelab("--via", "api", API_TOKEN=limited_token(lab, ""), **ONLY_PVE3, **NO_JOIN)

    assert uuids(lab) == before, run.text
    assert f"it lacks {lacks}" in run.text
    assert cure in run.err


def test_no_vm_is_begun_by_a_token_that_may_not_make_it(lab: Lab, homelab: Homelab) -> None:
    token = limited_token(lab, "/sdn/zones/localnetwork")

    run = homelab("--via", "api", API_TOKEN=token, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "pve3: the API token may not make VM k3s-vm-pve3: it lacks SDN.Use on" in run.err
    assert lab.writes == []


def test_no_vm_is_begun_by_a_token_that_is_limited_while_the_image_comes(lab: Lab, homelab: Homelab) -> None:
    token, path = limited_token(lab, without=""), "/sdn/zones/localnetwork"

    def limit(world: World) -> None:
        world.acls.discard(Acl(path, "root@pam!lim", "PVESDNUser"))

    before_call(lab, "POST", "/nodes/pve3/storage/local/download-url", limit)

    run = homelab("--via", "api", API_TOKEN=token, **ONLY_PVE3, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "the API token may not make VM k3s-vm-pve3: it lacks SDN.Use on" in run.err
    assert lab.snapshot()["vms"] == {}


def told_once(patch: pytest.MonkeyPatch) -> None:
    """What the token may do is told the first time, and not again."""
    judge, asked = rights.judge, []

    def forgets(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) > 1:
            raise Unreachable("GET /access/permissions", "the connection was lost", "run again")
        return judge(*arguments)

    patch.setattr(rights, "judge", forgets)


def test_vm_is_not_deleted_while_it_cannot_be_told_whether_the_token_may_make_the_next(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.reset("stopped")
    before = uuids(lab)
    told_once(monkeypatch)

    run = homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)

    assert uuids(lab) == before, run.text
    assert "pve3" in nodes_with_running_vm(lab)
    assert "the connection was lost" in run.text


def test_first_vm_is_made_where_it_cannot_be_told_again_what_the_token_may_do(
    lab: Lab, homelab: Homelab, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_once(monkeypatch)

    run = homelab("--via", "api", **ONLY_PVE3, **NO_JOIN)

    assert (run.exit_code, nodes_with_running_vm(lab)) == (0, ["pve3"]), run.text


def test_without_a_public_key_no_vm_is_made_that_nobody_could_log_in_to(
    lab: Lab, homelab: Homelab, via: str, tmp_path: Path
) -> None:
    assert not (tmp_path / ".ssh").exists()

    run = homelab("--via", via, SSH_PUBKEY_PATH=None, **NO_JOIN)

    assert run.exit_code == 1, run.text
    assert "no SSH public key for the VM" in run.err
    assert "ssh-keygen -t ed25519" in run.err
    assert lab.writes == []


def test_where_no_storage_takes_snippets_the_vm_runs_without_agent_and_that_is_said(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.shell("pve3", "pvesm set local --content iso,import,images")

    run = homelab("--via", via, **NO_JOIN)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert "pve3: no storage takes snippets: so the guest agent is not installed" in run.err
    assert "pvesm set local --content" in run.err


def test_password_of_the_guest_is_set_and_never_shown(lab: Lab, homelab: Homelab, via: str) -> None:
    run = homelab("-v", "--via", via, CLOUD_PASSWORD="canary pass#1", **NO_JOIN)

    assert run.exit_code == 0, run.text
    for vm in lab.snapshot()["vms"].values():
        assert vm["config"]["cipassword"].startswith("$5$")
    assert "canary" not in run.text
    assert "canary" not in str([request for request in lab.requests if request.via == "ssh"])
