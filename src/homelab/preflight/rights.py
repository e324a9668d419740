"""Asks Proxmox what an API token may do, and says what is missing for the VM of a node. Read-only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from homelab.errors import HomelabError, Problem
from homelab.models import StorageState, TagRules, Wire
from homelab.preflight import granting
from homelab.preflight.granting import Grantee
from homelab.preflight.privileges import (
    BY_ROOT,
    START_ORDER,
    Holder,
    Lack,
    Need,
    Wanted,
    lacking,
    major_of,
    names_that_hold,
    needs,
    paths_of,
)
from homelab.proxmox.client import Proxmox
from homelab.settings import ApiToken, NodeConfig

IMAGE_CONTENT = ("import", "iso")
USUAL_STORAGE = "local"
READS_AT_ONCE = 2
"""Per node: every one more is a TLS connection more, which costs as much as a few reads over one that is open."""
TAGS = Need("/", ("Sys.Modify",), "give the VM its tags")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a token lacks, as it is told. `problem`: the VM cannot be made; `loss`: something goes on without.

    `hidden` are the paths on which something is missing: what lies there Proxmox may leave out of its lists.
    """

    problem: Problem | None = None
    loss: Problem | None = None
    hidden: frozenset[str] = frozenset()


def judge(pve: Proxmox, token: ApiToken | None, wanted: Wanted) -> Judgement:
    """What stands against making the VM, all of it at once; nothing where root makes it over SSH.

    Raises what the reads raise: what cannot be read is not known, which is not the same as that nothing is missing.
    """
    if token is None or pve.wire(wanted.node) is Wire.SSH:
        return Judgement()
    paths = paths_of(wanted)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        release, rules = pool.submit(pve.release, wanted.node), pool.submit(pve.tag_rules)
        granted = dict(
            zip(((path, "") for path in paths), pool.map(partial(pve.granted, node=wanted.node), paths), strict=True)
        )
    return _Judge(pve, token, wanted, major_of(release.result()), rules.result(), granted).judgement()


def image_storage(node: NodeConfig, shown: Iterable[StorageState]) -> str:
    """Where the image goes. Proxmox does not show the token every storage: what is hidden is taken for `local`."""
    if node.image_storage:
        return node.image_storage
    usable = [one for one in shown if one.is_active and one.is_enabled]
    for content in IMAGE_CONTENT:
        fit = [one.name for one in usable if content in one.content]
        if fit:
            return min(fit, key=lambda name: (name != node.storage, name != USUAL_STORAGE))
    return USUAL_STORAGE


@dataclass(slots=True)
class _Judge:
    pve: Proxmox
    token: ApiToken
    wanted: Wanted
    major: int
    rules: TagRules
    granted: dict[tuple[str, str], Mapping[str, int]]
    """What was read by now, by path and user; no user: the token itself."""

    def judgement(self) -> Judgement:
        missing = lacking(needs(self.wanted, self.major), lambda need: self._held(need))
        lacks = [Lack(need, self._holder(need)) for need in missing if not self._is_of_vnet(need)]
        if not any(lack.need.path == "/" and lack.need.privilege == "Sys.Audit" for lack in lacks):
            lacks += self._tags()
        against = [lack for lack in lacks if not lack.need.without or not self._goes_without(lack)]
        less = [lack for lack in lacks if lack not in against]
        return Judgement(
            self._problem(against) if against else None,
            self._loss(less) if less else None,
            frozenset(lack.need.path for lack in lacks),
        )

    def _held(self, need: Need, user: str = "") -> frozenset[str]:
        key = (need.path, user)
        if key not in self.granted:
            self.granted[key] = self.pve.granted(need.path, user, node=self.wanted.node)
        return names_that_hold(self.granted[key], is_below=need.is_below)

    def _holder(self, need: Need) -> Holder:
        """Is it the user of the token who lacks it? Only who may see others' permissions can tell."""
        try:
            held = self._held(need, self.token.user)
        except HomelabError:
            return Holder.UNKNOWN
        return Holder.TOKEN if set(need.privileges) & held else Holder.USER

    def _is_of_vnet(self, need: Need) -> bool:
        """The path of a vnet is that of its zone, which is not known here; Proxmox shows it to whoever may see it."""
        if need.privilege != "SDN.Use":
            return False
        name = need.path.rpartition("/")[2]
        try:
            shown = self.pve.bridges(self.wanted.node)
        except HomelabError:
            return False
        return any(bridge.is_vnet for bridge in shown if bridge.name == name)

    def _tags(self) -> list[Lack]:
        denied = self.rules.denied(self.wanted.all_tags)
        if not denied or set(TAGS.privileges) & self._held(TAGS):
            return []
        return [Lack(TAGS, self._holder(TAGS), denied)]

    def _goes_without(self, lack: Lack) -> bool:
        """What is only done by root where the token may not do it needs root over SSH."""
        if lack.need.without != BY_ROOT:
            return True
        try:
            self.pve.root(self.wanted.node)
        except HomelabError:
            return False
        return True

    def _problem(self, lacks: Sequence[Lack]) -> Problem:
        wanted = self.wanted
        said = "; ".join(dict.fromkeys(map(_said, lacks)))
        what = f"{wanted.node}: the API token may not make VM {wanted.vm_name}"
        return Problem(what, f"it lacks {said}{self._whose(lacks)}", self._cure(lacks))

    def _loss(self, lacks: Sequence[Lack]) -> Problem:
        said = "; ".join(dict.fromkeys(map(_said, lacks)))
        effects = ", and ".join(dict.fromkeys(lack.need.without for lack in lacks))
        what = f"{self.wanted.node}: the API token may not do all that is of use"
        return Problem(what, f"it lacks {said}{self._whose(lacks)}; {effects}", self._cure(lacks))

    def _whose(self, lacks: Sequence[Lack]) -> str:
        """A token whose privileges are separated has those only that it and its user were both given."""
        user = self.token.user
        by_user = dict.fromkeys(str(lack) for lack in lacks if lack.holder is Holder.USER)
        if any(lack.holder is Holder.UNKNOWN for lack in lacks):
            return f"; whether its user {user} has it cannot be told"
        if not by_user:
            return f"; its user {user} has it, but the token was made with privileges of its own (privsep)"
        if self._is_separated() is False:
            return ""
        is_all = len(by_user) == len({str(lack) for lack in lacks})
        return f"; so does its user {user}" if is_all else f"; its user {user} lacks {', '.join(by_user)}, too"

    def _is_separated(self) -> bool | None:
        try:
            return self.pve.is_separated(self.token)
        except HomelabError:
            return None

    def _cure(self, lacks: Sequence[Lack]) -> str:
        grantee = Grantee(self.token, self._is_separated())
        lines = [*granting.commands(lacks, grantee, self._roles(), self.major)]
        for lack in lacks:
            lines += granting.tag_commands(lack.tags, self.rules)
        if any(lack.need == START_ORDER for lack in lacks):
            lines.append(f"or instead of that: qm set {self.wanted.vmid} --delete startup")
        return "; ".join(lines)

    def _roles(self) -> Mapping[str, frozenset[str]]:
        """None are known where they cannot be read: making one that is there says so."""
        try:
            return self.pve.roles()
        except HomelabError:
            return {}


def _said(lack: Lack) -> str:
    return f"{lack}, for the tags {', '.join(lack.tags)}" if lack.tags else str(lack)
