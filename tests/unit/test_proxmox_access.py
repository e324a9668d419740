"""What Proxmox says of who may what: asked with the token, never of root over SSH."""

from __future__ import annotations

from typing import Any

import pytest

from homelab.errors import Misunderstood, Refused
from homelab.models import TagRules
from homelab.proxmox.access import HOLDS_S
from homelab.proxmox.client import Proxmox
from homelab.proxmox.transport import Link
from homelab.settings import ApiToken, Secret, Via
from support.clock import SteppingClock
from support.fake_transport import FakeTransport, Turns

TOKEN = ApiToken("svc@pve", "home", Secret("5ecret"))


def read(path: str, answer: Any) -> Proxmox:
    wire = FakeTransport({f"GET {path}": answer})
    return Proxmox({"pve1": Link("pve1", wire, wire, Via.AUTO, lambda *_: None)}, SteppingClock())


def test_every_vm_is_seen_with_what_holds_for_all_of_them() -> None:
    some = {"/vms": {"VM.Audit": 1, "VM.PowerMgmt": 0}}
    assert read("/access/permissions", some).sees_all_vms()
    assert read("/access/permissions", some).granted("/vms") == some["/vms"]
    assert not read("/access/permissions", {"/vms": {"VM.Audit": 0}}).sees_all_vms()
    assert not read("/access/permissions", {}).sees_all_vms()


def test_root_sees_all_of_them_and_is_not_asked() -> None:
    wire = FakeTransport({})
    by_ssh = Proxmox({"pve1": Link("pve1", None, wire, Via.SSH, lambda *_: None)}, SteppingClock())
    assert by_ssh.sees_all_vms()
    assert wire.calls == []


def test_root_on_one_node_does_not_hide_that_the_token_sees_too_little_by_another() -> None:
    by_ssh, by_api = FakeTransport({}), FakeTransport({"GET /access/permissions": {"/vms": {}}})
    links = {
        "pve1": Link("pve1", None, by_ssh, Via.AUTO, lambda *_: None),
        "pve2": Link("pve2", by_api, by_api, Via.AUTO, lambda *_: None),
    }
    pve = Proxmox(links, SteppingClock())
    assert not pve.sees_all_vms()
    assert pve.granted("/vms", "svc@pve") == {}
    assert by_ssh.calls == []
    assert [params for _, params in by_api.calls] == [{"path": "/vms"}, {"path": "/vms", "userid": "svc@pve"}]


def test_many_questions_about_a_node_are_its_own_and_another_one_answers_for_it() -> None:
    wires = {name: FakeTransport({"GET /access/permissions": {"/vms": {name: 1}}}) for name in ("pve1", "pve2")}
    links = {name: Link(name, wire, None, Via.API, lambda *_: None) for name, wire in wires.items()}

    told = [Proxmox(links, SteppingClock()).granted("/vms", node=node) for node in ("pve2", "pve1", "pve3", "")]

    assert told == [{"pve2": 1}, {"pve1": 1}, {"pve1": 1}, {"pve1": 1}]


def test_what_was_granted_is_asked_again_after_a_second_and_whether_all_vms_are_seen_each_time() -> None:
    wire, clock = FakeTransport({"GET /access/permissions": {"/vms": {"VM.Audit": 1}}}), SteppingClock()
    pve = Proxmox({"pve1": Link("pve1", wire, None, Via.API, lambda *_: None)}, clock)

    assert [pve.granted("/vms", node=node) for node in ("pve1", "pve2", "")] == [{"VM.Audit": 1}] * 3
    assert len(wire.calls) == 1
    assert pve.sees_all_vms()
    assert pve.sees_all_vms()
    assert len(wire.calls) == 3
    clock.sleep(HOLDS_S)
    assert pve.granted("/vms") == {"VM.Audit": 1}
    assert len(wire.calls) == 4


def test_what_could_not_be_read_is_asked_again() -> None:
    refused = Refused("GET /cluster/options", "permission check failed", "", status=403)
    wire = FakeTransport({"GET /cluster/options": Turns(refused, {"registered-tags": ["homelab"]})})
    pve = Proxmox({"pve1": Link("pve1", wire, None, Via.API, lambda *_: None)}, SteppingClock())

    with pytest.raises(Refused):
        pve.tag_rules()

    assert pve.tag_rules().reserved == {"homelab"}
    assert pve.tag_rules().reserved == {"homelab"}
    assert len(wire.calls) == 2


def test_release_is_the_one_that_everybody_may_see() -> None:
    assert read("/version", {"release": "8.4", "version": "8.4.14"}).release("pve1") == "8.4"


def test_roles_are_listed_with_their_privileges() -> None:
    listed = [{"roleid": "Own", "privs": "VM.Audit,SDN.Use"}, {"roleid": "NoAccess", "privs": ""}]
    assert read("/access/roles", listed).roles() == {"Own": {"VM.Audit", "SDN.Use"}, "NoAccess": frozenset()}


@pytest.mark.parametrize(
    ("users", "is_separated"),
    [
        ([{"userid": "svc@pve", "tokens": [{"tokenid": "home", "privsep": 1}]}], True),
        ([{"userid": "root@pam"}, {"userid": "svc@pve", "tokens": [{"tokenid": "home", "privsep": 0}]}], False),
        ([{"userid": "root@pam", "tokens": [{"tokenid": "home", "privsep": 1}]}], None),
        ([], None),
    ],
)
def test_a_token_is_separated_or_not_or_is_not_shown(users: Any, is_separated: bool | None) -> None:
    assert read("/access/users", users).is_separated(TOKEN) is is_separated


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ({}, TagRules()),
        ({"allowed-tags": ["a", "b"], "registered-tags": ["c"]},
         TagRules("free", frozenset(), frozenset("ab"), frozenset("c"))),
        ({"user-tag-access": {"user-allow": "list", "user-allow-list": ["a"]}, "registered-tags": "c;d"},
         TagRules("list", frozenset("a"), frozenset(), frozenset("cd"))),
    ],
)  # fmt: skip
def test_tag_rules_are_those_of_the_datacenter(options: Any, rules: TagRules) -> None:
    assert read("/cluster/options", options).tag_rules() == rules


@pytest.mark.parametrize("answer", [[], {"/vms": ["VM.Audit"]}, {"/vms": {"VM.Audit": "maybe"}}])
def test_an_answer_that_makes_no_sense_is_neither_yes_nor_no(answer: Any) -> None:
    with pytest.raises(Misunderstood):
        read("/access/permissions", answer).granted("/vms")
