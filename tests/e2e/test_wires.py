"""The client against the lab: the same verbs, the same end, on either wire, also when answers get lost."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from homelab import config
from homelab.errors import HomelabError, NotThere, Refused, TaskFailed, Undecided, Unreachable
from homelab.models import GIB, Wire
from homelab.proxmox import discovery
from homelab.proxmox.client import Proxmox
from homelab.proxmox.discovery import Found
from homelab.proxmox.transport import Download, Upload
from homelab.settings import Secret, Via
from homelab.shell import Shells
from pvelab.lab import Lab
from pvelab.state import Action
from support.clock import SteppingClock

CANARY = "canary-password"
VMID = 210


class Wired:
    """Connects to a lab as the tool does, and keeps what was said about falling back."""

    def __init__(self, lab: Lab, clock: SteppingClock, folder: Path) -> None:
        self.lab = lab
        self.said: list[tuple[str, str]] = []
        self._clock = clock
        self._folder = folder

    @contextmanager
    def find(self, via: Via, **changes: str | None) -> Iterator[Found]:
        env_file = self.lab.write_env(self._folder / "wires.env", **changes)
        settings = config.load(env_file, via, environment={"HOME": str(self._folder)})
        ssh = settings.ssh
        with Shells(user=ssh.user, key_path=ssh.key_path, known_hosts=ssh.known_hosts, home=self._folder) as shells:
            yield discovery.find(
                settings,
                via=via,
                shells=shells,
                on_fallback=lambda *words: self.said.append(words),
                clock=self._clock,
            )

    @contextmanager
    def proxmox(self, via: Via, **changes: str | None) -> Iterator[Proxmox]:
        with self.find(via, **changes) as found:
            yield Proxmox(found.links, self._clock)

    def upload(self, node: str) -> Upload:
        """The lab's own image, to go to a node's `local` as import content."""
        with urllib.request.urlopen(self.lab.env["ISO_URL"]) as answer:
            data: bytes = answer.read()
        source = self._folder / "noble.qcow2"
        source.write_bytes(data)
        return Upload(source, node, "local", "import", "noble.qcow2", hashlib.sha256(data).hexdigest())


@pytest.fixture
def wired(lab: Lab, shared_clock: SteppingClock, tmp_path: Path) -> Wired:
    return Wired(lab, shared_clock, tmp_path)


@pytest.fixture
def pve(wired: Wired, via: str) -> Iterator[Proxmox]:
    with wired.proxmox(Via(via)) as proxmox:
        yield proxmox


def params(lab: Lab, **changes: str) -> dict[str, str]:
    keys = Path(lab.env["SSH_PUBKEY_PATH"]).read_text()
    return {
        "vmid": str(VMID),
        "name": "k3s-vm-pve1",
        "memory": "512",
        "cores": "1",
        "scsihw": "virtio-scsi-single",
        "scsi0": "local-lvm:0,discard=on,iothread=1",
        "ide2": "local-lvm:cloudinit",
        "boot": "order=scsi0",
        "net0": "virtio,bridge=vmbr0",
        "tags": "homelab;homelab-unfinished",
        "description": "made by a test\nsecond line",
        "ciuser": "ubuntu",
        "sshkeys": quote(keys, safe=""),
        "ipconfig0": "ip=dhcp",
    } | changes


def make(pve: Proxmox, wired: Wired) -> None:
    volume = pve.upload(wired.upload("pve1"))
    pve.create_vm("pve1", params(wired.lab, scsi0=f"local-lvm:0,discard=on,import-from={volume}"))


def test_vm_lives_from_image_to_removal(wired: Wired, pve: Proxmox) -> None:
    before = wired.lab.snapshot()
    volume = pve.upload(wired.upload("pve1"))
    assert pve.file_sha256("pve1", pve.image_path("pve1", volume)) == wired.upload("pve1").sha256
    made = pve.create_vm("pve1", params(wired.lab), import_path=pve.image_path("pve1", volume))
    assert made.tags == {"homelab", "homelab-unfinished"}
    pve.set_password("pve1", VMID, Secret(CANARY))
    pve.resize_disk("pve1", VMID, "scsi0", 20 * GIB)
    snippet = pve.put_snippet("pve1", "local", "vendor.yaml", "#cloud-config\n{}\n")
    custom = pve.set_vm("pve1", VMID, {"cicustom": f"vendor={snippet}"}, digest=pve.vm_config("pve1", VMID).digest)
    assert pve.start_vm("pve1", VMID).status == "running"
    assert pve.start_vm("pve1", VMID).status == "running"
    assert "cicustom" not in pve.set_vm("pve1", VMID, {"tags": "homelab"}, delete=("cicustom",)).values
    with pytest.raises(Refused, match="checksum mismatch"):
        pve.set_vm("pve1", VMID, {"onboot": "1"}, digest=custom.digest)
    with pytest.raises(TaskFailed, match="is running - destroy failed"):
        pve.delete_vm("pve1", VMID)
    assert pve.stop_vm("pve1", VMID).status == "stopped"
    pve.delete_vm("pve1", VMID)
    with pytest.raises(NotThere):
        pve.vm_config("pve1", VMID)
    wired.lab.shell("pve1", f"pvesm free {volume} && pvesm free {snippet}")
    assert wired.lab.snapshot() == before
    assert CANARY not in "".join(request.what for request in wired.lab.requests)


def test_node_fetches_an_image_itself(wired: Wired, pve: Proxmox) -> None:
    image = Download(wired.lab.env["ISO_URL"], "pve2", "local", "import", "own.qcow2", wired.upload("pve2").sha256)
    volume = pve.download_url(image)
    assert volume in {row.volume for row in pve.storage_content("pve2", "local", content="import")}
    with pytest.raises(TaskFailed, match="checksum mismatch"):
        pve.download_url(replace(image, filename="bad.qcow2", sha256="00" * 32))


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda pve, lab: pve.create_vm("pve1", params(lab, scsi0="nowhere:1")), TaskFailed, "storage 'nowhere'"),
        pytest.param(
            lambda pve, lab: pve.create_vm("pve1", params(lab, vmid="5")),
            Refused,
            "does not look like a valid VM ID",
            marks=pytest.mark.against_schema,
        ),
        (lambda pve, _: pve.start_vm("pve1", 999), NotThere, "999"),
        (lambda pve, _: pve.set_vm("pve1", 999, {"onboot": "1"}), NotThere, "999"),
        (lambda pve, _: pve.resize_disk("pve1", 999, "scsi0", GIB), NotThere, "999"),
        (lambda pve, _: pve.agent_interfaces("pve1", 999), NotThere, "999"),
    ],
    ids=["storage", "parameter", "start", "set", "resize", "agent"],
)
def test_what_proxmox_refuses_is_the_same_kind_of_error_on_both_wires(
    wired: Wired, pve: Proxmox, act: Callable[[Proxmox, Lab], object], error: type[HomelabError], words: str
) -> None:
    with pytest.raises(error, match=words) as refused:
        act(pve, wired.lab)
    assert refused.value.cure


def test_failed_task_is_the_same_kind_of_error_on_both_wires(wired: Wired, pve: Proxmox) -> None:
    make(pve, wired)
    wired.lab.fault("task-fails", kind="qmstart", text="bridge 'vmbr0' does not exist")
    with pytest.raises(TaskFailed, match="bridge 'vmbr0' does not exist") as failed:
        pve.start_vm("pve1", VMID)
    assert "NETWORK_IFACES_n" in failed.value.cure


def facts(pve: Proxmox, vms: Mapping[str, int]) -> list[object]:
    """Everything that is read before a plan is made, without what changes by itself."""
    found: list[object] = [sorted(pve.cluster_vms(), key=lambda row: row.vmid), pve.sees_all_vms(), pve.next_vmid()]
    for node, vmid in vms.items():
        config_now = pve.vm_config(node, vmid)
        found += [
            pve.host(node).threads,
            pve.vms(node),
            pve.vm_status(node, vmid).qmpstatus,
            (dict(config_now.values), config_now.digest),
            sorted(pve.storages(node), key=lambda storage: storage.name),
            sorted(pve.storage_content(node, "local"), key=lambda row: row.volume),
            pve.bridges(node),
            pve.tasks(node, vmid=vmid, limit=5),
            pve.tasks(node, is_active=True),
            pve.has_snapshots(node, vmid),
            pve.own_firewall(node, vmid),
            pve.replication_jobs(node, vmid),
            pve.vm_acl_paths(vmid),
            pve.agent_interfaces(node, vmid),
            pve.agent_file_read(node, vmid, "/etc/hostname"),
        ]
    return found


def test_both_wires_read_the_same(wired: Wired) -> None:
    wired.lab.reset("healthy")
    with wired.proxmox(Via.API) as by_api, wired.proxmox(Via.SSH) as by_ssh:
        vms = {row.node: row.vmid for row in by_api.cluster_vms()}
        assert facts(by_api, vms) == facts(by_ssh, vms)
        assert len(vms) == 3


# --- changing over ---------------------------------------------------------------------------------------------------


def test_bad_certificates_lead_to_ssh_with_one_word_for_each_node(wired: Wired) -> None:
    wired.lab.fault("bad-certificate")
    with wired.proxmox(Via.AUTO) as pve:
        assert pve.next_vmid() == 100
        assert all("9.2.11" in pve.host(node).version for node in pve.links)
        assert {pve.wire(node) for node in pve.links} == {Wire.SSH}
    assert sorted(node for node, _ in wired.said) == ["pve1", "pve2", "pve3"]
    assert all("certificate verify failed" in reason for _, reason in wired.said)


def test_api_that_goes_away_in_between_leads_to_ssh(wired: Wired) -> None:
    with wired.proxmox(Via.AUTO) as pve:
        make(pve, wired)
        wired.lab.fault("api-down", node="pve1")
        assert pve.start_vm("pve1", VMID).status == "running"
        assert (pve.wire("pve1"), pve.wire("pve2")) == (Wire.SSH, Wire.API)
    assert [node for node, _ in wired.said] == ["pve1"]


def test_via_api_stays_with_the_api(wired: Wired) -> None:
    with wired.proxmox(Via.API) as pve:
        wired.lab.fault("api-down", node="pve1")
        with pytest.raises(Unreachable):
            pve.start_vm("pve1", VMID)
    assert wired.said == []


def test_node_that_is_down_is_a_problem_and_costs_no_other_node(wired: Wired) -> None:
    wired.lab.fault("node-down", node="pve3")
    with wired.find(Via.AUTO) as found:
        assert set(found.links) == {"pve1", "pve2"}
        assert "connection refused" in found.problems["pve3"].why
        assert found.status is not None
        assert found.status.is_quorate


def test_refused_login_names_both_reasons(wired: Wired) -> None:
    wired.lab.fault("bad-certificate")
    with wired.find(Via.AUTO, SSH_KNOWN_HOSTS="/dev/null") as found:
        why = found.problems["pve1"].why
        cure = found.problems["pve1"].cure
    assert "not in known_hosts" in why
    assert "main trust shows these host keys and asks" in cure


def test_other_member_answers_for_a_node_whose_own_api_is_gone(wired: Wired) -> None:
    with wired.proxmox(Via.API) as pve:
        wired.lab.fault("api-down", node="pve1")
        with pytest.raises(Unreachable, match="595"):
            pve.host("pve1")
        assert "9.2.11" in pve.host("pve2").version


def test_vms_of_a_node_that_is_down_are_read_from_another(wired: Wired) -> None:
    wired.lab.reset("healthy")
    wired.lab.fault("node-down", node="pve3")
    with wired.proxmox(Via.AUTO) as pve:
        assert [row.name for row in pve.offline_vms("pve3")] == ["k3s-vm-pve3"]


# --- lost answers ----------------------------------------------------------------------------------------------------


def cut(lab: Lab, method: str, path: str, kind: str) -> None:
    """Cut the connection at the next such request: before (reset) or after (reset-after) it was carried out."""
    left = [Action(kind)]  # type: ignore[arg-type]

    def intercept(_node: str, asked: str, at: str, _params: Mapping[str, str]) -> Action | None:
        return left.pop() if left and (asked, at) == (method, path) else None

    lab.look(lambda world: setattr(world.hooks, "intercept", intercept))


QEMU = "/nodes/pve1/qemu"
VM = f"{QEMU}/{VMID}"


def test_create_whose_answer_was_lost_makes_one_vm(wired: Wired) -> None:
    with wired.proxmox(Via.AUTO) as pve:
        volume = pve.upload(wired.upload("pve1"))
        wanted = params(wired.lab, scsi0=f"local-lvm:0,import-from={volume}")
        cut(wired.lab, "POST", QEMU, "reset-after")
        assert pve.create_vm("pve1", wanted).name == "k3s-vm-pve1"
    assert list(wired.lab.snapshot()["vms"]) == [VMID] or list(wired.lab.snapshot()["vms"]) == [str(VMID)]
    assert wired.said == []


def test_create_that_never_arrived_stays_undecided_and_makes_none(wired: Wired) -> None:
    with wired.proxmox(Via.AUTO) as pve:
        volume = pve.upload(wired.upload("pve1"))
        cut(wired.lab, "POST", QEMU, "reset")
        with pytest.raises(Undecided, match="cut off"):
            pve.create_vm("pve1", params(wired.lab, scsi0=f"local-lvm:0,import-from={volume}"))
    assert wired.lab.snapshot()["vms"] == {}
    assert wired.said == []


@pytest.mark.parametrize(
    ("method", "path", "act"),
    [
        ("POST", f"{VM}/status/start", lambda pve: pve.start_vm("pve1", VMID)),
        ("PUT", f"{VM}/config", lambda pve: pve.set_vm("pve1", VMID, {"tags": "homelab"})),
        ("PUT", f"{VM}/resize", lambda pve: pve.resize_disk("pve1", VMID, "scsi0", 20 * GIB)),
        ("DELETE", VM, lambda pve: pve.delete_vm("pve1", VMID)),
    ],
    ids=["start", "set", "resize", "delete"],
)
def test_write_whose_answer_was_lost_is_decided_by_looking(
    wired: Wired, method: str, path: str, act: Callable[[Proxmox], object]
) -> None:
    with wired.proxmox(Via.AUTO) as pve:
        make(pve, wired)
        cut(wired.lab, method, path, "reset")
        with pytest.raises(Undecided):
            act(pve)
        cut(wired.lab, method, path, "reset-after")
        act(pve)
    assert [request.path for request in wired.lab.writes].count(path) <= 2
