"""Whatever stands in `.env`: a Config or a ConfigError, and every problem has a cure."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
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


marks = st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb"])
endings = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"])
file_keys = st.one_of(keys.map(str.encode), st.sampled_from([b"NO\0DE_1", b"\xff", b"NODE_" + b"9" * 400, b"export A"]))
file_values = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=3), st.sampled_from([1, 1000, 70_000])),
    st.lists(st.sampled_from([*"='\"#${}:-\n \\", "a", "\0", "ü"]), max_size=12).map("".join).map(str.encode),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of lines, perhaps with a byte order mark, Windows line ends, zeros, what is no UTF-8, huge values."""
    assignments = draw(st.lists(st.tuples(file_keys, file_values), max_size=5))
    end = draw(endings)
    return draw(marks) + b"".join(key + b"=" + value + end for key, value in assignments)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), files()))
def test_any_file_ends_in_a_configuration_or_in_problems(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, ".env")
        path.write_bytes(content)
        try:
            load(path, Via.AUTO, GOOD)
        except ConfigError as error:
            assert has_cures(error)


WRITTEN = "".join(f"{key}={value}\n" for key, value in GOOD.items())


@pytest.mark.parametrize(
    "content",
    [
        WRITTEN.encode("utf-8-sig"),
        WRITTEN.replace("\n", "\r\n").encode(),
        WRITTEN.replace("\n", "\r\n").encode("utf-8-sig"),
        WRITTEN.replace("\n", "\r").encode(),
    ],
    ids=["byte-order-mark", "windows-lines", "both", "old-mac-lines"],
)
def test_file_of_another_editor_is_read_as_any_other(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert load(tmp_path / ".env", Via.AUTO, {}) == load(None, Via.AUTO, GOOD)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (WRITTEN.encode("utf-16"), "it is not UTF-8 text"),
        (WRITTEN.encode() + b"CLOUD_USER=m\xfcller\n", "it is not UTF-8 text"),
        (WRITTEN.encode() + b"#" * 300_000, "it is larger than 262144 characters"),
    ],
    ids=["utf-16", "latin-1", "huge"],
)
def test_file_that_is_no_text_or_endless_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / ".env", Via.AUTO, {})
    (problem,) = error.value.problems
    assert (problem.what, problem.why) == (f"{tmp_path / '.env'} cannot be read", why)


def test_device_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        load(Path("/dev/zero"), Via.AUTO, {})


def test_zeros_and_bytes_of_the_environment_that_are_no_text_are_problems_of_their_key() -> None:
    for odd in ("a\0b", os.fsdecode(b"m\xfcller")):
        with pytest.raises(ConfigError) as error:
            load(None, Via.AUTO, {**GOOD, "CLOUD_USER": odd})
        assert [problem.why for problem in error.value.problems] == ["it holds a character that cannot be printed"]
