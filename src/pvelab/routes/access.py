"""/, /access and /version."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from pvelab.answers import ApiError, Who, bad_parameter, refused
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import permissions

_NAME = r"[A-Za-z0-9._-]+"
ACL_PATH = re.compile(
    rf"/|/access(/groups(/{_NAME})?|/realm(/{_NAME})?)?|/(nodes|storage)(/{_NAME})?|/pool(/{_NAME}){{0,3}}"
    rf"|/sdn(/(controllers|dns|fabrics|ipams|prefix-lists|route-maps)(/{_NAME})?|/zones(/{_NAME}){{0,3}})?"
    rf"|/vms(/[1-9][0-9]{{2,}})?|/mapping(/{_NAME}){{0,2}}"
)
"""The paths that can have roles."""
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


@route("GET", "/access")
def access_index(_call: Call) -> list[dict[str, str]]:
    names = "users groups roles acl domains openid tfa permissions ticket password"
    return [{"subdir": name} for name in names.split()]


@route("GET", "/access/domains")
def list_realms(_call: Call) -> list[dict[str, str]]:
    return [
        {"comment": "Linux PAM standard authentication", "realm": "pam", "type": "pam"},
        {"comment": "Proxmox VE authentication server", "realm": "pve", "type": "pve"},
    ]


@route("GET", "/access/groups")
def list_groups(_call: Call) -> list[dict[str, str]]:
    return []


@route("GET", "/version")
def version(call: Call) -> dict[str, str]:
    profile = call.world.profile
    return {"release": profile.release, "repoid": profile.repoid, "version": profile.version}


@route("GET", "/access/ticket")
def no_ticket(_call: Call) -> None:
    """For those who look for a login page."""


@route("POST", "/access/ticket")
def create_ticket(call: Call) -> dict[str, Any]:
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
        user, _, token = call.params["userid"].partition("!")
        if not (token and user == who.authid):
            permissions.require(call.world, who, "/access", "Sys.Audit")
        who = Who(user, token)
    if "path" in call.params:
        path = call.params["path"]
        return {path: permissions.flagged(call.world, who, path)}
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
        if call.may("/access", "Sys.Audit") or call.may(acl.path, *permissions.modifying(acl.path))
    ]


@route("PUT", "/access/acl")
def update_acl(call: Call) -> None:
    given = call.params["path"]
    named = {key: split_list(call.params.get(key, "")) for key in ("users", "groups", "tokens")}
    if not any(named.values()):
        text = "either 'users', 'groups' or 'tokens' is required."
        raise ApiError(400, "Parameter verification failed.", dict.fromkeys(named, text))
    path = "/" + re.sub("/+", "/", given).strip("/")
    permissions.require_modify(call.world, call.who, path)
    if not re.fullmatch(r"[A-Za-z0-9.\-_/]+", path) or not (call.flag("delete") or ACL_PATH.fullmatch(path)):
        raise bad_parameter("path", f"invalid ACL path '{given}'")
    for role in split_list(call.params["roles"]):
        if role not in permissions.known_roles(call.world):
            raise refused(f"ACL update failed: role '{role}' does not exist")
        _check_named(call, named)
        identities = [*named["users"], *named["tokens"]]
        if call.flag("delete"):
            permissions.revoke(call.world, path, identities, role)
        else:
            permissions.grant(call.world, path, identities, role, propagates=call.params.get("propagate") != "0")


def _check_named(call: Call, named: Mapping[str, list[str]]) -> None:
    """Refuse identities that do not exist; the lab has no groups."""
    known: Mapping[str, Container[str]] = {"users": call.world.users, "groups": (), "tokens": call.world.tokens}
    for kind in ("groups", "users", "tokens"):
        for name in named[kind]:
            if name in known[kind]:
                continue
            user, _, token = name.partition("!")
            if kind != "tokens":
                raise refused(f"ACL update failed: {kind[:-1]} '{name}' does not exist")
            if user not in call.world.users:
                raise refused(f"ACL update failed: no such user ('{user}')")
            raise refused(f"ACL update failed: no such token '{token}' for user '{user}'")


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
    return dict.fromkeys(sorted(name for name in held if name.startswith(prefixes)), 1)
