"""What a person, a pipe and a program are told, and what the exit code says."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from homelab.errors import ConfigError, HomelabError, NodeFailed, Problem
from homelab.legible import legible
from homelab.models import Action, Finding, Outcome, Severity, Status, Verdict
from homelab.report import Report
from homelab.settings import DroppedNode, Secret
from unit.builders import config, node_facts, node_plan, stopped
from unit.reported import ABSENT, FAILED, FULL, HEALTHY, OK, UNREACHABLE, Captured, plan

CHANGED = Outcome("pve2", Status.CHANGED, "VM k3s-vm-pve2 (vmid=108) created, running")

# --- while it runs -----------------------------------------------------------------------------------------------


def test_progress_warnings_and_the_fallback_are_no_part_of_the_answer(capsys: Captured) -> None:
    report = Report()
    report.progress("pve1: creating")
    report.warn("NODE_3 is missing")
    report.fallback("pve1", "certificate verify failed")
    report.say("the answer")

    out, err = capsys.readouterr()
    assert out == "the answer\n"
    assert err.splitlines() == [
        "pve1: creating",
        "warning: NODE_3 is missing",
        "pve1: using CLI fallback (certificate verify failed)",
    ]


class _Writes(io.StringIO):
    """Standard error that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[str] = []

    def write(self, text: str) -> int:
        self.each += [text] if text else []
        return len(text)


def test_a_line_is_written_at_once_so_that_those_of_several_nodes_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Writes()
    monkeypatch.setattr(sys, "stderr", stream)
    Report().progress("pve1: image uploaded")
    Report().warn("the name is long")
    assert stream.each == ["pve1: image uploaded\n", "warning: the name is long\n"]


@pytest.mark.parametrize("is_json", [False, True])
def test_what_the_streams_encoding_has_no_letter_for_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, is_json: bool
) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    report = Report(is_json=is_json)
    report.add([Outcome("pve1", Status.OK, "Gr\u00fc\u00dfe von \ud800")])

    report.finish()

    assert b"von \\ud800" in written.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gr\u00fc\u00dfe", "Gr\u00fc\u00dfe"),
        ("a\n\tb", "a\n\tb"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\ud800\x00\x9b", "\\ud800\\x00\\x9b"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 5000 + "\nshort", "x" * 4000 + "... (1000 more characters)\nshort"),
    ],
)
def test_text_from_outside_steers_no_terminal_and_is_not_endless(text: str, shown: str) -> None:
    assert legible(text) == shown


def test_json_is_whole_however_long_a_text_in_it_is(capsys: Captured) -> None:
    report = Report(is_json=True)
    report.add([Outcome("pve1", Status.OK, "x" * 10_000)])
    report.finish()
    assert json.loads(capsys.readouterr().out)["outcomes"][0]["what"] == "x" * 10_000


def test_quiet_leaves_only_what_needs_attention(capsys: Captured) -> None:
    report = Report(is_quiet=True)
    report.progress("pve1: creating")
    report.warn("NODE_3 is missing")
    report.fallback("pve1", "connection refused")

    assert capsys.readouterr().err.splitlines() == [
        "warning: NODE_3 is missing",
    ]


def test_cron_that_only_looks_is_told_of_warnings_at_once(capsys: Captured) -> None:
    Report(is_cron=True, is_dry_run=True).warn("NODE_3 is missing")

    assert capsys.readouterr().err == "warning: NODE_3 is missing\n"


def test_the_fallback_is_said_on_stderr(capsys: Captured) -> None:
    Report().fallback("pve1", "connection refused")

    assert capsys.readouterr() == ("", "pve1: using CLI fallback (connection refused)\n")


@pytest.mark.parametrize(("is_verbose", "shown"), [(True, "127.10.1.1: GET /version\n"), (False, "")])
def test_requests_are_shown_to_those_who_ask_for_details(capsys: Captured, is_verbose: bool, shown: str) -> None:
    with Report(is_verbose=is_verbose).details():
        logging.getLogger("homelab.proxmox").debug("%s: GET /version", "127.10.1.1")
    logging.getLogger("homelab.proxmox").debug("after the run")

    assert capsys.readouterr().err == shown


