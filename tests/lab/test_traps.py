"""Traps see every request as it comes in, and decide what happens to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests

from lab.lab_clients import PATIENCE_S, address, ssh, version
from pvelab.interception import Arrival
from pvelab.lab import Lab
from pvelab.state import Action


@dataclass(slots=True)
class Trap:
    """Does one thing to every request, and notes what came, and when a connection was cut."""

    action: Action | None
    came: list[str] = field(default_factory=list)

    def take(self, arrival: Arrival) -> Action | None:
        self.came.append(f"{arrival.machine}: {arrival.method} {arrival.path or arrival.command_line}")
        return self.action


def on_node(lab: Lab, command: str) -> subprocess.CompletedProcess[str]:
    return ssh(lab, f"root@{address(lab)}", command)


def create(lab: Lab) -> requests.Response:
    return requests.post(
        f"https://{address(lab)}:{lab.env['PROXMOX_PORT']}/api2/json/nodes/pve1/qemu",
        data={"vmid": "100"},
        headers={"Authorization": f"PVEAPIToken={lab.env['API_TOKEN']}"},
        verify=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=PATIENCE_S,
    )


@pytest.fixture(autouse=True)
def no_trap_stays(lab: Lab) -> Iterator[None]:
    yield
    lab.clear_faults()


def test_a_trap_sees_requests_on_both_wires_and_lets_them_through(lab: Lab) -> None:
    trap = Trap(None)
    lab.trap(trap)

    assert version(lab).ok
    assert on_node(lab, "hostname").stdout.strip() == "pve1"

    assert trap.came == ["pve1: GET /version", "pve1:  hostname"]
    lab.clear_faults()
    assert version(lab).ok
    assert len(trap.came) == 2


def test_who_cuts_a_connection_is_told_after_the_work_and_before_the_client_is(lab: Lab) -> None:
    cut: list[bool] = []
    action = Action("reset-after", when_cut=lambda: cut.append(100 in lab.snapshot()["vms"]))
    lab.trap(Trap(action))

    with pytest.raises(requests.ConnectionError):
        create(lab)
    assert on_node(lab, "true").returncode == 255

    assert cut == [True, True]


def test_an_altered_answer_is_carried_out_and_arrives_otherwise(lab: Lab) -> None:
    lab.trap(Trap(Action("altered", alter=lambda answer: b"<html>" + answer[:3])))

    page = create(lab)
    printed = on_node(lab, "hostname").stdout

    assert (page.status_code, page.text[:6]) == (200, "<html>")
    assert printed == "<html>pve"
    assert 100 in lab.snapshot()["vms"]
