"""Who may give which tags to a VM: the options user-tag-access and registered-tags. Source: PVE/GuestHelpers.pm."""

from __future__ import annotations

import pytest

from replay.stage import Reply, Stage

VM = "/nodes/pve1/qemu/100"


def options(stage: Stage, **given: str) -> None:
    words = " ".join(f"--{name.replace('_', '-')} '{value}'" for name, value in given.items())
    assert stage.line(f"pvesh set /cluster/options {words}").exit_code == 0


def tagged(stage: Stage, tags: str, who: str = "svc-token") -> Reply:
    return stage.ask("PUT", f"{VM}/config", who, params={"tags": tags})


@pytest.fixture
def with_vm(stage: Stage) -> Stage:
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "100", "tags": "there"})
    return stage


@pytest.mark.parametrize(
    ("choice", "denied"),
    [
        ("user-allow=free", ""),
        ("user-allow=existing,user-allow-list=known", "new"),
        ("user-allow=existing,user-allow-list=known;new", ""),
        ("user-allow=list,user-allow-list=known", "new"),
        ("user-allow=list,user-allow-list=new;known", ""),
        ("user-allow=none,user-allow-list=known;new", "known"),
    ],
)
def test_tag_is_chosen_from_what_the_option_allows(with_vm: Stage, choice: str, denied: str) -> None:
    options(with_vm, user_tag_access=choice)
    reply = tagged(with_vm, "known;new;there")
    said = f"Permission check failed (/, Sys.Modify for modifying tag '{denied}')"
    assert (reply.status, reply.reason) == ((403, said) if denied else (200, "OK"))
    assert tagged(with_vm, "anything", "root-token").status == 200


def test_tag_that_stays_is_not_asked_about(with_vm: Stage) -> None:
    options(with_vm, user_tag_access="user-allow=list,user-allow-list=new")
    assert tagged(with_vm, "there;new").status == 200
    assert tagged(with_vm, "new").reason == "Permission check failed (/, Sys.Modify for modifying tag 'there')"


def test_registered_tag_is_for_those_who_may_modify_the_cluster(with_vm: Stage) -> None:
    options(with_vm, registered_tags="prod;test")
    assert tagged(with_vm, "there;prod").reason.endswith("modifying tag 'prod')")
    made = with_vm.ask("POST", "/nodes/pve1/qemu", "svc-token", params={"vmid": "101", "tags": "prod"})
    assert made.reason.endswith("modifying tag 'prod')")
    assert tagged(with_vm, "there;prod", "root-token").status == 200


def test_options_are_shown_as_far_as_the_caller_may_see_them(with_vm: Stage) -> None:
    options(with_vm, registered_tags="test;prod", user_tag_access="user-allow=list,user-allow-list=one;prod")
    assert with_vm.ask("GET", "/cluster/options").json["data"] == {
        "allowed-tags": ["one", "prod", "test", "there"],
        "keyboard": "en-us",
        "mac_prefix": "BC:24:11",
        "registered-tags": ["prod", "test"],
        "user-tag-access": {"user-allow": "list", "user-allow-list": ["one", "prod"]},
    }
    assert with_vm.ask("GET", "/cluster/options", "svc-token").json["data"] == {"allowed-tags": ["one"]}
    options(with_vm, delete="registered-tags", user_tag_access="user-allow=none")
    assert with_vm.ask("GET", "/cluster/options", "svc-token").json["data"] == {"allowed-tags": []}


def test_option_that_cannot_be_so_is_refused(stage: Stage) -> None:
    refused = stage.line("pvesh set /cluster/options --user-tag-access user-allow=some")
    assert refused.exit_code == 255 and "user-tag-access" in refused.err
