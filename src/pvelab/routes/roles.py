"""/access/roles: what privileges go by one name. Source: PVE/API2/Role.pm of pve-access-control."""

from __future__ import annotations

from typing import Any

from pvelab.answers import bad_parameter, refused
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import configs, permissions, roles

ROLES = "/access/roles"
ONE = ROLES + "/{roleid}"
RESERVED = "pve"


@route("GET", ROLES)
def list_roles(call: Call) -> list[dict[str, Any]]:
    special = roles.roles(call.world.profile.release)
    return [
        {"privs": ",".join(sorted(privileges)), "roleid": name, "special": int(name in special)}
        for name, privileges in sorted(permissions.known_roles(call.world).items())
    ]


@route("GET", ONE)
def show(call: Call) -> dict[str, int]:
    known = permissions.known_roles(call.world)
    if call.params["roleid"] not in known:
        raise refused(f"role '{call.params['roleid']}' does not exist")
    return dict.fromkeys(sorted(known[call.params["roleid"]]), 1)


@route("POST", ROLES)
def create(call: Call) -> None:
    name = call.params["roleid"]
    given = _given(call)
    if name.lower().startswith(RESERVED):
        text = "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"
        raise bad_parameter("roleid", text)
    configs.require_lock(call.world, "user.cfg", "create role failed: ")
    if name in permissions.known_roles(call.world):
        raise refused(f"create role failed: role '{name}' already exists")
    call.world.roles = {**call.world.roles, name: given}


@route("PUT", ONE)
def update(call: Call) -> None:
    given = _given(call)
    name = _own(call, "update", "modified")
    kept = call.world.roles[name] if call.flag("append") else frozenset()
    call.world.roles = {**call.world.roles, name: kept | given}


@route("DELETE", ONE)
def delete(call: Call) -> None:
    """What was given with it stays in the ACLs, and gives nothing any more."""
    gone = _own(call, "delete", "deleted")
    call.world.roles = {name: held for name, held in call.world.roles.items() if name != gone}


def _own(call: Call, doing: str, done: str) -> str:
    """The role that the path names, if somebody made it."""
    name = call.params["roleid"]
    if name in roles.roles(call.world.profile.release):
        raise refused(f"auto-generated role '{name}' cannot be {done}")
    configs.require_lock(call.world, "user.cfg", f"{doing} role failed: ")
    if name not in call.world.roles:
        raise refused(f"{doing} role failed: role '{name}' does not exist")
    return name


def _given(call: Call) -> frozenset[str]:
    names = split_list(call.params.get("privs", ""))
    known = roles.privileges(call.world.profile.release)
    for name in names:
        if name not in known:
            raise bad_parameter("privs", f"invalid format - invalid privilege '{name}'\n")
    return frozenset(names)
