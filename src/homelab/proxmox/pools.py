"""Resource pools, used as a mark that all machines see."""

from __future__ import annotations

from contextlib import suppress

from homelab.errors import Unreachable
from homelab.proxmox.answers import rows, text
from homelab.proxmox.changes import Changes
from homelab.proxmox.transport import Params

POOL_TIMEOUT_S = 30


class Pools(Changes):
    """They belong to the cluster: any node that answers carries out what is asked."""

    def pool_comment(self, pool: str) -> str | None:
        """Its comment; None where there is no such pool, or the token may not see it."""
        found = rows(self._read("", "/pools"), "/pools")
        return next((text(row, "comment") for row in found if text(row, "poolid") == pool), None)

    def create_pool(self, pool: str, comment: str) -> None:
        """Raises Refused when there is one of that name already, or the token may not."""
        self._change_pool("POST", "/pools", {"poolid": pool, "comment": comment})

    def set_pool_comment(self, pool: str, comment: str) -> None:
        """Raises Refused when it is not there any more."""
        self._change_pool("PUT", f"/pools/{pool}", {"comment": comment})

    def delete_pool(self, pool: str) -> None:
        """Raises Refused while it has members, or when it is not there."""
        self._change_pool("DELETE", f"/pools/{pool}", None)

    def _change_pool(self, method: str, path: str, params: Params | None) -> None:
        """By the first node that is reached; raises what the last one said."""
        *others, last = self.links.values()
        for link in others:
            with suppress(Unreachable):
                return self._carry_out(link, method, path, params, POOL_TIMEOUT_S)
        return self._carry_out(last, method, path, params, POOL_TIMEOUT_S)
