"""What the tool asks of the API of a fresh cluster, put to an emulator that shares nothing with the lab: fakepve."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from e2e.conftest import Homelab
from pvelab.lab import Lab
from pvelab.requestlog import Request

SERVER = Path(__file__).parents[1] / "support" / "second_opinion_server.py"
UPID = re.compile(r"UPID:(?P<node>[^:]+):[^:]+:[^:]+:[^:]+:(?P<type>[^:]+):(?P<id>[^:]*):[^:]+:")
REFUSALS = (400, 404, 501)
"""Parameter verification failed, and no such path or method: what only the request itself can be blamed for."""
NOT_MODELLED = re.compile(r"/nodes/[^/]+/storage/[^/]+/upload")
"""fakepve refuses an upload of `import` content although its own schema lists it."""


class SecondOpinion:
    """The server, asked what the lab was asked."""

    def __init__(self, url: str, lab: Lab) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = lab.env["PROXMOX_CA_BUNDLE"]
        self._session.headers["Authorization"] = f"PVEAPIToken={lab.env['API_TOKEN']}"
        self._tasks: dict[tuple[str, ...], str] = {}

    def close(self) -> None:
        self._session.close()

    def vm_names(self) -> set[str]:
        """The VMs that it has by now."""
        found = self._session.get(f"{self._url}/api2/json/cluster/resources", params={"type": "vm"}, timeout=10)
        return {vm["name"] for vm in found.json()["data"]}

    def refusal(self, request: Request) -> str:
        """What is said against a request; nothing if it is taken."""
        params = dict(request.params)
        query, form = (params, {}) if request.method in ("GET", "DELETE") else ({}, params)
        path = UPID.sub(lambda lab_upid: self._tasks.get(lab_upid.groups(), lab_upid[0]), request.path)
        answer = self._session.request(
            request.method, f"{self._url}/api2/json{path}", params=query, data=form, timeout=10
        )
        started = UPID.search(answer.text)
        if started and request.method != "GET":
            self._tasks[started.groups()] = started[0]
        return f"{request.what} {params}: {answer.text}" if answer.status_code in REFUSALS else ""


@pytest.fixture
def second_opinion(lab: Lab) -> Iterator[SecondOpinion]:
    token, _, secret = lab.env["API_TOKEN"].partition("=")
    host, papers = lab.network.node(1), lab.folder / "tls" / "pve1"
    storages = {
        name: {"type": storage.type, "content": ",".join(storage.content)}
        for name, (storage, _) in lab.spec.storages.items()
    }
    setting = {
        "host": host,
        "certificate": f"{papers}.pem",
        "key": f"{papers}.key",
        "token": token,
        "secret": secret,
        "nodes": [node.name for node in lab.spec.nodes],
        "storages": storages,
    }
    command = [sys.executable, str(SERVER), json.dumps(setting)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            opinion = SecondOpinion(f"https://{host}:{int(server.stdout.readline())}", lab)
            yield opinion
            opinion.close()
        finally:
            server.kill()


def test_no_request_of_a_fresh_run_is_refused_by_another_emulator(
    homelab: Homelab, lab: Lab, second_opinion: SecondOpinion
) -> None:
    assert homelab("--via", "api").exit_code == 0
    asked = [one for one in lab.requests if one.via == "api" and not NOT_MODELLED.fullmatch(one.path)]
    assert {one.method for one in asked} >= {"GET", "POST", "PUT"}
    assert list(filter(None, map(second_opinion.refusal, asked))) == []
    assert second_opinion.vm_names() == {"k3s-vm-pve1", "k3s-vm-pve2", "k3s-vm-pve3"}


def test_the_other_emulator_refuses_a_slip(second_opinion: SecondOpinion) -> None:
    path = "/nodes/pve1/qemu"
    slip = Request("api", "pve1", "create", "POST", path, {"vmid": "100", "onbot": "1"})
    assert "onbot" in second_opinion.refusal(slip)
    assert "Not Found" in second_opinion.refusal(Request("api", "pve1", "nothing", "GET", f"{path}s"))
