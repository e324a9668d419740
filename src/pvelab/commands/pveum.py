"""pveum: users, their tokens and privileges from a node's shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab import schema
from pvelab.commands.dispatch import Tool
from pvelab.commands.pvesh_look import FORMAT_OPTIONS
from pvelab.commands.results import show
from pvelab.commands.tool import Entry, Invocation

ROLES = "/access/roles"
ONE_ROLE = ROLES + "/{roleid}"
USERS = "/access/users"
TOKENS = USERS + "/{userid}/token"
_FORMATTED = "[OPTIONS] [FORMAT_OPTIONS]"
_ONE = "<userid> <tokenid>"


async def call_and_show(run: Invocation) -> int:
    """A call whose answer is shown as pvesh shows it."""
    entry = run.entry
    formats = {name: run.params.pop(name) for name in FORMAT_OPTIONS if name in run.params}
    path = entry.path.format(**run.params)
    taken = {name: value for name, value in run.params.items() if f"{{{name}}}" not in entry.path}
    data = (await run.call(entry.method, path, taken)).data
    published = schema.load(run.api.world.profile.release).paths[entry.path][entry.method]
    show(run.process, data, formats, published.get("returns") or {})
    return 0


async def call_silently(run: Invocation) -> int:
    """A call that answers nothing."""
    entry = run.entry
    taken = {name: value for name, value in run.params.items() if f"{{{name}}}" not in entry.path}
    await run.call(entry.method, entry.path.format(**run.params), taken)
    return 0


async def delete_acl(run: Invocation) -> int:
    """pveum acl delete: the change of an ACL that takes it away."""
    await run.call("PUT", "/access/acl", {**run.params, "delete": "1"})
    return 0


async def modify_acl(run: Invocation) -> int:
    """pveum acl modify."""
    await run.call("PUT", "/access/acl", run.params)
    return 0


async def set_password(run: Invocation) -> int:
    """pveum passwd: the new password twice from the input."""
    first, second, *_ = [*(await run.process.read()).decode().splitlines(), "", ""]
    if first != second:
        run.process.complain("Passwords do not match")
        return 1
    await run.call("PUT", "/access/password", {"userid": run.params["userid"], "password": first})
    return 0


def _shows(usage: str, method: str, path: str, arguments: str = "") -> Entry:
    return Entry(f"pveum {usage}", method, path, tuple(arguments.split()), call_and_show, own_options=FORMAT_OPTIONS)


_PASSWD: Mapping[str, Mapping[str, Any]] = {"userid": {"type": "string", "maxLength": 64}}
GROUPS: tuple[tuple[Entry, ...], ...] = (
    (
        Entry("pveum acl delete <path> --roles <string> [OPTIONS]", "PUT", "/access/acl", ("path",), delete_acl),
        _shows("acl list  [FORMAT_OPTIONS]", "GET", "/access/acl"),
        Entry("pveum acl modify <path> --roles <string> [OPTIONS]", "PUT", "/access/acl", ("path",), modify_acl),
    ),
    (_shows("group list  [FORMAT_OPTIONS]", "GET", "/access/groups"),),
    (_shows("pool list  [OPTIONS] [FORMAT_OPTIONS]", "GET", "/pools"),),
    (_shows("realm list  [FORMAT_OPTIONS]", "GET", "/access/domains"),),
    (
        Entry("pveum role add <roleid> [OPTIONS]", "POST", ROLES, ("roleid",), call_silently),
        Entry("pveum role delete <roleid>", "DELETE", ONE_ROLE, ("roleid",), call_silently),
        _shows("role list  [FORMAT_OPTIONS]", "GET", ROLES),
        Entry("pveum role modify <roleid> [OPTIONS]", "PUT", ONE_ROLE, ("roleid",), call_silently),
    ),
    (
        Entry("pveum user add <userid> [OPTIONS]", "POST", USERS, ("userid",), call_silently),
        _shows(f"user list  {_FORMATTED}", "GET", USERS),
        _shows(f"user permissions [<userid>] {_FORMATTED}", "GET", "/access/permissions", "[userid]"),
        _shows(f"user token add {_ONE} {_FORMATTED}", "POST", TOKENS + "/{tokenid}", "userid tokenid"),
        _shows(f"user token delete {_ONE} [FORMAT_OPTIONS]", "DELETE", TOKENS + "/{tokenid}", "userid tokenid"),
        _shows("user token list <userid> [FORMAT_OPTIONS]", "GET", TOKENS, "userid"),
    ),
    (Entry("pveum passwd <userid> [OPTIONS]", arguments=("userid",), run=set_password, own_options=_PASSWD),),
)
ALIASES = {
    "roleadd": "role add",
    "roledel": "role delete",
    "rolemod": "role modify",
    "aclmod": "acl modify",
    "acldel": "acl delete",
    "user token remove": "user token delete",
    "useradd": "user add",
}
PVEUM = Tool("pveum", GROUPS, ALIASES)
