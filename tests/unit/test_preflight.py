"""Everything that stands against making a VM on a node is told at once, before anything is written there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from homelab.errors import HomelabError, NodeFailed, NotThere, Problem, Refused, TimedOut, Undecided, Unreachable
from homelab.image_manager import ImageManager
from homelab.image_manager.places import Place
from homelab.models import (
    GIB,
    Action,
    BridgeState,
    HostStatus,
    NodePlan,
    Plan,
    Size,
    StorageState,
    Verdict,
    VmRow,
    VolumeRow,
)
from homelab.preflight import Preflight, ways
from homelab.preflight.hosts import check_clock, check_release, promised_bytes
from homelab.preflight.notes import Notes
from homelab.preflight.rights import Judgement
from homelab.preflight.storages import check_vmid, snippet_storage
from homelab.proxmox.client import Proxmox
from homelab.shell import ChangedHostKey
from support.clock import SteppingClock
from unit.builders import (
    CONFIG,
    HOST,
    STORAGE,
    facts,
    node_config,
    node_facts,
    node_plan,
    past,
    stopped,
    vm,
)

NO_ANSWER = Unreachable("GET /nodes/pve1", "no answer", "is it switched on?")
FORBIDDEN = Refused("GET /nodes/pve1", "Permission check failed", "pveum", status=403)
NOTHING_LACKING = Judgement()
LACKS = Judgement(
    Problem("pve1: the API token may not", "it lacks SDN.Use on /sdn/zones/localnetwork/vmbr0", "pveum acl"),
    hidden=frozenset({"/sdn/zones/localnetwork/vmbr0"}),
)


@dataclass
class Cluster:
    """What Proxmox says of a node that is fit for its VM; an error stands for an answer that does not come."""

    now: SteppingClock = field(default_factory=SteppingClock)
    host_is: HostStatus | HomelabError = HOST
    storages_are: tuple[StorageState, ...] | HomelabError = (STORAGE,)
    bridges_are: tuple[BridgeState, ...] | HomelabError = (BridgeState("vmbr0", is_active=True),)
    ahead_s: float = 0
    volumes: tuple[VolumeRow, ...] = ()
    guests: tuple[VmRow, ...] = ()
    from_boot: Mapping[int, int | HomelabError] = field(default_factory=dict)
    root_is: HomelabError | None = None

    def root(self, _node: str) -> None:
        _said(self.root_is)

    def host(self, _node: str) -> HostStatus:
        return cast(HostStatus, _said(self.host_is))

    def storages(self, _node: str) -> tuple[StorageState, ...]:
        return cast(tuple[StorageState, ...], _said(self.storages_are))

    def bridges(self, _node: str) -> tuple[BridgeState, ...]:
        return cast(tuple[BridgeState, ...], _said(self.bridges_are))

    def host_time(self, _node: str) -> int:
        return int(self.now.now() + self.ahead_s)

    def storage_content(self, _node: str, _storage: str, *, vmid: int) -> tuple[VolumeRow, ...]:
        return tuple(row for row in self.volumes if row.vmid == vmid)

    def cluster_vms(self) -> tuple[VmRow, ...]:
        return self.guests

    def memory_from_boot(self, row: VmRow) -> int:
        return int(_said(self.from_boot[row.vmid]))


class Image:
    """An image that is vouched for and fits everywhere."""

    def check_source(self) -> bool:
        return True

    def check_place(self, _node: object, _there: object) -> Place:
        return Place("local", "import", "noble-abababababab.qcow2", is_shared=False)


def _said(answer: Any) -> Any:
    if isinstance(answer, HomelabError):
        raise answer
    return answer


def preflight(cluster: Cluster, *, lacks: Judgement | HomelabError = NOTHING_LACKING, **changes: Any) -> Preflight:
    return Preflight(
        cast(Proxmox, cluster),
        changes.get("config", CONFIG),
        cast(ImageManager, changes.get("images", Image())),
        cluster.now,
        privileges=lambda *_: _said(lacks),
        half_made=lambda _: None,
    )


def checked(cluster: Cluster, *nodes: NodePlan, lacks: Judgement | HomelabError = NOTHING_LACKING) -> Plan:
    return preflight(cluster, lacks=lacks).check(Plan(nodes, facts().k3s))


def findings(cluster: Cluster, node: NodePlan | None = None, **changes: Any) -> list[str]:
    looked = preflight(cluster, **changes).look_at(node or node_plan(Action.CREATE))
    return [f"{finding.severity.value}: {finding.problem.what}" for finding in looked.findings]


def test_of_a_node_that_may_be_another_machine_nothing_else_is_said() -> None:
    changed = ChangedHostKey("SSH to pve1 port 22", "its host key has changed", "compare")
    lost = Cluster(root_is=changed, host_is=changed, storages_are=changed)

    assert findings(lost) == ["unknown: SSH to pve1 port 22"]
    assert checked(lost, node_plan(Action.CREATE)).nodes[0].makes_vm is False


@pytest.mark.parametrize("error", [Unreachable, TimedOut, Undecided])
def test_ssh_that_does_not_answer_or_not_in_time_stops_no_run(error: type[HomelabError]) -> None:
    assert findings(Cluster(root_is=error("SSH to pve1", "no answer"))) == []


def test_node_that_is_fit_has_no_findings_and_its_vm_a_size() -> None:
    looked = preflight(Cluster()).look_at(node_plan(Action.CREATE))

    assert looked.findings == ()
    assert looked.size == Size(4, 16384, 50 * GIB)


def test_all_that_is_amiss_is_told_at_once() -> None:
    cluster = Cluster(
        host_is=replace(HOST, version="8.1.4"),
        storages_are=(),
        bridges_are=(),
        ahead_s=-600,
    )
    node = node_plan(Action.CREATE, node_facts(Verdict.ABSENT, config=node_config(cores=64, memory_mib=64 * 1024)))
    told = findings(cluster, node, config=replace(CONFIG, guest=replace(CONFIG.guest, public_keys="")))

    assert told == [
        "error: pve1: no SSH public key for the VM",
        "error: pve1: Proxmox VE 8.1.4 is too old",
        "warning: pve1: its clock is 599 s slow",
        "error: pve1: storage local-zfs is not there",
        "error: pve1: bridge vmbr0 is missing",
        "error: pve1: 64 cores are too many",
        "error: pve1: not enough memory for the VM",
    ]


def test_what_cannot_be_read_is_said_and_is_no_yes() -> None:
    cluster = Cluster(host_is=NO_ANSWER, storages_are=NO_ANSWER, bridges_are=NO_ANSWER)

    assert findings(cluster) == [
        "unknown: pve1: its storages cannot be read",
        "unknown: pve1: its status cannot be read",
        "unknown: pve1: its bridges cannot be read",
    ]
    (dropped,) = checked(cluster, node_plan(Action.CREATE)).nodes
    assert dropped.action is Action.NOTHING
    assert len(dropped.problems) == 3


def test_what_a_token_is_refused_or_not_shown_for_want_of_a_privilege_is_told_once() -> None:
    hidden = Cluster(host_is=FORBIDDEN, bridges_are=())
    lacks_storage = replace(LACKS, hidden=frozenset({"/storage/local-zfs"}))

    assert findings(hidden, lacks=LACKS) == ["error: pve1: the API token may not"]
    assert findings(Cluster(storages_are=()), lacks=lacks_storage) == ["error: pve1: the API token may not"]
    assert findings(Cluster(storages_are=()), lacks=LACKS)[1:] == ["error: pve1: storage local-zfs is not there"]
    assert findings(Cluster(host_is=FORBIDDEN)) == ["unknown: pve1: its status cannot be read"]


def test_a_storage_for_the_image_that_is_hidden_is_not_missed() -> None:
    class NoPlace(Image):
        def check_place(self, _node: object, _there: object) -> Place:
            raise NodeFailed("pve1: no storage takes the image", "", "set ISO_STORAGE_1")

    lacks_image = replace(LACKS, hidden=frozenset({"/storage/local"}))
    assert findings(Cluster(), lacks=lacks_image, images=NoPlace()) == ["error: pve1: the API token may not"]
    assert findings(Cluster(), images=NoPlace()) == ["error: pve1: no storage takes the image"]


def test_what_a_token_leaves_undone_is_a_warning_and_privileges_that_cannot_be_read_are_no_yes() -> None:
    lost = Problem("pve1: not all that is of use", "it lacks Pool.Audit on /pool/homelab-run", "pveum")
    loss = Judgement(loss=lost, hidden=frozenset({"/pool/homelab-run"}))
    assert findings(Cluster(), lacks=loss) == ["warning: pve1: not all that is of use"]
    unread = ["warning: pve1: not all that is of use", "unknown: pve1: its status cannot be read"]
    assert findings(Cluster(host_is=FORBIDDEN), lacks=loss) == unread
    assert findings(Cluster(), lacks=NO_ANSWER) == [f"unknown: {NO_ANSWER.what}"]


def test_only_the_node_that_is_not_fit_drops_out_and_warnings_stop_nobody() -> None:
    first, second = node_plan(Action.CREATE), node_plan(Action.CREATE, node_facts(Verdict.ABSENT, number=2))
    bad = replace(first, facts=node_facts(Verdict.ABSENT, config=node_config(bridges=("vmbr7",))))

    plan = checked(Cluster(ahead_s=600), bad, second)

    assert [node.action for node in plan.nodes] == [Action.NOTHING, Action.CREATE]
    (warning,) = plan.warnings
    assert "pve2: its clock is 600 s fast: by that of this machine" in warning


def test_vm_that_cannot_be_replaced_is_started_instead() -> None:
    (dropped,) = checked(Cluster(bridges_are=()), node_plan(Action.REPLACE, stopped())).nodes

    assert dropped.action is Action.START
    assert dropped.reason == "pve1: bridge vmbr0 is missing: the bridges there are: none"


@pytest.mark.parametrize("bridges", [(), NO_ANSWER])
def test_vm_that_may_be_replaced_if_it_will_not_start_is_only_started_for_want_of_a_bridge(bridges: Any) -> None:
    may_be = node_plan(Action.START, stopped(), may_replace=True)

    (started,) = checked(Cluster(bridges_are=bridges), may_be).nodes
    (unchanged,) = checked(Cluster(), may_be).nodes

    assert (started.action, started.may_replace, started.problem) == (Action.START, False, None)
    assert unchanged == may_be


@pytest.mark.parametrize(
    ("action", "instead"), [(Action.START, Action.NOTHING), (Action.FINISH, Action.NOTHING), (Action.KEEP, Action.KEEP)]
)
def test_nothing_is_started_on_a_node_that_may_be_another_machine(action: Action, instead: Action) -> None:
    changed = ChangedHostKey("SSH to pve1 port 22", "its host key has changed", "compare")
    plan = node_plan(action, stopped())

    (checked_one,) = checked(Cluster(root_is=changed), plan).nodes

    assert checked_one.action is instead
    assert checked_one.problem == (None if action is Action.KEEP else changed.problem)


@pytest.mark.parametrize("action", [Action.KEEP, Action.START, Action.FINISH, Action.NOTHING])
def test_node_that_gets_no_new_vm_is_not_even_asked(action: Action) -> None:
    plan = node_plan(action, node_facts(Verdict.HEALTHY, vm()))

    assert checked(Cluster(host_is=NO_ANSWER, bridges_are=NO_ANSWER), plan).nodes == (plan,)
    assert checked(Cluster()).nodes == ()


# --- hosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "warns"), [("8.2.2", ""), ("9.2.11", ""), ("9.3.1", "newer"), ("x", "not underst")]
)
def test_release_that_is_known_is_fine_and_a_newer_one_is_told(version: str, warns: str) -> None:
    told = check_release("pve1", replace(HOST, version=version))

    assert warns in str(told) if warns else told is None


@pytest.mark.parametrize("version", ["8.1.10", "7.4-3"])
def test_release_before_the_oldest_is_refused(version: str) -> None:
    with pytest.raises(NodeFailed, match=r"is too old: 8\.2 to 9\.2 are supported"):
        check_release("pve1", replace(HOST, version=version))


@pytest.mark.parametrize(("ahead_s", "said"), [(0, ""), (59, ""), (-59, ""), (61.5, "61 s fast"), (-90, "89 s slow")])
def test_clock_that_differs_by_a_minute_is_told(ahead_s: float, said: str) -> None:
    cluster = Cluster(ahead_s=ahead_s)

    told = check_clock(cast(Proxmox, cluster), "pve1", cluster.now)

    assert said in str(told) if said else told is None


def test_memory_of_guests_that_run_or_start_with_the_host_is_promised() -> None:
    def row(vmid: int, *, node: str = "pve1", is_running: bool = False) -> VmRow:
        return VmRow(vmid, node, "", memory_bytes=1 << vmid - 100, is_running=is_running)

    cluster = Cluster(
        guests=(row(101, is_running=True), *map(row, (102, 103, 104, 105)), row(106), row(107, node="pve2")),
        from_boot={102: 4, 103: 0, 104: NO_ANSWER, 105: NotThere("VM 105", "gone", status=500)},
    )

    assert promised_bytes(cast(Proxmox, cluster), "pve1", besides=106) == 2 + 4 + 16


def test_memory_that_is_promised_is_not_given_away() -> None:
    cluster = Cluster(guests=(VmRow(101, "pve1", "router"),), from_boot={101: 29 * GIB})
    (finding,) = preflight(cluster).look_at(node_plan(Action.CREATE)).findings

    assert finding.problem.what == "pve1: not enough memory for the VM"
    assert "3072 MiB not promised to guests that run or start with the host, less 2048 MiB" in finding.problem.why


# --- storages ----------------------------------------------------------------------------------------------------


def test_volumes_of_a_deleted_vm_are_in_the_way_of_its_vmid() -> None:
    left = VolumeRow("local-zfs:vm-150-disk-0", "images", GIB, 150)
    cluster, wanted = Cluster(volumes=(left,)), node_config(vmid=150)
    again = past(replacing=None)

    told = check_vmid(cast(Proxmox, cluster), wanted, 150, (STORAGE, replace(STORAGE, name="off", is_active=False)))
    assert "bear VMID_1=150: local-zfs:vm-150-disk-0" in str(told)
    assert told is not None
    assert "pvesm free local-zfs:vm-150-disk-0" in told.cure
    assert len(findings(cluster, node_plan(Action.CREATE, node_facts(Verdict.ABSENT, config=wanted, past=again)))) == 1
    assert findings(Cluster(), node_plan(Action.CREATE, node_facts(Verdict.ABSENT, config=wanted))) == []


def test_storage_for_snippets_is_the_nodes_own_or_the_command_that_makes_one_take_them() -> None:
    shared = replace(STORAGE, name="nas", kind="nfs", content=frozenset({"snippets"}), is_shared=True)
    local = replace(STORAGE, name="local", kind="dir", content=frozenset({"iso", "snippets"}))

    assert snippet_storage("pve1", (shared, local)) == local
    with pytest.raises(NodeFailed) as refused:
        snippet_storage("pve1", (replace(local, content=frozenset({"iso"})),))
    assert refused.value.cure == "pvesm set local --content iso,snippets"
    with pytest.raises(NodeFailed, match="takes snippets"):
        snippet_storage("pve1", (STORAGE,))


def test_storage_for_snippets_may_be_among_those_that_a_token_is_not_shown() -> None:
    told, untold = Notes("pve1"), Notes("pve1", hidden=frozenset({"/storage/local"}))

    ways.look_at_snippets(told, (STORAGE,))
    ways.look_at_snippets(untold, (STORAGE,))

    assert [one.problem.what for one in told.found] == ["pve1: no storage takes snippets"]
    assert untold.found == []