def test_secrets_are_masked_in_details_too(capsys: Captured) -> None:
    with Report(is_verbose=True, secrets=(Secret("canary"),)).details():
        logging.getLogger("homelab").debug("token canary")

    assert capsys.readouterr().err == "token ***\n"


def test_secrets_in_arguments_and_exceptions_of_what_is_logged_are_masked(capsys: Captured) -> None:
    report = Report(is_verbose=True)
    with report.details():
        report.hide(Secret("canary-learned"))
        try:
            raise ValueError("canary-learned is bad")
        except ValueError:
            logging.getLogger("homelab.shell").debug("login with %s", {"as": "canary-learned"}, exc_info=True)

    said = capsys.readouterr().err
    assert said.startswith("login with {'as': '***'}\nTraceback")
    assert said.endswith("ValueError: *** is bad\n")


@pytest.mark.parametrize(("is_verbose", "shown"), [(True, "urllib3.pool: retrying /?x=***\n"), (False, "")])
def test_what_libraries_warn_of_is_a_detail(capsys: Captured, is_verbose: bool, shown: str) -> None:
    with Report(is_verbose=is_verbose, secrets=(Secret("canary/1"),)).details():
        logging.getLogger("urllib3.pool").warning("retrying %s", "/?x=canary%2F1")

    assert capsys.readouterr().err == shown


def test_defect_ends_the_run_with_one_line_and_where_it_was_is_a_detail(capsys: Captured) -> None:
    report = Report(is_verbose=True, secrets=(Secret("canary"),))
    with pytest.raises(HomelabError, match="defect in homelab: KeyError: 'canary'") as told, report.details():
        raise KeyError("canary")

    assert "Traceback" in (said := capsys.readouterr().err)
    assert "canary" not in said
    assert told.value.exit_code == 1


def test_what_has_changed_is_said_at_once_and_what_has_not_is_not(capsys: Captured) -> None:
    Report().add([OK, CHANGED, FAILED])

    assert capsys.readouterr() == ("", f"pve2: {CHANGED.what}\n")


# --- errors ------------------------------------------------------------------------------------------------------


def test_the_cure_stands_just_before_the_error(capsys: Captured) -> None:
    Report().problem(FULL)

    assert capsys.readouterr().err.splitlines() == [
        "  try: free some space on tank",
        "error: storage tank is full: 1 GiB is free",
    ]


def test_a_cause_that_several_nodes_share_is_told_once_with_their_names(capsys: Captured) -> None:
    nodes = [stopped(1), stopped(2), node_facts(Verdict.UNKNOWN, number=3)]
    why = ("the VMs cannot be listed", "look at the token")
    report = Report()
    report.show_plan(plan(*(node_plan(Action.NOTHING, node) for node in nodes)))
    report.add(Outcome.failed(node.name, Problem(f"{node.name}: nothing done", *why)) for node in nodes)
    report.add(Outcome.failed(node.name, Problem(f"{node.vm_title} is kept", *why)) for node in nodes[:2])
    report.add(Outcome.failed(node.name, Problem(f"{node.config.vm_name} is not joined", *why)) for node in nodes[2:])
    report.finish()

    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "  try: look at the token",
        "error: pve1, pve2, pve3: nothing done: the VMs cannot be listed",
        "  try: look at the token",
        "error: pve1, pve2: VM is kept: the VMs cannot be listed",
        "  try: look at the token",
        "error: k3s-vm-pve3 is not joined: the VMs cannot be listed",
    ]
    assert out.count("FAILED") == 6


def test_an_error_without_a_cure_promises_none(capsys: Captured) -> None:
    Report().problem(Problem("no route", "", ""))

    assert capsys.readouterr().err == "error: no route\n"


def test_a_bad_configuration_is_refused_with_every_problem(capsys: Captured) -> None:
    code = Report().refuse(ConfigError([Problem("A", "is empty", "set A"), Problem("B", "is no number", "set B")]))

    err = capsys.readouterr().err.splitlines()
    assert code == 2
    assert err == [
        "  try: set A",
        "error: A: is empty",
        "  try: set B",
        "error: B: is no number",
        "2 problem(s) in the configuration; nothing was contacted",
    ]


