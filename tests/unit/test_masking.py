"""Secrets are taken out of what is shown, and nothing else is."""

from __future__ import annotations

import json

import pytest

from homelab.masking import masked, masked_data
from homelab.settings import Secret

JOIN_TOKEN = "K10" + "0a" * 32 + "::server:5f0c6a58"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token=8c1f-canary-77", "token=***"),
        ("x8c1f-canary-77x", "x***x"),
        ("password pw refused", "password *** refused"),
        ("vmid=107, pwd", "vmid=107, pwd"),
        (f"curl said {JOIN_TOKEN} is bad", "curl said *** is bad"),
    ],
    ids=["long", "long-inside-a-word", "short-word", "short-inside-a-word", "join-token"],
)
def test_secret_is_hidden_and_what_merely_contains_a_short_one_is_not(text: str, shown: str) -> None:
    assert masked(text, [Secret("8c1f-canary-77"), Secret("pw")]) == shown


def test_longer_secret_goes_before_a_shorter_one_inside_it() -> None:
    assert masked("canary-long-one", [Secret("canary-long"), Secret("canary-long-one")]) == "***"


def test_json_stays_json_and_numbers_stay_numbers_whatever_the_secret_is() -> None:
    data = {"vmid": 100, "running": True, "outcomes": [{"what": "password 0 refused", "cure": None}]}

    shown = json.loads(json.dumps(masked_data(data, [Secret("0")])))

    assert shown == {"vmid": 100, "running": True, "outcomes": [{"what": "password *** refused", "cure": None}]}
