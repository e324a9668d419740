"""Whatever stands in `.env`: a Config or a ConfigError, and every problem has a cure."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from homelab.config import load, parse
from homelab.config.dotenv_file import LocalFiles
from homelab.config.parsing import read_config
from homelab.config.reader import Reader, Surroundings
from homelab.errors import ConfigError
from homelab.settings import Config, Via

GOOD = {"API_TOKEN": "root@pam!homelab=0", "NODE_1": "pve", "STORAGE_1": "local", "NODE_2": "b", "STORAGE_2": "local"}


def keys_read() -> list[str]:
    """Every key that is asked for with three nodes."""
    reader = Reader(GOOD | {"NODE_3": "c"}, Surroundings(Path("/nonexistent"), LocalFiles(), ""))
    read_config(reader, Via.AUTO)
    return sorted(reader.asked)


keys = st.sampled_from(keys_read())
near_misses = st.from_regex(
    r"(ip6?=)?(\[?[0-9a-f:.]{0,20}\]?)(/\d{0,3})?(,gw6?=[0-9a-f.:]*)?|\d{0,20}[KMGT.e-]?\d?|~?[a-z{}!%./~@=-]{0,20}"
    r"|https?://[a-z0-9\[\]:@./?#]{0,20}|[a-z]+@[a-z]+![a-z]+=.{0,9}",
    fullmatch=True,
)
values = st.dictionaries(keys, st.one_of(st.text(max_size=40), near_misses), max_size=6)


def has_cures(error: ConfigError) -> bool:
    return bool(error.problems) and all(problem.what and problem.why and problem.cure for problem in error.problems)


def outcome(values: dict[str, str]) -> Config | ConfigError:
    try:
        return parse(values, home=Path("/nonexistent"), via=Via.AUTO, files=LocalFiles())
    except ConfigError as error:
        return error


@settings(derandomize=True, max_examples=250, deadline=None)
@given(values)
def test_any_values_end_in_a_configuration_or_in_problems_with_cures(changes: dict[str, str]) -> None:
    result = outcome(GOOD | changes)
    if isinstance(result, ConfigError):
        assert has_cures(result)
    else:
        assert result.nodes
        assert all(0 < node.cpu_ratio <= 1 and node.vm_name and node.disk_storage for node in result.nodes)
        assert len({node.vm_name for node in result.nodes}) == len(result.nodes)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(keys, st.text(st.characters(exclude_categories=[]), max_size=200))
def test_any_text_in_any_key_can_be_reported_in_utf_8(key: str, text: str) -> None:
    result = outcome(GOOD | {key: text})
    said = result.problems if isinstance(result, ConfigError) else (result.warnings, result.dropped)
    str(said).encode()


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.lists(st.sampled_from([*"='\"#${}:-\n \\", "NODE_1", "a", "export "])).map("".join)
    )
)
def test_any_file_ends_in_a_configuration_or_in_problems(content: bytes | str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, ".env")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            load(path, Via.AUTO, GOOD)
        except ConfigError as error:
            assert has_cures(error)
