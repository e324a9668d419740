"""The check of requests against the published schema, held to what Proxmox VE itself took and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pvelab.requestlog import Request
from support.request_check import request_findings
from support.schema_check import RELEASES, request_problems
from support.tool_words import command_problems

RECORDINGS = Path(__file__).parents[1] / "recordings"
RECORDED_RELEASE = "9.2"
UPID_TOKEN = re.compile(r"<UPID:(.*?)>")
OF_THE_SCHEMA = re.compile(
    r"property is |type check |value must |value does not |value may only |invalid format - |' does not have a value"
    r"|unable to parse option|not enough arguments|too many arguments"
)
"""The words of refusals that the schema alone decides; others depend on what there is."""
TOKENS_OF_A_USER = "access.token_list"
"""Its path has two placeholders and is not in the extract."""
OTHER_COMMANDS = {"cli.pvesh.ls", "cli.qm.help_status"}
"""Commands that stand for no API method."""


def recorded(via: str) -> Iterator[dict[str, Any]]:
    for file in sorted(RECORDINGS.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            case = json.loads(line)
            if case["via"] == via:
                yield case


def as_sent(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as they travel in a form."""
    return {
        name: "\0".join(value) if isinstance(value, list) else str(int(value) if isinstance(value, bool) else value)
        for name, value in params.items()
    }


def problems(case: Mapping[str, Any]) -> list[str]:
    request = case["request"]
    if case["via"] == "cli":
        return command_problems(RECORDED_RELEASE, request["argv"], "pve1")
    path = UPID_TOKEN.sub(r"UPID:pve1:00000001:00000001:00000001:\1:", request["path"])
    return request_problems(RECORDED_RELEASE, request["method"], path, as_sent(request.get("params") or {}))


def test_no_request_that_was_answered_is_found_fault_with() -> None:
    answered = [case for case in recorded("api") if case["response"]["status"] == 200]
    assert len(answered) > 200
    faulted = {case["id"]: problems(case) for case in answered if problems(case)}
    assert set(faulted) == {TOKENS_OF_A_USER}


def test_every_request_refused_by_the_schema_is_found_fault_with() -> None:
    refused = [
        case
        for case in recorded("api")
        if OF_THE_SCHEMA.search(str(case["response"].get("json", {}).get("errors")))
        or case["response"]["status"] == 501
    ]
    assert len(refused) > 40
    assert [case["id"] for case in refused if not problems(case)] == []


def test_no_command_that_ended_well_is_found_fault_with() -> None:
    ended_well = [case for case in recorded("cli") if case["response"]["rc"] == 0]
    assert len(ended_well) > 80
    assert {case["id"]: problems(case) for case in ended_well if problems(case)}.keys() == OTHER_COMMANDS


def test_every_command_refused_by_the_schema_is_found_fault_with() -> None:
    refused = [case for case in recorded("cli") if OF_THE_SCHEMA.search(case["response"]["stderr"])]
    assert len(refused) > 10
    assert [case["id"] for case in refused if not problems(case)] == []


@pytest.mark.parametrize(
    ("params", "finding"),
    [
        ({"onboot": "yes"}, "onboot: 'yes' is neither 0 nor 1"),
        ({"scsi31": "local:1"}, "scsi31: no such parameter"),
        ({"net0": "virtio,brigde=vmbr0"}, "brigde: no such parameter (in 'virtio,brigde=vmbr0')"),
        ({"net0": "bridge=vmbr0"}, "model: is missing (in 'bridge=vmbr0')"),
        ({"cpu": "hosts"}, "cputype: 'hosts' does not match"),
        ({"ipconfig0": "ip=192.0.2.7"}, "ip: '192.0.2.7' is no pve-ipv4-config"),
        ({"ipconfig0": "gw=192.0.2.1"}, "gw: needs ip"),
        ({"boot": "order=scsi0;wheel0"}, "order: 'scsi0;wheel0' is no pve-boot-devices"),
        ({"tags": "a;b c;ü"}, "tags: 'ü' is no pve-tag"),
        ({"sshkeys": "ssh-ed25519 AAAA"}, "sshkeys: 'ssh-ed25519 AAAA' is no urlencoded"),
        ({"memory": "15"}, "current: 15 is below 16"),
    ],
)
def test_a_create_with_a_slip_in_it_is_found_in_both_releases(params: dict[str, str], finding: str) -> None:
    for release in RELEASES:
        [found] = request_problems(release, "POST", "/nodes/pve1/qemu", {"vmid": "100", **params})
        assert found.startswith(finding) or finding in found


def test_what_only_the_newer_release_has_is_found_in_the_older_one() -> None:
    request = Request(
        "api", "pve1", "create", "POST", "/nodes/pve1/qemu", {"vmid": "100", "allow-ksm": "1"}, status=200
    )
    assert request_findings([request, request]) == ["8.4: POST /nodes/pve1/qemu: allow-ksm: no such parameter"]


@pytest.mark.parametrize(
    ("argv", "finding"),
    [
        (("qm", "set", "100", "--onbot", "1"), "onbot: no such option"),
        (("qm", "resize", "100", "scsi0", "10GB"), "size: '10GB' does not match"),
        (("qm", "resize", "100", "10G"), "2 words where 3 belong: 100 10G"),
        (("pvesh", "get", "/nodes/pve1/qemus"), "there is no GET /nodes/pve1/qemus"),
        (("pvesh", "get", "/nodes/localhost/qemu", "--output-format", "xml"), "output-format: 'xml' is none of"),
        (("/usr/sbin/pvesm", "free", "100"), "volume: '100' is no pve-volume-id"),
        (("qm", "fly", "100"), "there is no qm fly"),
    ],
)
def test_a_command_with_a_slip_in_it_is_found_in_both_releases(argv: tuple[str, ...], finding: str) -> None:
    request = Request("ssh", "pve1", "a line", programs=(("sudo", "-n", *argv), argv))
    found = request_findings([request])
    assert len(found) == len(RELEASES)
    assert all(finding in one for one in found)


def test_parameters_that_nobody_read_are_not_judged() -> None:
    request = Request("api", "pve1", "create", "POST", "/nodes/pve1/qemu", {}, status=401)
    assert request_findings([request]) == []