def test_a_run_that_cannot_go_on_ends_in_1(capsys: Captured) -> None:
    assert Report().abort(NodeFailed("no node answers", "timed out", "is the network up?")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: no node answers: timed out"


# --- the exit code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "running", "code"),
    [
        ([OK], ["pve1"], 0),
        ([OK, CHANGED], ["pve1", "pve2"], 0),
        ([Outcome("pve1", Status.SKIPPED, "kept")], [], 0),
        ([OK, FAILED], ["pve1"], 3),
        ([FAILED], [], 1),
        ([], [], 0),
    ],
    ids=["healthy", "changed", "kept-by-choice", "one-of-two-failed", "no-vm-runs", "nothing"],
)
def test_the_exit_code_tells_wanted_partly_and_failed(outcomes: list[Outcome], running: list[str], code: int) -> None:
    report = Report()
    report.add(outcomes)
    for node in running:
        report.runs(node)

    assert report.exit_code == code


def test_vms_on_nodes_that_the_run_is_not_about_count_for_the_exit_code() -> None:
    running, down = Report(), Report()
    running.show_plan(plan(UNREACHABLE, others=(HEALTHY.facts,)))
    down.show_plan(plan(UNREACHABLE, others=(stopped(), ABSENT.facts)))
    for report in (running, down):
        report.add([FAILED])

    assert (running.exit_code, down.exit_code) == (3, 1)


def test_a_node_dropped_for_its_own_keys_fails_while_the_others_go_on(capsys: Captured) -> None:
    report = Report()
    problem = Problem("CPU_RATIO_2=3", "more than 1", "set CPU_RATIO_2 to 1 or less")
    report.dropped(replace(config(), dropped=(DroppedNode(2, "pve2", (problem,)),)))
    report.add([OK])
    report.runs("pve1")

    assert report.finish() == 3
    assert "error: CPU_RATIO_2=3: more than 1" in capsys.readouterr().err


# --- the report --------------------------------------------------------------------------------------------------


def test_a_pipe_gets_plain_lines_in_the_order_of_n_with_errors_apart(capsys: Captured) -> None:
    report = Report()
    report.show_plan(plan(HEALTHY, ABSENT, UNREACHABLE))
    report.add([Outcome("k3s", Status.SKIPPED, "K3S_EXISTING_NODE_IP not set, skipping k3s join")])
    report.add([FAILED, CHANGED, OK, FAILED])
    report.runs("pve1")
    capsys.readouterr()

    assert report.finish() == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "pve1  ok       VM k3s-vm-pve1 (vmid=107) is healthy, skipping.",
        "pve2  changed  VM k3s-vm-pve2 (vmid=108) created, running",
        "pve3  FAILED   storage tank is full: 1 GiB is free",
        "pve3  FAILED   storage tank is full: 1 GiB is free",
        "k3s   skipped  K3S_EXISTING_NODE_IP not set, skipping k3s join",
        "3 nodes, 1 with their VM running; 1 changed, 2 failed",
    ]
    assert err.splitlines() == ["  try: free some space on tank", "error: storage tank is full: 1 GiB is free"]


def test_a_run_that_found_nothing_says_so(capsys: Captured) -> None:
    assert Report().finish() == 0
    assert capsys.readouterr().out == "0 nodes, 0 with their VM running; 0 changed, 0 failed\n"


def test_what_is_to_be_done_is_told_before_it_is_carried_out(capsys: Captured) -> None:
    Report().show_plan(plan(HEALTHY, ABSENT, warnings=("NODE_3 is missing",)))

    assert capsys.readouterr().err.splitlines() == [
        "warning: NODE_3 is missing",
        f"pve2: create: {ABSENT.reason}",
    ]


def test_a_plan_that_writes_nothing_is_not_told(capsys: Captured) -> None:
    Report().show_plan(plan(HEALTHY, UNREACHABLE))

    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("outcome", "is_shown"), [(OK, False), (FAILED, True)])
