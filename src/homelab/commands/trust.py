"""`python -m homelab.main trust`: shows by what machines are known, and asks about those that nobody vouches for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from homelab import assembly
from homelab.errors import ExitCode, HomelabError, Problem
from homelab.memory import TrustStore
from homelab.proxmox import tls
from homelab.proxmox.api import Api, ApiAddress
from homelab.proxmox.node_entries import label
from homelab.proxmox.ssh import Ssh
from homelab.proxmox.transport import Transport
from homelab.report import Report
from homelab.runtime import Clock
from homelab.settings import Config, Via
from homelab.shell import TRUST_COMMAND, Shells
from homelab.trusting import Questions, Strangers
from homelab.trusting.machines import Machines, Met
from homelab.trusting.shown import Doors, Shown, Standing
from homelab.trusting.strangers import KEEP
from homelab.trusting.vouching import Word, word_of

DIGITS_OF_A_CA = 8
CHANGES = (Standing.CHANGED, Standing.REFUSED)


def run(config: Config, via: Via, report: Report, clock: Clock) -> int:
    """Show, ask, store. Exit code: 0 everything that answers is trusted, 1 something is not."""
    report.secrets = assembly.secrets_in(config, report)
    report.dropped(config)
    store = assembly.trust_store(report)
    with report.details(), assembly.shells_for(config, Strangers(store)) as shells:
        machines = Machines(config, via, shells, Doors(config, store))
        talk = Talk(config, report, clock, shells, store)
        nodes = machines.nodes()
        for number, node in enumerate(nodes):
            talk.settle(node)
            talk.let_vouch(node, nodes[number + 1 :])
        for server in machines.servers():
            talk.settle(server)
    talk.miss(nodes)
    return talk.finish()


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate or host key, and what came of it."""

    where: str
    fingerprint: str
    standing: str
    is_trusted: bool


