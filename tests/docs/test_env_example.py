"""`.env.example` holds every key that is read, and nothing else; so does the README's table of keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from homelab.config.dotenv_file import LocalFiles
from homelab.config.parsing import parse, read_config
from homelab.config.reader import Reader, Surroundings
from homelab.errors import ConfigError
from homelab.settings import Config, Via

PROJECT = Path(__file__).parents[2]
EXAMPLE = (PROJECT / ".env.example").read_text(encoding="utf-8")
ASSIGNMENT = re.compile(r"^(# )?([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)
TOKEN = "root@pam!homelab=secret"
HOME = Path("/nonexistent")


def assignments(*, commented: bool) -> dict[str, str]:
    """The keys of the example with their values; those behind `# ` too if `commented`."""
    return {match[2]: match[3] for match in ASSIGNMENT.finditer(EXAMPLE) if commented or not match[1]}


def read(values: dict[str, str]) -> Config:
    return parse(values | {"API_TOKEN": TOKEN}, home=HOME, via=Via.AUTO, files=LocalFiles())


def keys_read() -> set[str]:
    """Every key that the configuration asks for, numbered ones as KEY_n."""
    reader = Reader({"API_TOKEN": TOKEN, "NODE_1": "pve", "STORAGE_1": "local"}, Surroundings(HOME, LocalFiles(), ""))
    read_config(reader, Via.AUTO)
    return {without_number(key) for key in reader.asked}


def without_number(key: str) -> str:
    return re.sub(r"_[0-9]+$", "_n", key)


def keys_in_readme() -> list[str] | None:
    """The first column of the README's table whose header is `Key`; None if there is no such table."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| *Keys? *\|.*\n\|[-| :]+\n((?:\|.*\n?)+)", readme, re.MULTILINE)
    if table is None:
        return None
    first_cells = (row.split("|")[1] for row in table[1].splitlines())
    return [key for cell in first_cells for key in re.findall(r"`([A-Z][A-Za-z0-9_]*)`", cell)]


def test_every_key_that_is_read_is_in_the_example_and_every_key_there_is_read() -> None:
    assert {without_number(key) for key in assignments(commented=True)} == keys_read()


def test_example_has_each_key_once() -> None:
    keys = [match[2] for match in ASSIGNMENT.finditer(EXAMPLE)]
    assert sorted(keys) == sorted(set(keys))


def test_example_asks_only_for_the_token() -> None:
    with pytest.raises(ConfigError) as error:
        parse(assignments(commented=False), home=HOME, via=Via.AUTO, files=LocalFiles())
    assert [problem.what for problem in error.value.problems] == ["API_TOKEN is not set"]


def test_example_with_a_token_has_two_nodes() -> None:
    config = read(assignments(commented=False))
    assert [(node.name, node.bridges) for node in config.nodes] == [
        ("pve", ("vmbr0", "vmbr1")),
        ("fun-bedbug", ("vmbr0",)),
    ]
    assert {(node.storage, node.disk_storage) for node in config.nodes} == {("local-zfs", "local-zfs")}
    assert (config.dropped, config.warnings) == ((), ())


def test_new_node_of_four_lines_joins_the_example() -> None:
    four_lines = {"NODE_3": "new-node-name", "STORAGE_3": "local-zfs", "CPU_RATIO_3": "0.8", "MEMORY_RATIO_3": "0.8"}
    assert [node.name for node in read(assignments(commented=False) | four_lines).nodes][2] == "new-node-name"


def test_token_and_names_alone_give_one_clear_problem_for_each_node() -> None:
    with pytest.raises(ConfigError) as error:
        read({"NODE_1": "a", "NODE_2": "b", "NODE_3": "c"})
    whats = [problem.what for problem in error.value.problems]
    assert whats == ["STORAGE_1 is not set", "STORAGE_2 is not set", "STORAGE_3 is not set"]


def test_commented_keys_show_their_defaults() -> None:
    assert read(assignments(commented=True)) == read(assignments(commented=False))


def test_readme_lists_the_same_keys() -> None:
    in_readme = keys_in_readme()
    if in_readme is None:
        pytest.skip("README.md has no table of keys")
    assert sorted(in_readme) == sorted(set(in_readme))
    assert set(in_readme) == keys_read()
