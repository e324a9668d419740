"""Ratios of a host become cores and MiB, or a refusal with the numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab.errors import NodeFailed
from homelab.models import GIB, MIB
from homelab.sizing import cores, memory_mib
from unit.builders import HOST, node_config


@pytest.mark.parametrize(
    ("threads", "ratio", "granted"),
    [(8, 0.5, 4), (3, 0.5, 1), (4, 0.1, 1), (10, 1.0, 10), (100, 0.29, 29), (50, 0.58, 29)],
)
def test_cores_are_the_ratio_of_the_threads_rounded_down_but_at_least_one(
    threads: int, ratio: float, granted: int
) -> None:
    assert cores(node_config(cpu_ratio=ratio), replace(HOST, threads=threads)) == granted


@given(st.integers(1, 512), st.integers(1, 1000))
def test_cores_are_exact_for_every_ratio_that_a_person_writes(threads: int, thousandths: int) -> None:
    granted = cores(node_config(cpu_ratio=thousandths / 1000), replace(HOST, threads=threads))

    assert granted == max(1, Fraction(threads * thousandths, 1000).__floor__())


def test_a_number_of_cores_wins_over_the_ratio() -> None:
    assert cores(node_config(cores=6, cpu_ratio=0.1), HOST) == 6


def test_more_cores_than_the_host_has_threads_are_refused() -> None:
    with pytest.raises(NodeFailed) as refusal:
        cores(node_config(2, cores=16), HOST)

    assert "8 threads" in refusal.value.why
    assert "VM_CORES_2" in refusal.value.cure


def granted(free_gib: float, *, reclaimed_gib: int = 0, **changes: Any) -> int:
    host = replace(HOST, memory_free_bytes=int(free_gib * GIB))
    return memory_mib(node_config(2, **changes), host, reserve_mib=2048, reclaimed_bytes=reclaimed_gib * GIB)


def test_memory_is_the_ratio_of_the_total() -> None:
    assert granted(30) == 16 * 1024


def test_memory_is_never_more_than_is_free_less_the_reserve() -> None:
    assert granted(10) == 8 * 1024


def test_what_a_vm_about_to_be_replaced_holds_counts_as_free() -> None:
    assert granted(10, reclaimed_gib=4) == 12 * 1024


def test_two_gib_are_enough() -> None:
    assert granted(4) == 2048


@pytest.mark.parametrize("free_gib", [3.9, 2, 1])
def test_less_than_two_gib_are_refused_with_the_numbers(free_gib: float) -> None:
    with pytest.raises(NodeFailed) as refusal:
        granted(free_gib)

    assert "2048 MiB are needed" in refusal.value.why
    assert f"{int(free_gib * GIB) // MIB} MiB free less 2048 MiB for the host" in refusal.value.why
    assert "0.5 of 32768 MiB" in refusal.value.why
    assert "VM_MEMORY_2" in refusal.value.cure


def test_a_ratio_that_comes_to_less_than_two_gib_is_refused_on_a_host_with_room() -> None:
    with pytest.raises(NodeFailed, match="not enough memory"):
        granted(30, memory_ratio=0.05)


def test_an_amount_of_memory_wins_over_the_ratio_even_below_two_gib() -> None:
    assert granted(30, memory_mib=1024) == 1024


@pytest.mark.parametrize("free_gib", [5, 1])
def test_an_amount_of_memory_that_is_not_free_is_refused_not_cut(free_gib: int) -> None:
    with pytest.raises(NodeFailed) as refusal:
        granted(free_gib, memory_mib=4096)

    assert "4096 MiB are needed" in refusal.value.why
