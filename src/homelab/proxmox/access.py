"""Who may what: the API token's privileges, its user's, the roles that there are, and what tags may be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from homelab.models import TagRules, Wire
from homelab.proxmox.answers import flag, number, rows, table, text
from homelab.proxmox.reads import Reads
from homelab.proxmox.recording import Record
from homelab.proxmox.transport import Link, Params
from homelab.runtime import Clock
from homelab.settings import ApiToken

Known = TypeVar("Known")
HOLDS_S = 1.0
"""So long does an answer hold: somebody may change rights while an image comes, before the VM is begun."""


class Access(Reads):
    """Asked with the token, by any link that speaks with it: root over SSH may everything.

    What a token may do, the releases and the tag rules are asked for once for all nodes that want it at a time.
    """

    def __init__(self, links: Mapping[str, Link], clock: Clock, record: Record | None = None) -> None:
        super().__init__(links, clock, record)
        self._known: dict[tuple[str, ...], tuple[float, Any]] = {}

    def release(self, node: str) -> str:
        """Such as `8.4`, for whoever has a valid token."""
        return self._once(lambda: text(table(self._read(node, "/version"), "version"), "release"), "release", node)

    def sees_all_vms(self) -> bool:
        """May we see every VM: VM.Audit on /vms and all below, or nothing but root over SSH? Asked each time.

        While any link speaks with the token, that link may be the one whose answer a decision rests on.
        """
        is_root = bool(self.links) and not self._by_token()
        return is_root or self._permissions("/vms").get("VM.Audit") == 1

    def granted(self, path: str, user: str = "", *, node: str = "") -> Mapping[str, int]:
        """Privilege -> 1 where it holds for all below the path, too: of the token, or of a user.

        Every node knows it: `node` is asked first, since much is asked about each. Raises Refused where the token may
        not see those of others (Sys.Audit on /access).
        """
        return self._once(lambda: self._permissions(path, user, node), "permissions", path, user)

    def _permissions(self, path: str, user: str = "", node: str = "") -> Mapping[str, int]:
        params: Params = {"path": path, "userid": user} if user else {"path": path}
        data = table(self._with_token("/access/permissions", params, node), "permissions")
        found = table(data.get(path, {}), "permissions")
        return {name: number(found, name) for name in found}

    def roles(self) -> Mapping[str, frozenset[str]]:
        """Privileges by role: those that Proxmox brings along, and those that somebody made."""
        found = rows(self._with_token("/access/roles"), "roles")
        return {text(row, "roleid"): frozenset(filter(None, text(row, "privs").split(","))) for row in found}

    def is_separated(self, token: ApiToken) -> bool | None:
        """Has the token privileges of its own, beside its user's? None where it may not see that (Sys.Audit on /)."""
        for user in rows(self._with_token("/access/users", {"full": 1}), "users"):
            for row in rows(user.get("tokens") or [], "tokens"):
                if (text(user, "userid"), text(row, "tokenid")) == (token.user, token.token_id):
                    return flag(row, "privsep")
        return None

    def tag_rules(self) -> TagRules:
        """Without Sys.Audit on / Proxmox shows only the tags that may be chosen."""
        return self._once(self._tag_rules, "tag rules")

    def _tag_rules(self) -> TagRules:
        data = table(self._with_token("/cluster/options"), "cluster options")
        access = table(data.get("user-tag-access") or {}, "user-tag-access")
        return TagRules(
            text(access, "user-allow") or "free",
            _names(access, "user-allow-list"),
            _names(data, "allowed-tags"),
            _names(data, "registered-tags"),
        )

    def _once(self, ask: Callable[[], Known], *about: str) -> Known:
        """What was answered HOLDS_S ago or less; an error is not kept."""
        now = self._clock.now()
        since, known = self._known.get(about, (now - HOLDS_S, None))
        if now - since >= HOLDS_S:
            known = ask()
            self._known[about] = now, known
        return cast(Known, known)

    def _by_token(self) -> list[Link]:
        return [link for link in self.links.values() if link.wire is Wire.API]

    def _with_token(self, path: str, params: Params | None = None, node: str = "") -> Any:
        return self._read_by(sorted(self._by_token(), key=lambda link: link.node != node), path, params)


def _names(row: Mapping[str, Any], key: str) -> frozenset[str]:
    found = row.get(key) or []
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset(text(row, key).split(";"))
