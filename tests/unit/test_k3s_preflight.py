"""What is looked at inside a machine before k3s is set up: lasting trouble ends it at once, passing one gets time."""

from __future__ import annotations

from base64 import b64encode

import pytest

from homelab.errors import NodeFailed
from homelab.k3s_manager import authority
from homelab.k3s_manager.preflight import PATIENCE_S, Wanted, check, look
from homelab.shell import Result
from support.clock import SteppingClock
from support.fake_shell import FakeShell, done

URL = "https://192.0.2.10:6443"
NAME = "k3s-vm-a"
TIME_S = 1_795_000_000
DATE = "Wed, 18 Nov 2026 11:06:40 GMT"


def certificate(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{b64encode(text.encode()).decode()}\n-----END CERTIFICATE-----\n"


OURS = certificate("ours")
WANTED = Wanted(NAME, URL, authority.fingerprints(OURS))


def said(
    *, name: str = NAME, time: str = str(TIME_S), route: str = "default via 192.0.2.1 dev eth0", **web: str
) -> str:
    """What a machine says that is well, unless the test says otherwise; `web` is date, pem and curl's exit code."""
    date = web.get("date", DATE)
    head = f"HTTP/2 200 \r\ndate: {date}\r\n\r\n" if date else ""
    answer = "" if web.get("code", "0") != "0" else f"{head}{web.get('pem', OURS)}"
    after, code = web.get("after", time), web.get("code", "0")
    return f"name={name}\nroute={route}\nbefore={time}\n{answer}\nafter={after}\ncurl={code}\n"


def checked(*answers: str) -> float:
    """How long the check took, in seconds; the last answer is given again and again."""
    left = list(answers)
    clock = SteppingClock()
    began = clock.now()

    def respond(line: str, _: bytes) -> Result:
        assert f"{URL}/cacerts" in line
        return done(left.pop(0) if len(left) > 1 else left[0])

    check(FakeShell(respond), WANTED, clock)
    return clock.now() - began


@pytest.mark.parametrize(
    "answer",
    [
        said(),
        said(time=str(TIME_S + 30)),
        said(time=str(TIME_S - 40), after=str(TIME_S + 40)),
        said(date=""),
        said(date="soon"),
        said(time="date: not found"),
        said(after="date: not found"),
    ],
    ids=["well", "a-little-fast", "slow-answer", "server-tells-no-time", "no-date", "no-time", "no-time-later"],
)
def test_machine_that_is_well_is_looked_at_once(answer: str) -> None:
    assert checked(answer) == 0


@pytest.mark.parametrize(
    ("answer", "what", "cure"),
    [
        (said(name="ubuntu"), "the VM calls itself ubuntu", "hostnamectl set-hostname k3s-vm-a"),
        ("", "the VM calls itself (nothing)", "hostnamectl"),
        (said(pem=certificate("another")), f"another cluster answers in the VM at {URL}", "NETWORK_IFACES_n"),
    ],
)
def test_lasting_trouble_is_not_waited_for(answer: str, what: str, cure: str) -> None:
    with pytest.raises(NodeFailed, match="k3s-vm-a") as failed:
        checked(answer, said())
    assert failed.value.what == f"{NAME}: {what}"
    assert cure in failed.value.cure


@pytest.mark.parametrize(
    ("answer", "what", "why", "cure"),
    [
        (said(route=""), "the VM has no default route", "does not start", "CLOUD_IP_CONFIG_n"),
        (said(code="28"), "cannot be reached from the VM", "no answer in time", "NETWORK_IFACES_n"),
        (said(code="7"), "cannot be reached from the VM", "the connection is refused", "firewalls"),
        (said(code="56"), "cannot be reached from the VM", "curl exit code 56", "K3S_EXISTING_NODE_IP"),
        (said(pem="<html>"), "cannot be reached from the VM", "no k3s server", "K3S_EXISTING_NODE_IP"),
        (said(time=str(TIME_S - 600)), "the clock of the VM is 600 s slow", URL, "timedatectl"),
        (said(time=str(TIME_S + 31)), "the clock of the VM is 31 s fast", URL, "NTP"),
    ],
)
def test_passing_trouble_is_waited_for_and_then_told(answer: str, what: str, why: str, cure: str) -> None:
    assert 0 < checked(answer, answer, said()) <= PATIENCE_S

    with pytest.raises(NodeFailed) as failed:
        checked(answer)
    assert what in failed.value.what
    assert why in failed.value.why
    assert cure in failed.value.cure


def test_url_is_a_word_of_its_own_whatever_stands_in_it() -> None:
    shell = FakeShell(lambda *_: done(said()))

    look(shell, "https://[2001:db8::1]:6443")

    assert shell.commands[0].endswith(" look 'https://[2001:db8::1]:6443/cacerts'")
