"""What an API token has to be allowed for the VM of a node: every gap is named, with the commands that close it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from homelab.errors import HomelabError, Refused, TimedOut, Unreachable
from homelab.models import BridgeState, StorageState, TagRules, Wire
from homelab.preflight import granting, privileges, rights
from homelab.preflight.privileges import Holder, Lack, Need, Wanted
from homelab.proxmox.client import Proxmox
from homelab.settings import ApiToken, Secret
from unit.builders import NODE

TOKEN = ApiToken("svc@pve", "home", Secret("5ecret"))
WANTED = Wanted("pve1", "k3s-vm-pve1", 107, "local-zfs", "local", ("vmbr0", "vmbr1"))
MAY_NOT = Refused("GET /access/permissions", "Permission check failed (/access, Sys.Audit)", status=403)
NO_SSH = Unreachable("SSH to node pve1", "no SSH address of it answers")
FORBIDDEN = Refused("GET /access/roles", "no", status=403)


@dataclass
class Cluster:
    """What Proxmox says of a token: it and its user have all that is needed, but for what is listed by path."""

    token_lacks: Mapping[str, set[str]] = field(default_factory=dict)
    user_lacks: Mapping[str, set[str]] | HomelabError = field(default_factory=dict)
    separated: bool | HomelabError | None = True
    release_is: str = "9.2"
    via: Wire = Wire.API
    tags: TagRules = field(default_factory=TagRules)
    made_roles: Mapping[str, frozenset[str]] | HomelabError = field(default_factory=dict)
    ssh: HomelabError | None = NO_SSH
    shown: tuple[BridgeState, ...] | HomelabError = (BridgeState("vmbr1", is_active=True),)

    def wire(self, node: str) -> Wire:
        assert node == "pve1"
        return self.via

    def release(self, _node: str) -> str:
        return self.release_is

    def granted(self, path: str, user: str = "", *, node: str = "") -> Mapping[str, int]:
        assert node == "pve1"
        lacking = self.user_lacks if user else self.token_lacks
        if isinstance(lacking, HomelabError):
            raise lacking
        needed = privileges.needs(WANTED, privileges.major_of(self.release_is))
        held = {name for need in needed for name in need.privileges} - lacking.get(path, set())
        return dict.fromkeys(held, 1)

    def roles(self) -> Mapping[str, frozenset[str]]:
        if isinstance(self.made_roles, HomelabError):
            raise self.made_roles
        return self.made_roles

    def is_separated(self, token: ApiToken) -> bool | None:
        assert token == TOKEN
        if isinstance(self.separated, HomelabError):
            raise self.separated
        return self.separated

    def tag_rules(self) -> TagRules:
        return self.tags

    def bridges(self, _node: str) -> tuple[BridgeState, ...]:
        if isinstance(self.shown, HomelabError):
            raise self.shown
        return self.shown

    def root(self, _node: str) -> object:
        if self.ssh:
            raise self.ssh
        return object()


def judged(cluster: Cluster, wanted: Wanted = WANTED, token: ApiToken | None = TOKEN) -> rights.Judgement:
    return rights.judge(cast(Proxmox, cluster), token, wanted)


def said(cluster: Cluster, wanted: Wanted = WANTED) -> tuple[str, list[str]]:
    """Why the VM cannot be made, and the commands against it."""
    problem = judged(cluster, wanted).problem
    assert problem is not None and problem.what == "pve1: the API token may not make VM k3s-vm-pve1"
    return problem.why, problem.cure.split("; ")


@pytest.mark.parametrize("major", [8, 9])
def test_every_single_privilege_that_is_missing_is_named_and_nothing_else(major: int) -> None:
    for without in privileges.needs(WANTED, major):
        missing = privileges.lacking(
            privileges.needs(WANTED, major),
            lambda need, without=without: () if need == without else need.privileges[-1:],  # type: ignore[misc]
        )
        assert missing == (without,)


@pytest.mark.parametrize(
    ("major", "agent"),
    [(8, ["VM.Monitor"]), (9, ["VM.GuestAgent.Audit", "VM.GuestAgent.FileRead"])],
)
def test_the_guest_agents_privileges_are_those_of_the_release(major: int, agent: list[str]) -> None:
    named = [need.privilege for need in privileges.needs(WANTED, major) if need.without == privileges.UNASKED]
    assert named == agent
    role = granting.role_privileges(granting.WORK, major)
    assert set(agent) <= set(role) and "VM.GuestAgent.Unrestricted" not in role


@pytest.mark.parametrize(("release", "major"), [("8.2", 8), ("8.4", 8), ("9.2", 9), ("10.0", 10), ("", 9)])
def test_names_go_by_the_major_release_and_newer_ones_are_taken_for_the_newest(release: str, major: int) -> None:
    assert privileges.major_of(release) == major
    assert privileges.needs(WANTED, max(major, 9)) == privileges.needs(WANTED, 9)


def test_without_a_join_nobody_asks_a_guest_agent() -> None:
    alone = replace(WANTED, is_join_wanted=False)
    assert {need.without for need in privileges.needs(alone, 9)} == {"", privileges.BY_ROOT, privileges.UNNOTICED}
    assert alone.all_tags == {"homelab", "homelab-unfinished"}


def test_a_vm_without_a_vmid_yet_needs_what_holds_for_all_vms() -> None:
    for need in privileges.needs(replace(WANTED, vmid=0), 9):
        if need.path.startswith("/vms"):
            assert (need.path, need.is_below) == ("/vms", True)
    on_one_path = {"VM.Audit": 0, "VM.Allocate": 1}
    assert privileges.names_that_hold(on_one_path, is_below=True) == {"VM.Allocate"}
    assert privileges.names_that_hold(on_one_path, is_below=False) == {"VM.Audit", "VM.Allocate"}


def test_token_with_everything_may_make_the_vm() -> None:
    assert judged(Cluster()) == rights.Judgement()
    assert judged(Cluster(), replace(WANTED, has_start_order=True)).problem is not None


def test_root_over_ssh_is_not_asked_for_privileges() -> None:
    all_of_it = {need.path: set(need.privileges) for need in privileges.needs(WANTED, 9)}
    assert judged(Cluster(all_of_it, via=Wire.SSH)) == rights.Judgement()
    assert judged(Cluster(all_of_it), token=None) == rights.Judgement()


def test_all_gaps_are_told_at_once_with_the_commands_for_the_tokens_own_id() -> None:
    lacks = {"/vms/107": {"VM.Config.Disk"}, "/sdn/zones/localnetwork/vmbr1": {"SDN.Use"}, "/": {"Sys.Audit"}}
    why, cure = said(Cluster(lacks))

    assert why == (
        "it lacks Sys.Audit on /; VM.Config.Disk on /vms/107; SDN.Use on /sdn/zones/localnetwork/vmbr1; "
        "its user svc@pve has it, but the token was made with privileges of its own (privsep)"
    )
    privs = " ".join(granting.role_privileges(granting.WORK, 9))
    assert cure == [
        "pveum role add HomelabLook --privs 'Sys.Audit'",
        f"pveum role add Homelab --privs '{privs}'",
        "pveum acl modify / --tokens 'svc@pve!home' --roles HomelabLook",
        "pveum acl modify /vms --tokens 'svc@pve!home' --roles Homelab",
        "pveum acl modify /sdn/zones/localnetwork/vmbr1 --tokens 'svc@pve!home' --roles Homelab",
    ]
    assert judged(Cluster(lacks)).hidden == set(lacks)


@pytest.mark.parametrize(
    ("user_lacks", "separated", "ending", "named"),
    [
        ({}, True, "its user svc@pve has it, but the token was made with privileges of its own (privsep)",
         "--tokens 'svc@pve!home'"),
        ({"/vms/107": {"VM.Allocate"}}, True, "so does its user svc@pve", "--users 'svc@pve' --tokens 'svc@pve!home'"),
        ({"/vms/107": {"VM.Allocate"}}, None, "so does its user svc@pve", "--users 'svc@pve' --tokens 'svc@pve!home'"),
        ({"/vms/107": {"VM.Allocate"}}, False, "VM.Allocate on /vms/107", "--users 'svc@pve'"),
        ({"/vms/107": {"VM.Allocate"}}, NO_SSH, "so does its user svc@pve",
         "--users 'svc@pve' --tokens 'svc@pve!home'"),
        (MAY_NOT, None, "whether its user svc@pve has it cannot be told", "--users 'svc@pve' --tokens 'svc@pve!home'"),
    ],
)  # fmt: skip
def test_it_is_said_whether_token_or_user_lacks_it(
    user_lacks: Mapping[str, set[str]] | HomelabError, separated: bool | HomelabError | None, ending: str, named: str
) -> None:
    why, cure = said(Cluster({"/vms/107": {"VM.Allocate"}}, user_lacks, separated))
    assert why.endswith(f"; {ending}") or why == f"it lacks {ending}"
    assert cure[-1] == f"pveum acl modify /vms {named} --roles Homelab"


def test_user_who_lacks_only_some_of_it_is_said_so() -> None:
    lacks = {"/vms/107": {"VM.Allocate", "VM.PowerMgmt"}}
    why, cure = said(Cluster(lacks, {"/vms/107": {"VM.PowerMgmt"}}))
    assert why == (
        "it lacks VM.Allocate on /vms/107; VM.PowerMgmt on /vms/107; its user svc@pve lacks VM.PowerMgmt on /vms/107, "
        "too"
    )
    assert cure[-2:] == [
        "pveum acl modify /vms --tokens 'svc@pve!home' --roles Homelab",
        "pveum acl modify /vms --users 'svc@pve' --tokens 'svc@pve!home' --roles Homelab",
    ]


@pytest.mark.parametrize(
    ("made", "first"),
    [
        ({"Homelab": frozenset({"VM.Allocate"})}, "pveum role modify Homelab --append 1 --privs 'Datastore.Alloc"),
        ({"Homelab": frozenset(granting.role_privileges(granting.WORK, 9))}, "pveum acl modify /vms --tokens"),
        (FORBIDDEN, "pveum role add Homelab --privs"),
    ],
)
def test_a_role_that_is_there_is_not_made_again(made: Mapping[str, frozenset[str]] | HomelabError, first: str) -> None:
    _, cure = said(Cluster({"/vms/107": {"VM.Allocate"}}, made_roles=made))
    assert cure[0].startswith(first)


def test_what_the_run_goes_without_is_told_and_does_not_stop_it() -> None:
    lacks = {"/pool/homelab-run": {"Pool.Allocate", "Pool.Audit"}, "/vms/107": {"VM.GuestAgent.FileRead", "VM.Monitor"}}
    unrestricted = {"/vms/107": {"VM.GuestAgent.FileRead", privileges.UNRESTRICTED}}
    judgement = judged(Cluster({**lacks, **unrestricted}))

    assert judgement.problem is None and judgement.loss is not None
    assert judgement.loss.what == "pve1: the API token may not do all that is of use"
    assert judgement.loss.why == (
        "it lacks VM.GuestAgent.FileRead on /vms/107; Pool.Allocate on /pool/homelab-run; Pool.Audit on "
        "/pool/homelab-run; its user svc@pve has it, but the token was made with privileges of its own (privsep); "
        f"{privileges.UNASKED}, and {privileges.UNNOTICED}"
    )
    assert "pveum acl modify /pool --tokens 'svc@pve!home' --roles Homelab" in judgement.loss.cure


def test_what_is_granted_on_the_zone_of_a_vnet_is_not_judged() -> None:
    lacks = {"/sdn/zones/localnetwork/vmbr0": {"SDN.Use"}, "/sdn/zones/localnetwork/vmbr1": {"SDN.Use"}}
    shown = (BridgeState("vmbr0", is_active=True, is_vnet=True), BridgeState("vmbr1", is_active=True))
    why, _ = said(Cluster(lacks, shown=shown))
    assert "vmbr0" not in why and why.startswith("it lacks SDN.Use on /sdn/zones/localnetwork/vmbr1; ")
    assert "vmbr0" in said(Cluster(lacks, shown=FORBIDDEN))[0]


def test_root_over_ssh_brings_the_image_where_the_token_may_not() -> None:
    lacks = {"/storage/local": {"Datastore.AllocateTemplate"}}
    assert judged(Cluster(lacks, ssh=None)).problem is None
    assert judged(Cluster(lacks, ssh=TimedOut("SSH to node pve1", "no answer in time"))).problem is not None
    why, cure = said(Cluster(lacks))
    assert why.startswith("it lacks Datastore.AllocateTemplate on /storage/local")
    assert cure[-1] == "pveum acl modify /storage/local --tokens 'svc@pve!home' --roles Homelab"


def test_a_start_order_is_kept_only_with_leave_to_modify_the_cluster() -> None:
    why, cure = said(Cluster({"/": {"Sys.Modify"}}), replace(WANTED, has_start_order=True))
    assert why.startswith("it lacks Sys.Modify on /; ")
    assert cure == [
        "pveum role add HomelabModify --privs 'Sys.Modify'",
        "pveum acl modify / --propagate 0 --users 'svc@pve' --tokens 'svc@pve!home' --roles HomelabModify",
        "or instead of that: qm set 107 --delete startup",
    ]


@pytest.mark.parametrize("cpu_type", ["custom-lab,flags=+aes", "cputype=custom-lab"])
def test_a_cpu_model_that_somebody_made_takes_leave_to_use_it(cpu_type: str) -> None:
    why, cure = said(Cluster(user_lacks={"/mapping/cpu/lab": {"Mapping.Use"}}), replace(WANTED, cpu_type=cpu_type))
    assert why.startswith("it lacks Mapping.Use on /mapping/cpu/lab; ")
    assert cure[:2] == [
        "pveum role add HomelabCpu --privs 'Mapping.Use'",
        "pveum acl modify /mapping/cpu/lab --users 'svc@pve' --tokens 'svc@pve!home' --roles HomelabCpu",
    ]
    before_9 = Cluster({"/nodes": {"Sys.Audit"}}, release_is="8.4")
    assert said(before_9, replace(WANTED, cpu_type=cpu_type))[0].startswith("it lacks Sys.Audit on /nodes; ")
    assert judged(before_9, replace(WANTED, cpu_type="x86-64-v2-AES")) == rights.Judgement()


@pytest.mark.parametrize(
    ("rules", "denied", "cure"),
    [
        (TagRules("none"), "homelab, homelab-agent, homelab-server, homelab-unfinished, mine",
         "--user-tag-access 'user-allow=list,user-allow-list="
         "homelab;homelab-agent;homelab-server;homelab-unfinished;mine'"),
        (TagRules("existing", frozenset({"a"}), frozenset({"a", "homelab", "mine"})),
         "homelab-agent, homelab-server, homelab-unfinished",
         "--user-tag-access 'user-allow=existing,user-allow-list=a;homelab-agent;homelab-server;homelab-unfinished'"),
        (TagRules(reserved=frozenset({"mine", "prod"})), "mine", "--registered-tags 'prod'"),
        (TagRules(reserved=frozenset({"mine"})), "mine", "--delete registered-tags"),
    ],
)  # fmt: skip
def test_tags_that_take_more_than_the_vms_options_are_named(rules: TagRules, denied: str, cure: str) -> None:
    why, commands = said(Cluster(tags=rules), replace(WANTED, tags=frozenset({"mine"})))
    assert why.startswith(f"it lacks Sys.Modify on /, for the tags {denied}")
    assert "; ".join(commands) == f"pvesh set /cluster/options {cure}"


def test_whoever_may_modify_the_cluster_may_give_any_tag() -> None:
    class Modifier(Cluster):
        def granted(self, path: str, user: str = "", *, node: str = "") -> Mapping[str, int]:
            return {**super().granted(path, user, node=node), "Sys.Modify": 1}

    assert judged(Modifier(tags=TagRules("none"))) == rights.Judgement()


def test_tags_are_not_judged_where_the_options_are_hidden() -> None:
    why, _ = said(Cluster({"/": {"Sys.Audit"}}, tags=TagRules("none")))
    assert "tags" not in why


def test_what_cannot_be_read_is_not_known() -> None:
    @dataclass
    class Mute(Cluster):
        def granted(self, path: str, user: str = "", *, node: str = "") -> Mapping[str, int]:
            raise Unreachable("GET /access/permissions", path + user + node)

    with pytest.raises(Unreachable):
        judged(Mute())


@pytest.mark.parametrize(
    ("shown", "configured", "preferred", "chosen"),
    [
        ({"fast": {"images"}, "nas": {"iso"}, "local": {"iso"}}, None, "local-zfs", "local"),
        ({"nas": {"import"}, "local": {"iso"}}, None, "local", "nas"),
        ({"nas": {"import"}, "local": {"import"}}, None, "nas", "nas"),
        ({}, None, None, "local"),
        ({}, "isos", "nas", "isos"),
    ],
)
def test_the_image_goes_to_the_storage_that_is_shown_for_it(
    shown: Mapping[str, set[str]], configured: str | None, preferred: str | None, chosen: str
) -> None:
    there = [StorageState(name, "dir", frozenset(content), True, True, False, 0) for name, content in shown.items()]
    node = replace(NODE, image_storage=configured, storage=preferred)
    assert rights.image_storage(node, there) == chosen


def test_a_lack_is_shown_by_its_first_name_and_path() -> None:
    need = Need("/vms", ("VM.GuestAgent.Audit", privileges.UNRESTRICTED), "ask")
    assert str(Lack(need, Holder.USER)) == "VM.GuestAgent.Audit on /vms"
