"""Servers that join and leave one at a time, and machines that go: what is asked of the cluster, and what stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from homelab.errors import NodeFailed, Refused, StillMember, TimedOut, Unreachable
from homelab.k3s_manager.answers import EtcdMember
from homelab.k3s_manager.leaving import Leaving
from homelab.k3s_manager.parting import Parting
from homelab.k3s_manager.server import K3sServer
from homelab.k3s_manager.servers import Servers
from homelab.k3s_manager.settling import MARGIN_S, Settling
from homelab.k3s_manager.ties import ghosts, read
from homelab.memory import Cordons, Journal
from homelab.models import K3sNode, Ties
from homelab.shell import Result
from support.clock import SteppingClock
from unit.builders import OTHER_UUID, UUID, agent_node, k3s_cluster, k3s_node, servers, vm

MUTE = Unreachable("no server answers", "connection refused", "check K3S_EXISTING_NODE_IP")


@dataclass
class Remote:
    """Runs nothing, and remembers what it was to run. `answers` are by a part of the command."""

    answers: dict[str, Result | Exception] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    where: str = "ubuntu@192.0.2.10"
    login: str = "ssh ubuntu@192.0.2.10"

    def run(self, command: list[str], **_more: Any) -> Result:
        line = " ".join(command)
        self.ran.append(line)
        answer = next((found for part, found in self.answers.items() if part in line), Result(0, "", ""))
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class OneServer:
    """Stands in for Servers: one that answers with these Nodes, the next list of them at each look."""

    looks: list[list[K3sNode] | Exception]
    remote: Remote = field(default_factory=Remote)

    def nodes(self) -> tuple[K3sNode, ...]:
        seen = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(seen, Exception):
            raise seen
        return tuple(seen)

    def ask(self, question: Callable[[K3sServer], Any]) -> Any:
        return question(K3sServer(cast(Any, self.remote), "192.0.2.10"))


def said(text: str) -> Result:
    return Result(0, text, "", text.encode())


def members(*names: str) -> Result:
    listed = ", ".join(f'{{"name": "{name}-0a1b2c3d"}}' for name in names)
    return said(f'{{"members": [{listed}]}}')


THREE = [k3s_node("k3s-vm-pve1"), *servers(2)]
LISTED = members("k3s-vm-pve1", "other-0", "last")


# --- one at a time ------------------------------------------------------------------------------------------------


def test_between_two_servers_there_is_a_margin_and_before_the_first_none() -> None:
    clock = SteppingClock()
    settling = Settling(cast(Servers, OneServer([[]])), clock, print)
    began = clock.now()

    with settling.step():
        clock.sleep(100)
    assert clock.now() == began + 100
    with settling.step():
        assert clock.now() == began + 100 + MARGIN_S
    clock.sleep(60)
    with settling.step():
        assert clock.now() == began + 160 + MARGIN_S


@pytest.mark.parametrize(
    ("voting_since", "shown", "waited_s"),
    [
        (None, "", 0),
        (1_000.0, "1004\n", MARGIN_S - 4),
        (1_000.0, "1400\n", 0),
        (1_000.0, "900\n", MARGIN_S),
        (1_000.0, "date: not found\n", MARGIN_S),
    ],
    ids=["not-told", "just-now", "long-ago", "clocks-differ", "no-time"],
)
def test_server_that_an_earlier_run_joined_just_now_is_left_to_settle(
    voting_since: float | None, shown: str, waited_s: float
) -> None:
    clock = SteppingClock()
    cluster = OneServer([servers(2, voting_since=voting_since)], Remote({"date +%s": said(shown)}))
    began = clock.now()

    with Settling(cast(Servers, cluster), clock, print).step():
        assert clock.now() == began + waited_s


def test_where_nobody_says_when_a_server_joined_the_whole_margin_passes() -> None:
    clock = SteppingClock()
    began = clock.now()

    with Settling(cast(Servers, OneServer([MUTE])), clock, print).step():
        assert clock.now() == began + MARGIN_S


def test_server_that_is_waited_for_settles_before_the_next_one_begins() -> None:
    clock = SteppingClock()
    learning, voting = servers(2, is_etcd_voter=False), servers(2, voting_since=1_000.0)
    cluster = OneServer([learning, learning, voting], Remote({"date +%s": said("1001\n")}))
    began = clock.now()

    Settling(cast(Servers, cluster), clock, print).wait_for_votes("k3s-vm-pve1")

    assert clock.now() >= began + MARGIN_S - 1


def test_no_server_begins_while_another_one_is_at_it() -> None:
    settling = Settling(cast(Servers, OneServer([[]])), SteppingClock(), print)
    order: list[str] = []

    def second() -> None:
        with settling.step():
            order.append("second")

    with settling.step():
        other = threading.Thread(target=second)
        other.start()
        order.append("first")
    other.join(10)

    assert order == ["first", "second"]


def test_the_votes_of_all_others_are_waited_for() -> None:
    learner = k3s_node("last", is_etcd_voter=False)
    looks: list[list[K3sNode] | Exception] = [[k3s_node("a"), learner], [k3s_node("a"), learner], [k3s_node("a")]]
    said: list[str] = []
    settling = Settling(cast(Servers, OneServer(looks)), SteppingClock(), said.append)

    settling.wait_for_votes("k3s-vm-pve1")

    assert said == ["k3s-vm-pve1: waiting for last, without which etcd lets no further server in"]
    assert len(looks) == 1


@pytest.mark.parametrize("how", [{"is_ready": False}, {"is_etcd_voter": False}, {"is_etcd_healthy": False}])
def test_a_server_that_stays_without_vote_ends_the_wait_and_is_named(how: dict[str, bool]) -> None:
    nodes = [k3s_node("k3s-vm-pve1", **how), k3s_node("other", **how), agent_node("worker", is_ready=False)]
    settling = Settling(cast(Servers, OneServer([nodes])), SteppingClock(), print)

    with pytest.raises(TimedOut) as error:
        settling.wait_for_votes("k3s-vm-pve1")

    assert error.value.what == "k3s-vm-pve1 cannot join as a server now"
    assert "do not vote, or are not Ready: other" in error.value.why
    assert "kubectl get nodes" in error.value.cure


# --- before it goes -----------------------------------------------------------------------------------------------


def cordons() -> Cordons:
    return Cordons(Journal(Path("no-journal.jsonl"), SteppingClock(), is_read_only=True))


def parting(cluster: OneServer, said: list[str] | None = None, begun: Cordons | None = None) -> Parting:
    settling = Settling(cast(Servers, cluster), SteppingClock(), print)
    say = said.append if said is not None else print
    return Parting(cast(Servers, cluster), settling, begun or cordons(), say)


def test_a_machine_without_node_needs_nothing() -> None:
    cluster = OneServer([[agent_node("other", system_uuid=OTHER_UUID)]])

    with parting(cluster).begin(UUID, is_running=True) as has_taken_time:
        assert not has_taken_time
    assert cluster.remote.ran == []


def test_a_server_that_is_off_is_not_drained_but_etcd_is_saved() -> None:
    cluster = OneServer([THREE])

    with parting(cluster).begin(UUID, is_running=False) as has_taken_time:
        assert has_taken_time
    assert cluster.remote.ran == ["sudo -n k3s etcd-snapshot save --name homelab"]


@pytest.mark.parametrize("words", ["No help topic for 'etcd-snapshot'", "flag provided but not defined: -name"])
def test_a_release_that_cannot_save_etcd_is_no_hindrance_and_said(words: str) -> None:
    cluster = OneServer([THREE], Remote({"etcd-snapshot": Result(3, "", words)}))
    said: list[str] = []

    with parting(cluster, said).begin(UUID, is_running=False):
        pass

    assert said[-1] == "k3s-vm-pve1: k3s on ubuntu@192.0.2.10 cannot save etcd, so nothing is saved"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Result(1, "", "level=fatal\nno space left on device\n"), "ubuntu@192.0.2.10: no space left on device"),
        (Result(1, "", ""), "no message"),
        (TimedOut("k3s etcd-snapshot", "no end after 180 s"), "no end after 180 s"),
    ],
)
def test_a_server_does_not_go_before_etcd_is_saved(answer: Result | Exception, why: str) -> None:
    cluster = OneServer([THREE], Remote({"etcd-snapshot": answer}))

    with pytest.raises(StillMember) as error, parting(cluster).begin(UUID, is_running=True):
        pytest.fail("it goes")

    assert error.value.what == "etcd cannot be saved before a server is taken out"
    assert why in error.value.why
    assert "k3s etcd-snapshot save" in error.value.cure


def test_a_cluster_that_cannot_be_asked_lets_nobody_go() -> None:
    with pytest.raises(StillMember, match="no server answers"), parting(OneServer([MUTE])).begin(UUID, is_running=True):
        pytest.fail("it goes")


DRAIN = "kubectl drain worker --ignore-daemonsets --delete-emptydir-data --timeout=300s"


@pytest.mark.parametrize("was_cordoned", [False, True])
def test_a_machine_that_does_not_go_after_all_takes_pods_again_unless_a_person_forbade_it(was_cordoned: bool) -> None:
    cluster = OneServer([[agent_node("worker", is_cordoned=was_cordoned)]])

    with pytest.raises(NodeFailed, match="changed"), parting(cluster).begin(UUID, is_running=True) as has_taken_time:
        assert has_taken_time
        raise NodeFailed("it has changed")

    assert DRAIN in cluster.remote.ran[0]
    assert any("uncordon worker" in line for line in cluster.remote.ran) is not was_cordoned


def test_drain_that_cannot_be_told_to_have_ended_lets_nobody_go() -> None:
    lost = Unreachable("k3s-server", "connection reset")
    cluster = OneServer([[agent_node("worker")]], Remote({"drain": lost, "uncordon": Refused("no", "", status=1)}))
    begun = cordons()
    parts = parting(cluster, begun=begun)

    with pytest.raises(StillMember, match="worker cannot be drained"), parts.begin(UUID, is_running=True):
        pytest.fail("it goes")

    assert begun.is_open(UUID)


# --- out of the cluster -------------------------------------------------------------------------------------------


def leaving(cluster: OneServer) -> Leaving:
    return Leaving(cast(Servers, cluster), SteppingClock(), print)


@pytest.mark.parametrize(
    ("nodes", "listed"),
    [
        ([k3s_node("k3s-vm-pve1", is_ready=False), *servers(2, is_ready=False)], LISTED),
        ([k3s_node("k3s-vm-pve1"), *servers(2, is_etcd_healthy=False)], LISTED),
        ([k3s_node("k3s-vm-pve1"), *servers(1)], members("k3s-vm-pve1", "last")),
        (THREE, members("k3s-vm-pve1", "other-0", "last", "gone", "gone")),
    ],
    ids=["another-down", "another-unhealthy", "one-of-two", "ghosts"],
)
def test_nobody_is_taken_out_without_whom_the_others_have_no_quorum(nodes: list[K3sNode], listed: Result) -> None:
    cluster = OneServer([nodes], Remote({"db/info": listed}))

    with pytest.raises(StillMember) as error:
        leaving(cluster).remove("k3s-vm-pve1", UUID)

    assert error.value.what == "k3s-vm-pve1 cannot be taken out of etcd now"
    assert not any("delete" in line for line in cluster.remote.ran)


def test_one_of_two_that_still_runs_may_leave() -> None:
    cluster = OneServer([[k3s_node("k3s-vm-pve1"), *servers(1)]], Remote({"db/info": members("last")}))

    leaving(cluster).remove("k3s-vm-pve1", UUID, is_off=False)

    assert any("delete node k3s-vm-pve1" in line for line in cluster.remote.ran)


@pytest.mark.parametrize("step", ["drain", "remove"])
def test_machine_without_uuid_is_not_taken_for_one_of_those_that_have_none(step: str) -> None:
    cluster = OneServer([[k3s_node("of-somebody-else", system_uuid=""), *servers(2)]])

    with pytest.raises(StillMember, match="without system UUID") as error:
        if step == "remove":
            leaving(cluster).remove("k3s-vm-pve1", "")
        with parting(cluster).begin("", is_running=True):
            pytest.fail("it goes")

    assert "of-somebody-else" in error.value.why
    assert not cluster.remote.ran


@pytest.mark.parametrize("cluster", [OneServer([MUTE]), OneServer([THREE], Remote({"db/info": MUTE}))])
def test_where_the_cluster_cannot_be_asked_nothing_has_been_taken_out(cluster: OneServer) -> None:
    with pytest.raises(StillMember, match="no server answers"):
        leaving(cluster).remove("k3s-vm-pve1", UUID)


# --- what ties it -------------------------------------------------------------------------------------------------


def test_voting_members_that_no_node_stands_for_are_ghosts_also_a_second_one_of_a_name() -> None:
    nodes = [k3s_node("a"), k3s_node("b-1"), agent_node("worker")]

    def of(*names: str) -> list[EtcdMember]:
        return [EtcdMember(name, is_learner=name.startswith("new")) for name in names]

    assert ghosts(of("a-11111111", "b-1-22222222", "new-44444444"), nodes) == ()
    assert ghosts(of("a-11111111", "a-33333333", "c-1", "worker-1"), nodes) == ("a-33333333", "c-1", "worker-1")


NOTHING = said('{"items": []}')


@pytest.mark.parametrize(
    ("tags", "node", "asks_for"),
    [
        ("homelab", None, ""),
        ("homelab;homelab-agent", None, "pv pods"),
        ("homelab;homelab-server", None, "pv pods db/info"),
        ("homelab", agent_node("k3s-vm-pve1"), "pv pods"),
        ("homelab", k3s_node("k3s-vm-pve1"), "pv pods db/info"),
        ("homelab", k3s_node("renamed"), "pv pods pods db/info"),
        ("homelab", k3s_node("k3s-vm-pve1", system_uuid=OTHER_UUID), ""),
    ],
    ids=["stranger", "was-agent", "was-server", "agent", "server", "under-another-name", "namesake"],
)
def test_only_what_can_matter_is_asked(tags: str, node: K3sNode | None, asks_for: str) -> None:
    cluster = OneServer([[]], Remote({"get": NOTHING, "db/info": members("k3s-vm-pve1", "last", "renamed")}))
    facts = k3s_cluster(*([node] if node else []), *servers(1))

    read(cast(Servers, cluster), vm({"tags": tags}), facts)

    asked = [
        word
        for line in cluster.remote.ran
        for word in ("pv", "pods", "db/info")
        if f" {word} " in f"{line.replace('6443/', ' ')} "
    ]
    assert " ".join(asked) == asks_for


def test_what_cannot_be_read_is_told_from_nothing() -> None:
    facts = k3s_cluster(*THREE)

    assert read(cast(Servers, OneServer([[]], Remote({"": MUTE}))), vm(), facts) == Ties(data=None, ghosts=None)
