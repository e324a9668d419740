"""Each fault is what its name says, seen from outside, and gone when it is cleared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from openpgp.composed import DetachedSignature, SignedPublicKey
from proxmoxer import ResourceException

from lab.lab_clients import address, api, knock, ssh, version
from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab

NODES = ("pve1", "pve2", "pve3")


@pytest.fixture(autouse=True)
def nothing_stays_broken(lab: Lab) -> Iterator[None]:
    yield
    lab.clear_faults()
    assert [version(lab, node).status_code for node in NODES] == [200, 200, 200]
    assert knock(address(lab, "pve3"), 2222) == "open"


def finished(lab: Lab, upid: Any) -> str:
    """The exit status of a task, waited for in the lab's time."""
    assert isinstance(upid, str)
    lab.wait_until(lambda world: not world.tasks[upid].is_running)
    return lab.look(lambda world: world.tasks[upid].exitstatus or "")


def after_minutes(lab: Lab, minutes: int) -> None:
    """Let the lab's time pass."""
    due = lab.look(lambda world: world.clock.now()) + 60 * minutes
    lab.wait_until(lambda world: world.clock.now() >= due, timeout_s=61 * minutes)


def doors(lab: Lab, node: str) -> tuple[str, str]:
    """What callers of the API and of SSH get."""
    return knock(address(lab, node), 8006), knock(address(lab, node), 2222)


@pytest.mark.parametrize(("mode", "seen"), [("refused", "refused"), ("hang", "time-out")])
def test_a_node_that_is_down_is_offline_for_the_others(lab: Lab, mode: str, seen: str) -> None:
    lab.fault("node-down", node="pve3", mode=mode)
    assert doors(lab, "pve3") == (seen, seen)
    assert {one["node"]: one["status"] for one in api(lab).nodes.get()}["pve3"] == "offline"
    with pytest.raises(ResourceException) as refused:
        api(lab).nodes("pve3").qemu.get()
    assert refused.value.status_code == 595


def test_vms_of_a_node_that_went_down_are_off_and_start_with_it(lab: Lab) -> None:
    lab.reset("healthy")
    lab.fault("node-down", node="pve3")
    lab.wait_until(lambda _: not lab.snapshot()["k3s"][0]["nodes"]["k3s-vm-pve3"]["ready"])
    lab.clear_faults()
    lab.wait_until(lambda _: lab.snapshot()["k3s"][0]["nodes"]["k3s-vm-pve3"]["ready"])
    assert lab.snapshot()["vms"][102]["status"] == "running"


def test_a_locked_vm_does_not_start_with_its_node(lab: Lab) -> None:
    lab.reset("healthy")
    lab.look(lambda world: world.vms[102].config.update(lock="backup"))
    lab.fault("node-down", node="pve3")
    lab.clear_faults()
    assert lab.snapshot()["vms"][102]["status"] == "stopped"
    assert lab.snapshot()["vms"][101]["status"] == "running"


def test_with_the_api_down_only_ssh_answers(lab: Lab) -> None:
    lab.fault("api-down", node="pve1")
    assert doors(lab, "pve1") == ("refused", "open")
    assert doors(lab, "pve2") == ("open", "open")
    assert ssh(lab, f"root@{address(lab, 'pve1')}", "hostname").stdout == "pve1\n"


def test_with_ssh_refused_only_the_api_answers(lab: Lab) -> None:
    lab.fault("ssh-refused")
    assert [doors(lab, node) for node in NODES] == [("open", "refused")] * 3


def test_a_bad_certificate_is_refused_by_a_client_that_checks(lab: Lab) -> None:
    lab.fault("bad-certificate", node="pve1")
    with pytest.raises(requests.exceptions.SSLError):
        version(lab, "pve1")
    assert version(lab, "pve2").ok


def test_a_bad_certificate_does_not_outlive_a_reset(lab: Lab) -> None:
    lab.fault("bad-certificate")
    lab.reset()
    assert version(lab, "pve1").ok


def test_tasks_of_a_kind_fail_with_the_given_text(lab: Lab) -> None:
    lab.fault("task-fails", kind="qmcreate", text="no luck", node="pve1")
    assert finished(lab, api(lab).nodes("pve1").qemu.post(vmid=100, name="one")) == "unable to create VM 100 - no luck"
    assert finished(lab, api(lab).nodes("pve2").qemu.post(vmid=101, name="two")) == "OK"
    lab.clear_faults()
    assert finished(lab, api(lab).nodes("pve1").qemu.post(vmid=102, name="three")) == "OK"


@pytest.mark.parametrize(("node", "storage"), [("pve3", "local"), ("pve1", "local-lvm"), ("pve2", "local-zfs")])
def test_a_full_storage_has_next_to_nothing_left(lab: Lab, node: str, storage: str) -> None:
    before = api(lab).nodes(node).storage(storage).status.get()["avail"]
    lab.fault("storage-full", node=node, storage=storage)
    assert api(lab).nodes(node).storage(storage).status.get()["avail"] == 50 << 20
    lab.clear_faults()
    assert api(lab).nodes(node).storage(storage).status.get()["avail"] == before


