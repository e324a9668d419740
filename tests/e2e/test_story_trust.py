"""trust: a person at the terminal vouches for one node, that node for the others; what changes stops its node."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path

from e2e.conftest import Homelab
from e2e.world import nodes_with_running_vm, ready_members
from pvelab.lab import Lab

COMMAND = "poetry run python -m homelab.main trust"
STRANGE: dict[str, str | None] = {"PROXMOX_CA_BUNDLE": None, "SSH_KNOWN_HOSTS": None}
"""A lab of which nothing is known beforehand."""
VMS_ONLY = {**STRANGE, "K3S_EXISTING_NODE_IP": None}
QUESTION = "[y/N]"
NODES = ("pve1", "pve2", "pve3")


def folder(homelab: Homelab) -> Path:
    return homelab.home / "state" / "homelab" / "trust"


def certificate(lab: Lab, number: int) -> str:
    """What a node's API shows now, as another client sees it."""
    pem = ssl.get_server_certificate((lab.network.node(number), 8006))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()


def trusted(homelab: Homelab) -> None:
    """All is trusted: the first node's certificate and host key, its word for the others, the k3s server's host key."""
    assert homelab.at_terminal("y\n" * 4, "trust", **STRANGE).exit_code == 0


def tamper(homelab: Homelab, address: str) -> None:
    """Another host key was trusted at an address than the one that is shown there."""
    path = folder(homelab) / "known_hosts"
    lines = path.read_text().splitlines()
    other = next(line.split()[2] for line in lines if address not in line)
    changed = [f"{line.rpartition(' ')[0]} {other}" if address in line else line for line in lines]
    path.write_text("\n".join([*changed, ""]))


def writes_on(lab: Lab, node: str) -> list[object]:
    return [write for write in lab.writes if getattr(write, "node", "") == node]


