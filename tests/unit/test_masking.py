"""Secrets are taken out of what is shown, and nothing else is."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest

from homelab.masking import masked, masked_data
from homelab.settings import Secret

JOIN_TOKEN = "K10" + "0a" * 32 + "::server:5f0c6a58"
AWKWARD = "o'hä /+&\"nary%-\\77"
PEM = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPcanaryAwEHoUQDQgAE
xyZcanaryCanaryCANARY==
-----END EC PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token=8c1f-canary-77", "token=***"),
        ("x8c1f-canary-77x", "x***x"),
        ("password pw refused", "password *** refused"),
        ("vmid=107, pwd", "vmid=107, pwd"),
        (f"curl said {JOIN_TOKEN} is bad", "curl said *** is bad"),
        ("Authorization: PVEAPIToken=root@pam!x=8d2e", "Authorization: PVEAPIToken=***"),
        ("{'Authorization': 'Bearer eyJhbGciOi.J9'}", "{'Authorization': 'Bearer ***'}"),
        ("proxy http://me:pass@proxy:3128 refused", "proxy http://***@proxy:3128 refused"),
        ("ssh ubuntu@pve3, see https://pve3:8006/#v1:0:18:4", "ssh ubuntu@pve3, see https://pve3:8006/#v1:0:18:4"),
    ],
    ids=["long", "long-inside-a-word", "short-word", "short-inside-a-word", "join-token", "api", "bearer", "url", "no"],
)
def test_secret_is_hidden_and_what_merely_contains_a_short_one_is_not(text: str, shown: str) -> None:
    assert masked(text, [Secret("8c1f-canary-77"), Secret("pw")]) == shown


def test_empty_secret_hides_nothing() -> None:
    assert masked("all is well", [Secret("")]) == "all is well"


def test_longer_secret_goes_before_a_shorter_one_inside_it() -> None:
    assert masked("canary-long-one", [Secret("canary-long"), Secret("canary-long-one")]) == "***"


def test_json_stays_json_and_numbers_stay_numbers_whatever_the_secret_is() -> None:
    data = {"vmid": 100, "running": True, "outcomes": [{"what": "password 0 refused", "cure": None}]}

    shown = json.loads(json.dumps(masked_data(data, [Secret("0")])))

    assert shown == {"vmid": 100, "running": True, "outcomes": [{"what": "password *** refused", "cure": None}]}


@pytest.mark.parametrize(
    "written",
    [
        str,
        repr,
        json.dumps,
        shlex.quote,
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: urlencode({"a": 1, "p": text, "b": 2}),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
        lambda text: base64.b64encode(f"me: {text}, and more".encode()).decode(),
        lambda text: base64.urlsafe_b64encode(f"me:{text};".encode()).decode(),
    ],
)
def test_secret_is_hidden_however_it_is_written(written: Callable[[str], str]) -> None:
    line = f"before {written(AWKWARD)} after"

    shown = masked(line, [Secret(AWKWARD)])

    assert shown != line
    assert "***" in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert not [part for part in ("nary", "77", "b25hcnk", "bmFyeS", "uYXJ5") if part in shown]


def test_key_in_pem_form_is_hidden_whole_line_by_line_and_in_base64() -> None:
    encoded = base64.b64encode(PEM.encode()).decode()
    line = PEM.splitlines()[1]

    assert (
        masked(f"a {PEM} b {line} c client-key-data: {encoded}", [Secret(PEM)]) == "a *** b *** c client-key-data: ***"
    )
    assert masked("-----BEGIN EC PRIVATE KEY-----", [Secret(PEM)]) == "-----BEGIN EC PRIVATE KEY-----"
