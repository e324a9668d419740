"""No secret value is part of a problem, a warning or a repr."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from homelab.config import parse
from homelab.config.dotenv_file import LocalFiles
from homelab.config.parsing import read_config
from homelab.config.reader import Reader, Surroundings
from homelab.errors import ConfigError
from homelab.settings import ApiToken, Secret, Via

CANARY = "0c4a91d2-7e1f-4b7a-canary"
TOKEN = f"root@pam!homelab={CANARY}"
NODES = {"NODE_1": "pve", "STORAGE_1": "local-zfs", "NODE_2": "fun-bedbug", "STORAGE_2": "local-zfs"}


def keys_read() -> list[str]:
    """Every key that is asked for with two nodes, except those whose names are needed in the messages."""
    reader = Reader(NODES | {"API_TOKEN": TOKEN}, Surroundings(Path("/nonexistent"), LocalFiles(), ""))
    read_config(reader, Via.AUTO)
    return sorted(reader.asked - {"API_TOKEN", "CLOUD_PASSWORD", "NODE_1", "NODE_2"})


def everything_said(values: dict[str, str]) -> str:
    """All texts that a person or a log could get to see of these values."""
    try:
        config = parse(values, home=Path("/nonexistent"), via=Via.AUTO, files=LocalFiles())
    except ConfigError as error:
        return repr((error, error.problems, str(error), error.cure))
    return repr((config.warnings, config.dropped, config.api, config.guest.password))


@pytest.mark.parametrize("key", keys_read())
def test_secret_under_a_wrong_key_is_not_shown(key: str) -> None:
    password = {"CLOUD_PASSWORD": "hunter2-canary"}
    shown = [
        everything_said(NODES | {"API_TOKEN": TOKEN, key: f"x {TOKEN}"}),
        everything_said(NODES | {"API_TOKEN": TOKEN, key: f"x {CANARY}"}),
        everything_said(NODES | {key: f"x {TOKEN}"}),
        everything_said(NODES | password | {"API_TOKEN": TOKEN, key: "x hunter2-canary"}),
        everything_said(NODES | {"HA_TOKEN": "hunter2-canary", "API_TOKEN": TOKEN, key: "x hunter2-canary"}),
        everything_said(NODES | {"API_TOKEN": TOKEN, key: "-----BEGIN OPENSSH PRIVATE KEY----- canary"}),
        everything_said(NODES | {"API_TOKEN": TOKEN, key: "K10a1b2c3d4e5f60718293::server:canary"}),
    ]
    assert not [text for text in shown if "canary" in text]


@pytest.mark.parametrize("token", [CANARY, f"root@pam!homelab:{CANARY}", f"root!homelab={CANARY}", f"{TOKEN} {CANARY}"])
def test_malformed_token_is_not_shown(token: str) -> None:
    said = everything_said(NODES | {"API_TOKEN": token})
    assert "API_TOKEN cannot be used" in said
    assert "canary" not in said


def test_password_with_a_control_character_is_named_and_not_shown() -> None:
    said = everything_said(NODES | {"API_TOKEN": TOKEN, "CLOUD_PASSWORD": "canary\n"[:-1] + "\x07"})
    assert "CLOUD_PASSWORD cannot be used" in said
    assert "canary" not in said


def test_good_configuration_has_no_secret_in_its_repr() -> None:
    values = NODES | {"API_TOKEN": TOKEN, "CLOUD_PASSWORD": "hunter2-canary", "MAAS_API_KEY": "third-canary"}
    config = parse(values, home=Path("/nonexistent"), via=Via.AUTO, files=LocalFiles())
    assert "canary" not in repr(config)
    assert "canary" not in str(config)


def test_secret_is_equal_to_itself_only_and_shows_in_no_form_of_what_holds_it() -> None:
    token = ApiToken("root@pam", "homelab", Secret(CANARY))
    assert token == ApiToken("root@pam", "homelab", Secret(CANARY))
    assert Secret(CANARY) not in (Secret("other"), CANARY)
    assert len({Secret(CANARY), Secret(CANARY)}) == 1
    shown = [repr(token), str(token), f"{token.secret}", str(asdict(token)), json.dumps(asdict(token), default=str)]
    assert not [text for text in shown if "canary" in text]


def test_ordinary_value_is_shown() -> None:
    assert "CPU_RATIO_2='1.5' cannot be used" in everything_said(NODES | {"API_TOKEN": TOKEN, "CPU_RATIO_2": "1.5"})