@dataclass(slots=True)
class Talk:
    """One talk with a person: what was asked, agreed and said so far."""

    config: Config
    report: Report
    clock: Clock
    shells: Shells
    store: TrustStore
    _rows: list[Row] = field(default_factory=list)
    _problems: list[Problem] = field(default_factory=list)
    _words: list[Word] = field(default_factory=list)
    _agreed: dict[str, str] = field(default_factory=dict)
    _authority: Path | None = None
    _may_speak: bool = True

    @property
    def _questions(self) -> Questions:
        return Questions(self.report)

    def settle(self, met: Met) -> None:
        """Every certificate and host key of a machine is trusted, or it is not."""
        self._problems += met.problems
        for shown in met.shown:
            seen, by = self._judged(shown, is_server=met.place.is_server)
            if by:
                self._agreed.setdefault(seen.value, seen.where)
            standing = f"trusted: {by}" if by else f"NOT TRUSTED: {seen.by}"
            self._rows.append(Row(seen.where, seen.fingerprint, standing, bool(by)))

    def _judged(self, shown: Shown, *, is_server: bool) -> tuple[Shown, str]:
        """What was shown in the end, and why it is trusted; empty: it is not."""
        if shown.standing is Standing.TRUSTED:
            return shown, shown.by
        if shown.standing is Standing.REFUSED or not self._questions.can_be_asked:
            return shown, ""
        kinds = tuple(kind for word in self._words for kind in word.key_kinds)
        seen = shown.look_for(kinds) if shown.look_for and kinds else shown
        if voucher := self._voucher(seen):
            seen.keep()
            return seen, voucher
        doubts = [] if is_server else [f"{word.node} knows no such member of its cluster." for word in self._words]
        if not self._questions.agreed([*shown.lines, *doubts], KEEP):
            return shown, ""
        shown.keep()
        return shown, "by your answer"

    def _voucher(self, shown: Shown) -> str:
        """Who answers for it: a node that may, or a person who saw the same elsewhere and never another one here."""
        for word in self._words:
            if member := word.member(shown.value):
                return f"{member}, as {word.node} says"
        is_only_elsewhere = shown.standing is Standing.NEW and shown.value in self._agreed
        return f"the same as {self._agreed[shown.value]}" if is_only_elsewhere else ""

    # --- one trusted node speaks for the others --------------------------------------------------------------------

    def let_vouch(self, met: Met, rest: Sequence[Met]) -> None:
        """Ask whether a node that is trusted now may vouch for the others, if that is of use; then hear it."""
        if not (self._may_speak and self._questions.can_be_asked and self._is_of_use(met, rest)):
            return
        lines = [
            f"{met.place.host} is trusted. It knows the certificates and host keys of all members of its cluster,",
            "and the CA that signs their certificates.",
        ]
        self._may_speak = self._questions.agreed(lines, "Trust what it says of them, without a question for each?")
        if not self._may_speak:
            return
        wires, root = self._wires(met)
        try:
            word = word_of(wires, root)
        except HomelabError as error:
            self.report.problem(error.problem, "warning")
            return
        self._words.append(word)
        self._keep_authority(met, word)

    def _is_of_use(self, met: Met, rest: Sequence[Met]) -> bool:
        """Is it trusted, has its cluster not been heard yet, and is there something that it could say?

        A machine of which a change was not believed may be another one, whatever else it shows.
        """
        trusted = self._trusted(met)
        if any(shown.standing in CHANGES and shown not in trusted for shown in met.shown):
            return False
        if any(word.host_keys and word.member(shown.value) for word in self._words for shown in trusted):
            return False
        unknown = [shown for other in rest for shown in other.shown if _is_open(shown) and not self._voucher(shown)]
        is_root_trusted = any(shown.is_host_key for shown in trusted)
        wants_authority = self.config.api.ca_bundle is None and any(map(_is_certificate_to_ask_about, met.shown))
        return bool(trusted) and (wants_authority or any(is_root_trusted or not one.is_host_key for one in unknown))

    def _trusted(self, met: Met) -> list[Shown]:
        return [shown for shown in met.shown if shown.value in self._agreed]

    def _wires(self, met: Met) -> tuple[list[Transport], Ssh | None]:
        """To a machine that shows exactly what was trusted a moment ago."""
        api = next((shown for shown in self._trusted(met) if not shown.is_host_key), None)
        has_ssh = any(shown.is_host_key for shown in self._trusted(met))
        place, token = met.place, self.config.api.token
        wires: list[Transport] = []
        if api and token:
            address = ApiAddress(place.host, place.api_port, tls.TlsTrust(fingerprint=api.value))
            wires.append(Api(address, token, self.clock))
        ssh = Ssh("", self.shells.node(place.host, place.ssh_port), self.config.ssh.user) if has_ssh else None
        return [*wires, *([ssh] if ssh else [])], ssh

    def _keep_authority(self, met: Met, word: Word) -> None:
        """Keep the cluster's CA, if it is the one that signs what the node's API shows."""
        if self.config.api.ca_bundle or not word.authority_pem or not met.place.api_port:
            return
        if tls.is_signed_by(word.authority_pem, met.place.host, met.place.api_port):
            name = word.authority_fingerprint.replace(":", "")[:DIGITS_OF_A_CA].lower()
            self._authority = self.store.keep_authority(word.authority_pem, name)

    # --- the end -------------------------------------------------------------------------------------------------

    def miss(self, nodes: Sequence[Met]) -> None:
        """Name the nodes at none of whose addresses anybody answers."""
        met = {one.place.node.number for one in nodes if one.place.node}
        shown = [shown for one in nodes if one.place.node is None for shown in one.shown]
        named = {word.member(one.value) for word in self._words for one in shown}
        may_be_there = bool(shown) and not self._words
        for node in self.config.nodes:
            is_wanted = self.config.wishes.is_worked_on(node.number)
            if is_wanted and node.number not in met and label(node) not in named and not may_be_there:
                cure = f"switch the node on, or correct {node.key('NODE_HOST')}"
                self._problems.append(Problem(f"node {node.name} is not reached", "nobody answers there", cure))

    def finish(self) -> int:
        """Print all that was seen; returns the exit code."""
        unknown = sum(not row.is_trusted for row in self._rows)
        if unknown:
            why = f"{unknown} of {len(self._rows)} certificates and host keys"
            self._problems.append(Problem("what some machines show is not trusted", why, self._cure()))
        code = ExitCode.FAILED if self._problems else ExitCode.OK
        if self.report.is_json:
            self.report.say_json(self._as_json(code))
            return code
        for problem in self._problems:
            self.report.problem(problem)
        for row in self._rows:
            self.report.say(f"{row.where}  {row.fingerprint}")
            self.report.say(f"    {row.standing}")
        if self._authority:
            self.report.say("the cluster's CA is kept; with this line in .env renewed certificates need no answer:")
            self.report.say(f"    PROXMOX_CA_BUNDLE={self._authority}")
        return code

    def _cure(self) -> str:
        if self._questions.can_be_asked:
            return f"answer y to those that you have compared: {TRUST_COMMAND}"
        return f"nobody can be asked here: run {TRUST_COMMAND} on a terminal, without --json and --quiet"

    def _as_json(self, code: ExitCode) -> dict[str, object]:
        return {
            "exit_code": int(code),
            "shown": [asdict(row) for row in self._rows],
            "problems": [asdict(problem) for problem in self._problems],
        }


def _is_open(shown: Shown) -> bool:
    """Is it for a person, or a node that is trusted, to say?"""
    return shown.standing in (Standing.NEW, Standing.CHANGED)


def _is_certificate_to_ask_about(shown: Shown) -> bool:
    return _is_open(shown) and not shown.is_host_key
