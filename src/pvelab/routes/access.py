"""/, /access and /version."""

from __future__ import annotations

from typing import Any

from pvelab.answers import ApiError, Who
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import permissions

TOKEN_REFUSED = "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.\n)"
CAPABILITIES = {
    "access": ("/access", ("User.", "Group.", "Permissions.Modify", "Realm.")),
    "dc": ("/", ("Sys.", "SDN.")),
    "mapping": ("/mapping", ("Mapping.",)),
    "nodes": ("/nodes", ("Sys.", "Permissions.Modify")),
    "sdn": ("/sdn", ("SDN.", "Permissions.Modify")),
    "storage": ("/storage", ("Datastore.", "Permissions.Modify")),
    "vms": ("/vms", ("VM.", "Permissions.Modify")),
}


@route("GET", "/")
def index(_call: Call) -> list[dict[str, str]]:
    return [{"subdir": name} for name in ("version", "cluster", "nodes", "storage", "access", "pools")]


@route("GET", "/version")
def version(call: Call) -> dict[str, str]:
    profile = call.world.profile
    return {"release": profile.release, "repoid": profile.repoid, "version": profile.version}


@route("POST", "/access/ticket")
def create_ticket(call: Call) -> dict[str, Any]:
    if call.who.token:
        raise ApiError(403, TOKEN_REFUSED)
    user = call.world.users.get(call.params["username"])
    if user is None or user.password is None or user.password != call.params["password"]:
        raise ApiError(401, "authentication failure")
    secret = f"{call.world.random.getrandbits(128):032X}"
    ticket = f"PVE:{user.userid}:{int(call.world.clock.now()):08X}::{secret}"
    call.world.tickets[ticket] = user.userid
    who = Who(user.userid)
    return {
        "CSRFPreventionToken": csrf_token(ticket),
        "cap": {area: _capabilities(call, who, area) for area in CAPABILITIES},
        "ticket": ticket,
        "username": user.userid,
    }


def csrf_token(ticket: str) -> str:
    """The token that must go with writes made with this ticket."""
    return f"{ticket.split(':')[2]}:{ticket[-32:]}"


@route("GET", "/access/permissions")
def list_permissions(call: Call) -> dict[str, dict[str, int]]:
    who = call.who
    if "userid" in call.params and call.params["userid"] != who.authid:
        permissions.require(call.world, who, "/access", "Sys.Audit")
        user, _, token = call.params["userid"].partition("!")
        who = Who(user, token)
    if "path" in call.params:
        path = call.params["path"]
        return {path: permissions.as_flags(permissions.privileges(call.world, who, path))}
    return permissions.all_privileges(call.world, who)


@route("GET", "/access/acl")
def list_acls(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "path": acl.path,
            "propagate": int(acl.propagates),
            "roleid": acl.role,
            "type": "token" if "!" in acl.identity else "user",
            "ugid": acl.identity,
        }
        for acl in sorted(call.world.acls, key=lambda acl: (acl.path, acl.identity, acl.role))
        if call.may("/access", "Sys.Audit", "Permissions.Modify") or call.may(acl.path, "Permissions.Modify")
    ]


@route("PUT", "/access/acl")
def update_acl(call: Call) -> None:
    path = call.params["path"]
    permissions.require(call.world, call.who, path, "Permissions.Modify")
    change = permissions.revoke if call.flag("delete") else permissions.grant
    identities = [name for key in ("users", "tokens") for name in split_list(call.params.get(key, ""))]
    for role in split_list(call.params["roles"]):
        if role not in permissions.known_roles(call.world):
            raise ApiError(500, f"role '{role}' does not exist")
        change(call.world, path, identities, role)


@route("GET", "/access/users")
def list_users(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "enable": int(user.is_enabled),
            "expire": 0,
            "realm-type": user.userid.rpartition("@")[2],
            "userid": user.userid,
        }
        for user in call.world.users.values()
        if user.userid == call.who.user or call.may("/access/groups", "User.Modify", "Sys.Audit")
    ]


@route("GET", "/access/users/{userid}/token")
def list_tokens(call: Call) -> list[dict[str, Any]]:
    return [
        {"expire": token.expire, "privsep": int(token.is_separated), "tokenid": token.name}
        for token in call.world.tokens.values()
        if token.userid == call.params["userid"]
    ]


@route("PUT", "/access/password")
def set_password(call: Call) -> None:
    user = call.world.users.get(call.params["userid"])
    if user is None:
        raise ApiError(500, f"no such user ('{call.params['userid']}')")
    if call.who.user != user.userid:
        permissions.require(call.world, call.who, "/access", "User.Modify")
    user.password = call.params["password"]


def _capabilities(call: Call, who: Who, area: str) -> dict[str, int]:
    root, prefixes = CAPABILITIES[area]
    paths = {root, *(acl.path for acl in call.world.acls if acl.path.startswith(root) and root != "/")}
    held = set().union(*(permissions.privileges(call.world, who, path) for path in paths))
    return permissions.as_flags(name for name in held if name.startswith(prefixes))
