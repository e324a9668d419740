"""What is remembered of a VM, and of the k3s cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab import memory
from homelab.errors import HomelabError, Misunderstood
from homelab.memory import Claim, ClusterMemory, Journal
from homelab.models import CarriedOver, Creation, KnownCluster, KnownServer, Past, VmConfig
from support.clock import START, SteppingClock


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


# --- the past of a VM --------------------------------------------------------------------------------------------

CARRIED = CarriedOver(
    107,
    "u-1",
    {"net0": "BC:24:11:00:00:01"},
    {"startup": "order=1"},
    frozenset({"a", "b"}),
    "lab",
    "homelab-agent",
    ("local-lvm:vm-107-disk-0",),
)


def test_past_of_a_vm_is_told_by_the_notes_about_it(path: Path, clock: SteppingClock) -> None:
    journal = Journal(path, clock)
    assert memory.past_of(journal, "vm") == Past()
    memory.note(journal, memory.STRUCK, "vm")
    clock.sleep(5)
    memory.note(journal, memory.REBOOTED, "vm")
    memory.note(journal, memory.REPLACED, "other")

    assert memory.past_of(Journal(path, clock), "vm") == Past(struck_at=START, rebooted_at=START + 5)


def machine(uuid: str) -> VmConfig:
    return VmConfig({"smbios1": f"uuid={uuid}"})


def noted(notes: str) -> VmConfig:
    return VmConfig({"description": notes})


@pytest.mark.parametrize(
    ("event", "field"),
    [(memory.STRUCK, "struck_at"), (memory.REBOOTED, "rebooted_at"), (memory.REPLACED, "replaced_at")],
)
def test_what_happened_to_one_machine_is_not_the_past_of_another_that_a_person_gave_its_name(
    path: Path, clock: SteppingClock, event: str, field: str
) -> None:
    journal = Journal(path, clock)
    memory.note(journal, event, "vm", "u-1", "u-0")
    clock.sleep(60)
    memory.note(journal, event, "vm", "u-9")

    for known in (journal, Journal(path, clock)):
        pasts = [memory.past_of(known, "vm", machine(uuid)) for uuid in ("u-1", "u-0", "u-9", "u-2")]
        assert [getattr(past, field) for past in pasts] == [START, START, START + 60, None]
        assert getattr(memory.past_of(known, "vm"), field) == START + 60


def test_past_that_an_earlier_version_noted_by_name_alone_still_counts(path: Path, clock: SteppingClock) -> None:
    Journal(path, clock).note("struck", vm="vm")

    assert memory.past_of(Journal(path, clock), "vm", machine("u-1")).struck_at == START


def test_replacement_that_was_begun_is_known_until_it_is_done(path: Path, clock: SteppingClock) -> None:
    journal = Journal(path, clock)
    memory.note_replacing(journal, "vm", "pve1", CARRIED)
    assert memory.past_of(Journal(path, clock), "vm").replacing == CARRIED

    memory.note(journal, memory.REPLACED, "vm")
    assert memory.past_of(Journal(path, clock), "vm") == Past(replaced_at=START)


def test_machine_that_took_the_place_of_another_is_known_by_the_role_of_that_one(
    path: Path, clock: SteppingClock
) -> None:
    journal = Journal(path, clock)
    assert memory.past_of(journal, "vm", machine("u-2")).role == ""
    memory.note_replacing(journal, "vm", "pve1", CARRIED)
    assert memory.past_of(journal, "vm", machine("u-2")).role == ""
    memory.note(journal, memory.REPLACED, "vm", "u-2", "u-1")

    for known in (journal, Journal(path, clock)):
        assert memory.past_of(known, "vm", machine("u-2")).role == "homelab-agent"
        assert memory.past_of(known, "vm", machine("u-3")).role == ""


def test_replacement_that_was_given_up_is_none(path: Path, clock: SteppingClock) -> None:
    journal = Journal(path, clock)
    memory.note_replacing(journal, "vm", "pve1", CARRIED)
    memory.note(journal, memory.GIVEN_UP, "vm")

    assert memory.past_of(Journal(path, clock), "vm") == Past()


def test_newest_time_of_a_replacement_counts_wherever_it_is_noted(path: Path, clock: SteppingClock) -> None:
    journal = Journal(path, clock)
    memory.note(journal, memory.REPLACED, "vm", "")

    earlier = memory.with_line("mine", START - 60)
    later = memory.with_line(earlier, START + 60)
    assert memory.past_of(journal, "vm", noted(earlier)).replaced_at == START
    assert memory.past_of(journal, "vm", noted(later)).replaced_at == START + 60
    assert memory.past_of(journal, "other", noted(later)).replaced_at == START + 60
    assert memory.past_of(journal, "other", noted("mine")).replaced_at is None


def test_line_in_the_notes_leaves_those_of_a_person_as_they_are() -> None:
    mine = "rack 2\n\nask Bob, he said: homelab: replaced it"

    noted = memory.with_line(memory.with_line(f"{mine}\n", START), START + 1)

    assert noted == f"{mine}\n\nhomelab: replaced 2025-10-09T08:53:21Z"
    assert memory.without_line(noted) == mine
    assert memory.with_line("", START) == "homelab: replaced 2025-10-09T08:53:20Z"


@pytest.mark.parametrize(
    ("owner", "until", "claimed_by"),
    [
        ("laptop-1", START + 60, "laptop-1 until 2025-10-09T08:54:20Z"),
        ("laptop-1", START, ""),
        ("desk-2", START + 60, ""),
    ],
    ids=["anothers", "out-of-date", "ours"],
)
def test_vm_is_claimed_by_the_run_of_another_machine_that_makes_it_for_its_time(
    path: Path, clock: SteppingClock, owner: str, until: float, claimed_by: str
) -> None:
    journal = Journal(path, clock, owner="desk-2")
    told = memory.with_claim(memory.with_claim("mine", Claim("x", 1)), Claim(owner, until))

    assert memory.past_of(journal, "vm", noted(told)).claimed_by == claimed_by
    assert memory.without_claim(told) == "mine"
    assert memory.past_of(journal, "vm", noted("homelab: being made by x until then")).claimed_by == ""


@pytest.mark.parametrize("text", ["homelab: replaced yesterday", "homelab: replaced 2025-13-09T08:53:21Z", ""])
def test_time_that_cannot_be_read_is_none(path: Path, clock: SteppingClock, text: str) -> None:
    assert memory.past_of(Journal(path, clock), "vm", noted(text)).replaced_at is None


def test_creation_is_known_by_node_and_vmid(path: Path, clock: SteppingClock) -> None:
    journal = Journal(path, clock)
    first = Creation("pve1", 107, "local-lvm", ("local-lvm:vm-107-disk-7",))
    memory.note_creating(journal, first)
    memory.note_creating(journal, Creation("pve2", 107, "local-lvm"))

    assert memory.creation_of(Journal(path, clock), "pve1", 107) == first
    assert memory.creation_of(journal, "pve1", 108) is None


def test_creation_noted_by_another_version_is_none(path: Path, clock: SteppingClock) -> None:
    Journal(path, clock).note("creating", node="pve1", vmid=107, storage="local-lvm")

    assert memory.creation_of(Journal(path, clock), "pve1", 107) is None


@pytest.mark.parametrize("carried", [None, 7, {}, {"vmid": "x"}, {"vmid": 1, "uuid": "", "macs": 3}])
def test_replacement_noted_by_another_version_is_none(path: Path, clock: SteppingClock, carried: object) -> None:
    Journal(path, clock).note("replacing", vm="vm", node="pve1", carried=carried)

    assert memory.past_of(Journal(path, clock), "vm").replacing is None


# --- the k3s cluster as it was last seen -------------------------------------------------------------------------

SEEN = KnownCluster(frozenset({"ab"}), (KnownServer("k3s-server", "u", ("192.0.2.1", "k3s-server")),))


def test_cluster_is_remembered_from_run_to_run(tmp_path: Path) -> None:
    kept = ClusterMemory(tmp_path)
    assert kept.recall() is None

    kept.keep(SEEN)

    assert ClusterMemory(tmp_path).recall() == SEEN


def test_dry_run_remembers_nothing(tmp_path: Path) -> None:
    ClusterMemory(tmp_path, is_read_only=True).keep(SEEN)

    assert list(tmp_path.iterdir()) == []


NO_MEMORIES = ["", "[]", "{}", '{"servers": [1], "authorities": ["ab"]}', '{"servers": [], "authorities": []}']


@pytest.mark.parametrize("text", NO_MEMORIES)
def test_memory_of_a_cluster_that_is_not_understood_is_not_taken_for_none(tmp_path: Path, text: str) -> None:
    kept = ClusterMemory(tmp_path)
    kept.path.write_text(text)

    with pytest.raises(Misunderstood, match="it is not what an earlier run wrote") as told:
        kept.recall()

    assert told.value.cure.endswith(f"rm {kept.path}; then run again")


def test_memory_of_a_cluster_that_cannot_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    kept = ClusterMemory(tmp_path)
    kept.path.mkdir()

    with pytest.raises(Misunderstood, match="Is a directory"):
        kept.recall()


def test_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(HomelabError) as refused:
        ClusterMemory(tmp_path / "gone").keep(SEEN)

    assert "XDG_STATE_HOME" in refused.value.cure