def test_quiet_prints_the_report_only_when_something_failed(capsys: Captured, outcome: Outcome, is_shown: bool) -> None:
    report = Report(is_quiet=True)
    report.add([outcome])
    report.finish()

    assert bool(capsys.readouterr().out) is is_shown


def everything_on(terminal: int) -> str:
    os.set_blocking(terminal, False)
    chunks: list[bytes] = []
    with suppress(BlockingIOError):
        while True:
            chunks.append(os.read(terminal, 65536))
    return b"".join(chunks).decode()


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    report = Report(secrets=(Secret("hunter2"),))
    report.add([OK, replace(FAILED, what="password hunter2 refused")])
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        report.finish()
        terminal.flush()
        shown = ""
        while "0 failed" not in shown and "1 failed" not in shown:
            shown += os.read(ours, 65536).decode()
    os.close(ours)

    assert "is healthy, skipping." in shown
    assert "\x1b[1;31mFAILED" in shown
    assert "hunter2" not in shown
    assert "0 nodes" in shown


def test_what_went_well_with_a_reservation_is_a_warning_with_its_cure(capsys: Captured) -> None:
    report = Report(is_quiet=True)
    report.add([OK, Outcome("pve2", Status.SKIPPED, "no guest agent", "no snippets", "pvesm set local ...")])

    assert report.finish() == 0
    assert capsys.readouterr() == ("", "  try: pvesm set local ...\nwarning: no guest agent: no snippets\n")


# --- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["hunter2", 'quo"te\\d', "pässwört"])
def test_a_secret_is_never_shown(capsys: Captured, secret: str) -> None:
    for is_json in (False, True):
        report = Report(is_json=is_json, secrets=(Secret(secret),))
        report.progress(f"password {secret}")
        report.add([Outcome.failed("pve1", Problem(f"{secret} refused", secret, f"change {secret}"))])
        report.finish()

    shown = "".join(capsys.readouterr())
    assert "***" in shown
    assert secret not in shown
    assert json.dumps(secret)[1:-1] not in shown


def test_a_secret_that_contains_another_is_masked_whole(capsys: Captured) -> None:
    Report(secrets=(Secret("abc"), Secret("abc-123"))).say("token abc-123")

    assert capsys.readouterr().out == "token ***\n"


def test_when_nobody_reads_any_more_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        Report().progress("pve1: creating")
        Report().progress("pve1: created")


def test_warnings_of_the_rooms_are_shown_without_being_asked_for(capsys: Captured) -> None:
    with Report(secrets=(Secret("canary-secret"),)).details():
        logging.getLogger("homelab.proxmox").warning("task ended with WARNINGS: canary-secret")

    assert capsys.readouterr().err == "warning: task ended with WARNINGS: ***\n"


def test_findings_are_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ours, theirs = pty.openpty()
    found = [
        Finding("pve1", Problem("pve1: bridge vmbr1 is missing", "there is none", "create it")),
        Finding("", Problem("it is [bold]so[/bold]", "", ""), Severity.WARNING),
    ]
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        assert Report().examined(["pve1", "pve2"], found) == 1
        terminal.flush()
        seen = ""
        while "findings;" not in seen:
            seen += os.read(ours, 65536).decode()
    os.close(ours)

    told = ("pve2", "bridge vmbr1", "create it", "[bold]so[/bold]")
    assert [text for text in told if text not in seen] == []


def test_finding_that_nodes_share_is_told_once(capsys: Captured) -> None:
    problem = Problem("{}: no SSH public key for the VM", "none was found", "make one")
    found = [Finding(node, replace(problem, what=problem.what.format(node))) for node in ("pve1", "pve2")]

    assert Report(is_json=True).examined(["pve1", "pve2"], found) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "exit_code": 1,
        "nodes": ["pve1", "pve2"],
        "findings": [
            {
                "nodes": ["pve1", "pve2"],
                "severity": "error",
                "what": "no SSH public key for the VM",
                "why": "none was found",
                "cure": "make one",
            }
        ],
    }
    assert Report().examined([], []) == 0
    assert capsys.readouterr().out == "0 nodes looked at, nothing is amiss; nothing was changed\n"
