"""Seeds and faults are chosen by name, with options checked by name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pvelab.catalogue import Catalogue, UnknownChoice, parse_choice

THINGS = Catalogue("thing")


@THINGS.add("bake")
def bake(_lab: object, what: str, minutes: int = 30) -> str:
    """Bakes something.

    For some time.
    """
    return f"{what} {minutes + 0}"


@THINGS.add("clean")
def clean(_lab: object) -> None:
    """Cleans."""


@dataclass(frozen=True)
class Recipe:
    what: str
    minutes: int = 30


@THINGS.add("cook", Recipe)
def cook(_lab: object, plan: Recipe) -> str:
    """Cooks."""
    return f"{plan.what} {plan.minutes + 0}"


def test_a_text_gives_the_name_and_its_options() -> None:
    assert parse_choice("bake:what=bread,minutes=5") == ("bake", {"what": "bread", "minutes": "5"})
    assert parse_choice("clean") == ("clean", {})
    with pytest.raises(UnknownChoice, match="NAME:key=value"):
        parse_choice("bake:bread")


def test_a_typed_number_becomes_a_number() -> None:
    function, options = THINGS.choose("bake", {"what": "bread", "minutes": "5"})
    assert function(None, **options) == "bread 5"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("fry", {}, "no thing 'fry'; there are: bake, clean, cook"),
        ("bake", {"who": "me"}, "thing bake has no option 'who', only: what, minutes"),
        ("clean", {"what": "x"}, "thing clean has no option 'what', only: none"),
        ("bake", {}, "thing bake needs what=..."),
        ("bake", {"what": "x", "minutes": "soon"}, "minutes=soon: give a number"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(name: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UnknownChoice) as refused:
        THINGS.choose(name, options)
    assert str(refused.value) == said


def test_the_list_shows_options_with_their_defaults() -> None:
    bake_shown = ("bake:what=...,minutes=30", "Bakes something. For some time.")
    assert list(THINGS.described()) == [bake_shown, ("clean", "Cleans."), ("cook:what=...,minutes=30", "Cooks.")]


def test_the_fields_of_a_plan_are_options() -> None:
    function, options = THINGS.choose("cook", {"what": "soup", "minutes": "5"})
    assert function(None, **options) == "soup 5"
    with pytest.raises(UnknownChoice, match="thing cook needs what"):
        THINGS.choose("cook", {})