def test_one_node_that_a_person_trusts_vouches_for_the_others_and_no_run_asks_again(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    first = homelab.at_terminal("y\n" * 4, "trust", **STRANGE)

    assert first.exit_code == 0, first.text
    assert first.err.count(QUESTION) == 4
    assert "openssl x509 -in /etc/pve/local/pve-ssl.pem -noout -fingerprint -sha256" in first.err
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in first.err
    assert first.out.count("trusted: by your answer") == 3
    assert first.out.count("trusted: pve2, as pve1 says") == first.out.count("trusted: pve3, as pve1 says") == 2
    assert certificate(lab, 1) in first.err
    assert lab.env["API_TOKEN"].rpartition("=")[2] not in first.text
    assert {path.stat().st_mode & 0o777 for path in folder(homelab).iterdir()} == {0o600}
    assert lab.writes == []

    run = homelab.at_terminal("", **STRANGE)

    assert run.exit_code == 0, run.text
    assert QUESTION not in run.err
    assert "CLI fallback" not in run.err
    assert run.out.count("is healthy, skipping") == 3
    kept = next(folder(homelab).glob("pve-root-ca-*.pem"))
    assert f"PROXMOX_CA_BUNDLE={kept}" in first.out
    assert homelab("trust", SSH_KNOWN_HOSTS=None, PROXMOX_CA_BUNDLE=str(kept)).out.count("PROXMOX_CA_BUNDLE") == 3


def test_nobody_is_asked_where_nobody_watches(lab: Lab, homelab: Homelab) -> None:
    at_terminal = [homelab.at_terminal("y\n" * 9, option, **STRANGE) for option in ("--cron", "--quiet", "--json")]

    for run in (homelab(**STRANGE), *at_terminal):
        assert run.exit_code == 1, run.text
        assert QUESTION not in run.text
        assert COMMAND in run.text
    assert not folder(homelab).exists()
    assert lab.writes == []


def test_trust_without_a_terminal_shows_everything_and_trusts_nothing(homelab: Homelab, lab: Lab) -> None:
    text, told = homelab("trust", **STRANGE), homelab.at_terminal("y\n" * 9, "trust", "--json", **STRANGE)

    assert (text.exit_code, told.exit_code) == (1, 1)
    assert f"run {COMMAND} on a terminal" in text.err
    assert text.out.count("NOT TRUSTED") == 7
    shown = json.loads(told.out)["shown"]
    assert [one["is_trusted"] for one in shown] == [False] * 7
    assert certificate(lab, 3) in shown[4]["fingerprint"]
    assert not folder(homelab).exists()


def test_what_the_trusted_node_does_not_say_is_asked_about(lab: Lab, homelab: Homelab) -> None:
    lab.fault("bad-certificate")

    run = homelab.at_terminal("y\ny\ny\nn\nn\nn\n", "trust", **STRANGE)

    assert run.exit_code == 1, run.text
    assert run.err.count("pve1 knows no such member of its cluster.") == 2
    assert run.out.count("as pve1 says") == 2
    assert run.out.count("NOT TRUSTED") == 3
    assert "PROXMOX_CA_BUNDLE" not in run.out
    assert "answer y to those that you have compared" in run.err


def test_node_that_tells_nothing_vouches_for_nobody_and_declined_once_it_is_not_proposed_again(
    lab: Lab, homelab: Homelab
) -> None:
    wrong = lab.env["API_TOKEN"].rpartition("=")[0] + "=00000000-0000-0000-0000-000000000000"

    mute = homelab.at_terminal("y\nn\ny\n", "trust", API_TOKEN=wrong, **STRANGE)
    declined = homelab.at_terminal("y\nn\ny\n", "trust", SSH_KNOWN_HOSTS=None)

    assert "401 Authentication failed!" in mute.err
    assert (mute.exit_code, declined.exit_code) == (1, 1)
    assert mute.err.count("without a question for each?") == declined.err.count("without a question for each?") == 1
    assert mute.out.count("by your answer") == 1
    assert declined.out.count("by your answer") == 2


def test_ssh_alone_suffices(homelab: Homelab) -> None:
    run = homelab.at_terminal("y\ny\ny\n", "trust", "--via", "ssh", **STRANGE)

    assert run.exit_code == 0, run.text
    assert "API" not in run.out
    assert run.out.count("as pve1 says") == 2


def test_what_is_not_reached_or_contradicts_env_is_told_without_a_question(lab: Lab, homelab: Homelab) -> None:
    lab.fault("api-down", node="pve3")
    lab.fault("ssh-refused", node="pve1")
    node = {f"NODE_HOST_{number}": lab.network.node(number) for number in (1, 2, 3)}
    pins = {"PROXMOX_FINGERPRINT_1": certificate(lab, 1), "PROXMOX_FINGERPRINT_2": certificate(lab, 1)}
    ghost = {"NODE_4": "pve4", "STORAGE_4": "local", "NODE_HOST_4": lab.network.node(4)}
    nowhere = {"K3S_EXISTING_NODE_IP": lab.network.outside(9)}

    run = homelab("trust", **node, **pins, **ghost, **nowhere)

    assert run.exit_code == 1
    assert "trusted: PROXMOX_FINGERPRINT_1" in run.out
    assert "NOT TRUSTED: it is not the one of PROXMOX_FINGERPRINT_2" in run.out
    assert "error: node pve4 is not reached" in run.err
    assert f"SSH to ubuntu@{lab.network.outside(9)}:2222: connection refused" in run.err
    assert "API" not in "".join(line for line in run.out.splitlines() if lab.network.node(3) in line)


def test_run_by_hand_offers_each_unknown_certificate_once_and_goes_on_without(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    declined = homelab.at_terminal("n\n" * 9, PROXMOX_CA_BUNDLE=None)
    agreed = homelab.at_terminal("y\n" * 9, PROXMOX_CA_BUNDLE=None)
    later = homelab(PROXMOX_CA_BUNDLE=None)

    assert (declined.exit_code, agreed.exit_code, later.exit_code) == (0, 0, 0)
    assert (declined.err.count(QUESTION), agreed.err.count(QUESTION)) == (3, 3)
    assert declined.err.count(f"With {COMMAND} one trusted node can vouch for the others.") == 1
    assert declined.err.count("using CLI fallback") == 3
    assert "CLI fallback" not in agreed.text + later.text


def test_run_by_hand_offers_each_unknown_host_key_once(lab: Lab, homelab: Homelab) -> None:
    lab.reset("healthy")

    declined = homelab.at_terminal("n\n" * 9, "--via", "ssh", SSH_KNOWN_HOSTS=None)
    agreed = homelab.at_terminal("y\n" * 9, "--via", "ssh", SSH_KNOWN_HOSTS=None)

    assert declined.exit_code == 1, declined.text
    assert COMMAND in declined.err
    assert agreed.exit_code == 0, agreed.text
    assert homelab("--via", "ssh", SSH_KNOWN_HOSTS=None).exit_code == 0


def test_changed_certificate_stops_its_node_until_a_person_accepts_it(lab: Lab, homelab: Homelab) -> None:
    trusted(homelab)
    before = certificate(lab, 1)
    lab.fault("bad-certificate", node="pve1")

    run = homelab(**VMS_ONLY)

    assert run.exit_code == 3, run.text
    assert "its certificate has changed" in run.err
    assert "pvenode cert info" in run.err
    assert COMMAND in run.err
    assert "using CLI fallback" not in run.err
    assert nodes_with_running_vm(lab) == ["pve2", "pve3"]
    assert writes_on(lab, "pve1") == []

    shown = homelab.at_terminal("y\nn\n", "trust", **VMS_ONLY)
    assert f"now:    SHA-256 {certificate(lab, 1)}\n  before: SHA-256 {before}" in shown.err
    assert shown.exit_code == 0, shown.text
    later = homelab("--dry-run", **VMS_ONLY)
    assert (later.exit_code, "CLI fallback" in later.err) == (0, False)

    (folder(homelab) / "certificates.json").write_text("{")
    assert "warning: whom you trusted before cannot be told: " in homelab("--dry-run", **STRANGE).err


def test_changed_certificate_that_env_pins_stops_its_node_too(lab: Lab, homelab: Homelab) -> None:
    run = homelab(PROXMOX_FINGERPRINT_2=certificate(lab, 1), K3S_EXISTING_NODE_IP=None)

    assert run.exit_code == 3, run.text
    assert "correct PROXMOX_FINGERPRINT_2" in run.err
    assert "using CLI fallback" not in run.err
    assert writes_on(lab, "pve2") == []


def test_changed_certificates_everywhere_stop_the_run(lab: Lab, homelab: Homelab) -> None:
    trusted(homelab)
    lab.fault("bad-certificate")

    run = homelab(**VMS_ONLY)

    assert run.exit_code == 1, run.text
    assert run.err.count("its certificate has changed") >= 1
    assert lab.writes == []


def test_changed_host_key_stops_its_node(lab: Lab, homelab: Homelab, via: str) -> None:
    trusted(homelab)
    tamper(homelab, lab.network.node(2))

    run = homelab("--via", via, **VMS_ONLY)

    assert run.exit_code == 3, run.text
    assert "its host key has changed" in run.err
    assert COMMAND in run.err
    assert nodes_with_running_vm(lab) == ["pve1", "pve3"]
    assert writes_on(lab, "pve2") == []

    deleted = homelab.delete("pve2", "100", "--yes", "--via", via, ask=None, **STRANGE)
    assert (deleted.exit_code, "its host key has changed" in deleted.err) == (1, True)
    assert writes_on(lab, "pve2") == []
    told = homelab("doctor", "--via", via, **VMS_ONLY)
    assert (told.exit_code, told.out.count("its host key has changed")) == (1, 1), told.out


def test_changed_host_key_of_a_k3s_server_keeps_vms_from_joining_it(lab: Lab, homelab: Homelab) -> None:
    trusted(homelab)
    tamper(homelab, lab.network.outside(1))

    run = homelab(**STRANGE)

    assert run.exit_code == 3, run.text
    assert "its host key has changed" in run.err
    assert ready_members(lab) == {"k3s-server"}
    assert nodes_with_running_vm(lab) == list(NODES)

    assert homelab.at_terminal("y\n", "trust", **STRANGE).exit_code == 0