def test_a_vm_does_not_start_without_its_bridge(lab: Lab) -> None:
    lab.fault("bridge-missing", node="pve2")
    assert api(lab).nodes("pve2").network.get(type="bridge") == []
    finished(lab, api(lab).nodes("pve2").qemu.post(vmid=100, name="one", net0="virtio,bridge=vmbr0"))
    assert finished(lab, api(lab).nodes("pve2").qemu(100).status.start.post()) == "bridge 'vmbr0' does not exist"
    lab.clear_faults()
    assert finished(lab, api(lab).nodes("pve2").qemu(100).status.start.post()) == "OK"


def test_a_bridge_that_is_down_is_shown_without_being_active(lab: Lab) -> None:
    def active() -> list[int | None]:
        return [one.get("active") for one in api(lab).nodes("pve1").network.get(type="any_bridge")]

    lab.fault("bridge-down", node="pve1", bridge="vmbr1")
    assert active() == [1, None]
    lab.clear_faults()
    assert active() == [1, 1]


def test_a_node_s_clock_and_the_release_that_nodes_call_themselves_by_can_be_wrong(lab: Lab) -> None:
    node = api(lab).nodes("pve2")
    before, release = node.time.get()["time"], node.version.get()["version"]
    lab.fault("host-clock", node="pve2", seconds=-540)
    lab.fault("other-release", version="8.1.4")
    assert -545 < node.time.get()["time"] - before < -535
    assert node.status.get()["pveversion"].startswith("pve-manager/8.1.4/")
    lab.clear_faults()
    assert abs(node.time.get()["time"] - before) < 5
    assert node.version.get()["version"] == release


def test_a_stuck_guest_has_neither_ssh_nor_agent(lab: Lab) -> None:
    lab.reset("stopped")
    lab.fault("stuck-boot", vm="k3s-vm-pve3")
    assert finished(lab, api(lab).nodes("pve3").qemu(102).status.start.post()) == "OK"
    after_minutes(lab, 5)
    with pytest.raises(ResourceException, match="QEMU guest agent is not running"):
        api(lab).nodes("pve3").qemu(102).agent.ping.post()
    assert not lab.snapshot()["k3s"][0]["nodes"]["k3s-vm-pve3"]["ready"]
    lab.clear_faults()
    finished(lab, api(lab).nodes("pve3").qemu(102).status.reset.post())
    lab.wait_until(lambda _: lab.snapshot()["k3s"][0]["nodes"]["k3s-vm-pve3"]["ready"])


@pytest.mark.parametrize(
    ("how", "seen"),
    [("missing", "404"), ("wrong-checksum", "other content"), ("truncated", "broken off"), ("cut-once", "broken off")],
)
def test_a_broken_image_server_is_broken_in_that_way(lab: Lab, how: str, seen: str) -> None:
    good = requests.get(lab.env["ISO_URL"], timeout=5).content
    lab.fault("image-broken", how=how)
    assert _downloaded(lab.env["ISO_URL"], good) == seen
    lab.clear_faults()
    assert _downloaded(lab.env["ISO_URL"], good) == "good"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "the list: 404"),
        ("unsigned", "the signature: 404"),
        ("altered", "does not fit"),
        ("garbled", "does not fit"),
        ("web-page", "no signature"),
        ("other-key", "does not fit"),
        ("expired-key", "good, of an expired key"),
        ("revoked-key", "good, of a revoked key"),
        ("weak", "good, over SHA-1"),
        ("expired", "good, of a day"),
        ("unlisted", "good, not about the image"),
    ],
)
def test_broken_sums_are_broken_in_that_way(lab: Lab, how: str, said: str) -> None:
    assert _signed(lab) == "good"
    lab.fault("sums-broken", how=how)
    assert _signed(lab) == said
    lab.clear_faults()
    assert _signed(lab) == "good"


def _signed(lab: Lab) -> str:
    """What an OpenPGP library makes of the list, its signature and the key in the `.env`."""
    url = lab.env["ISO_URL"].rpartition("/")[0] + "/SHA256SUMS"
    sums, signature = requests.get(url, timeout=5), requests.get(f"{url}.gpg", timeout=5)
    if sums.status_code != 200 or signature.status_code != 200:
        return "the list: 404" if sums.status_code == 404 else "the signature: 404"
    key, _ = SignedPublicKey.from_armor(Path(lab.env["IMAGE_SIGNING_KEY"]).read_text())
    assert key.fingerprint.upper() == lab.env["IMAGE_SIGNING_FINGERPRINT"]
    key.verify_bindings()
    try:
        made, _ = DetachedSignature.from_armor(signature.text)
    except ValueError:
        return "no signature"
    try:
        made.verify(key, sums.content)
    except ValueError:
        return "does not fit"
    if lab.env["ISO_NAME"] not in sums.text:
        return "good, not about the image"
    if made.signature.hash_alg() == "sha1":
        return "good, over SHA-1"
    if made.signature.signature_expiration_time() == 86_400:
        return "good, of a day"
    if key.details.revocation_signatures:
        return "good, of a revoked key"
    return "good, of an expired key" if key.details.users[0].signatures[0].key_expiration_time() else "good"


def test_a_renewed_image_is_known_by_new_checksums_that_were_signed_later(lab: Lab) -> None:
    before, old = requests.get(lab.env["ISO_URL"], timeout=5), _signed_at(lab)
    lab.fault("image-renewed", days=12)
    after = requests.get(lab.env["ISO_URL"], timeout=5)
    assert (before.content != after.content, _signed(lab)) == (True, "good")
    assert _signed_at(lab) - old == 12 * 86_400
    assert before.headers["ETag"] != after.headers["ETag"]
    lab.clear_faults()
    assert requests.get(lab.env["ISO_URL"], timeout=5).content == before.content


def _signed_at(lab: Lab) -> int:
    text = requests.get(lab.env["ISO_URL"].rpartition("/")[0] + "/SHA256SUMS.gpg", timeout=5).text
    return DetachedSignature.from_armor(text)[0].signature.created() or 0


def _downloaded(url: str, good: bytes) -> str:
    try:
        answer = requests.get(url, timeout=5)
    except requests.exceptions.ChunkedEncodingError:
        return "broken off"
    if answer.status_code != 200:
        return str(answer.status_code)
    return "good" if answer.content == good else "other content"


def test_an_unreadable_token_is_one_that_sudo_will_not_show(lab: Lab) -> None:
    lab.fault("join-fails", how="token-unreadable")
    read = ssh(lab, f"ubuntu@{lab.env['K3S_EXISTING_NODE_IP']}", "sudo -n cat /var/lib/rancher/k3s/server/node-token")
    assert (read.returncode, read.stdout, read.stderr) == (1, "", "sudo: a password is required\n")


def test_an_existing_server_that_is_down_refuses_and_comes_back(lab: Lab) -> None:
    lab.fault("join-fails", how="server-down")
    existing = lab.env["K3S_EXISTING_NODE_IP"]
    assert (knock(existing, 6443), knock(existing, 2222)) == ("refused", "refused")
    lab.clear_faults()
    lab.wait_until(lambda _: knock(existing, 6443) == "open")
    assert knock(existing, 2222) == "open"


def test_k3s_that_crashes_never_becomes_ready(lab: Lab) -> None:
    lab.reset("stopped")
    lab.fault("join-fails", how="k3s-crash", vm="k3s-vm-pve3")
    finished(lab, api(lab).nodes("pve3").qemu(102).status.start.post())
    guest = lab.look(lambda world: world.guests.machine_in(world.vms[102]))  # type: ignore[attr-defined]
    lab.wait_until(lambda _: guest.systemd.find("k3s-agent").restarts >= 3)
    assert not lab.snapshot()["k3s"][0]["nodes"]["k3s-vm-pve3"]["ready"]


def test_a_missing_agent_does_not_answer(lab: Lab) -> None:
    lab.reset("healthy")
    lab.fault("agent-missing", vm="k3s-vm-pve2")
    with pytest.raises(ResourceException, match="QEMU guest agent is not running"):
        api(lab).nodes("pve2").qemu(101).agent.ping.post()
    assert api(lab).nodes("pve1").qemu(100).agent.ping.post() == {"result": {}}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("node-down", {"node": "nobody"}, "no node 'nobody'; there are: pve1, pve2, pve3"),
        ("node-down", {"node": "pve1", "mode": "sleep"}, "mode=sleep: give refused or hang"),
        ("storage-full", {"node": "pve1", "storage": "local-zfs"}, "no storage 'local-zfs' on pve1"),
        ("bridge-missing", {"node": "pve1", "bridge": "vmbr9"}, "no bridge 'vmbr9' on pve1"),
        ("bridge-down", {"node": "pve1", "bridge": "vmbr9"}, "no bridge 'vmbr9' on pve1"),
        ("image-broken", {"how": "melted"}, "how=melted: give truncated, wrong-checksum, missing, web-page"),
        ("join-fails", {"how": "magic"}, "how=magic: give token-unreadable, server-down or k3s-crash"),
        ("task-fails", {}, "fault task-fails needs kind=..."),
        ("storage-offline", {"storage": "local"}, "no shared storage 'local'"),
        ("token-lacks", {"privileges": "VM.Fly"}, "no privilege 'VM.Fly' in Proxmox VE 9.2"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(lab: Lab, name: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UnknownChoice) as refused:
        lab.fault(name, **options)
    assert said in str(refused.value)
