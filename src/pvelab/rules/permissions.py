"""Who may do what: roles, ACLs by path, and privilege-separated tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pvelab.answers import ApiError, Who, forbidden, refused
from pvelab.rules import roles
from pvelab.state import Acl, World

TOP_PATHS = ("/", "/access", "/access/groups", "/access/realm", "/nodes", "/pool", "/sdn", "/storage", "/vms")
"""Paths whose privileges are listed for everybody who has any there."""

ALLOCATING = {"storage": "Datastore", "vms": "VM", "pool": "Pool"}


def privileges(world: World, who: Who, path: str) -> frozenset[str]:
    """Every privilege that somebody has on a path."""
    return frozenset(flagged(world, who, path))


def flagged(world: World, who: Who, path: str) -> dict[str, int]:
    """As the API shows them: each with 1 where it holds for what is below the path, too."""
    of_user = dict.fromkeys(sorted(roles.privileges(world.profile.release)), 1)
    if who.user != "root@pam":
        of_user = _granted(world, who.user, path)
    token = world.tokens.get(who.authid) if who.token else None
    if token is None or not token.is_separated:
        return of_user
    of_token = _granted(world, who.authid, path)
    return {name: of_user[name] & flag for name, flag in of_token.items() if name in of_user}


def known_roles(world: World) -> Mapping[str, frozenset[str]]:
    """Every role with its privileges: those that come along, and those that somebody made."""
    return {**roles.roles(world.profile.release), **world.roles}


def all_privileges(world: World, who: Who) -> dict[str, dict[str, int]]:
    """Privileges by path, wherever there are any."""
    paths = {*TOP_PATHS, *(acl.path for acl in world.acls)}
    found = {path: flagged(world, who, path) for path in sorted(paths)}
    return {path: flags for path, flags in found.items() if flags}


def has_any(world: World, who: Who, path: str, names: Collection[str]) -> bool:
    """Does somebody have one of the privileges on a path?"""
    return not privileges(world, who, path).isdisjoint(names)


def require(world: World, who: Who, path: str, *names: str) -> None:
    """Refuse with 403 unless every privilege is there."""
    held = privileges(world, who, path)
    for name in names:
        if name not in held:
            raise forbidden(f"{path}, {name}")


def require_any(world: World, who: Who, path: str, *names: str) -> None:
    """Refuse with 403 unless one of the privileges is there."""
    if not has_any(world, who, path, names):
        raise forbidden(f"{path}, {'|'.join(names)}")


def require_modify(world: World, who: Who, path: str) -> None:
    """Refuse with 403 unless somebody may say who may what on a path."""
    require_any(world, who, path, *modifying(path))


def modifying(path: str) -> tuple[str, ...]:
    """The privileges one of which is needed for that: whoever may make something may also say who may use it."""
    area, _, member = path.strip("/").partition("/")
    made_by = (f"{ALLOCATING[area]}.Allocate",) if member and area in ALLOCATING else ()
    return ("Permissions.Modify", *made_by)


def check(world: World, who: Who, expression: Any, values: Mapping[str, str]) -> None:
    """Judge a permission expression of the schema, with the path's placeholders filled from values.

    root@pam in person is never judged.
    """
    if who.is_root or not isinstance(expression, list):
        return
    kind, *rest = expression
    if kind == "and":
        for part in rest:
            check(world, who, part, values)
    elif kind == "or":
        if not any(_holds(world, who, part, values) for part in rest):
            raise forbidden()
    elif kind == "perm":
        _check_path(world, who, rest, values)
    elif kind == "userid-param" and rest == ["self"]:
        if who.authid != values["userid"]:
            raise forbidden()
    elif kind == "userid-param":
        require(world, who, f"/access/realm/{values['userid'].rpartition('@')[2]}", *rest)
    elif kind == "userid-group":
        _check_user(world, who, rest, values["userid"])


def grant(world: World, path: str, identities: Collection[str], role: str, *, propagates: bool = True) -> None:
    """Add an ACL for each identity, in place of one that differs in its reach only."""
    revoke(world, path, identities, role)
    world.acls |= {Acl(path, identity, role, propagates) for identity in identities}


def revoke(world: World, path: str, identities: Collection[str], role: str) -> None:
    """Remove an ACL of each identity."""
    world.acls = {acl for acl in world.acls if (acl.path, acl.role) != (path, role) or acl.identity not in identities}


def forget(world: World, path: str) -> None:
    """Remove every ACL of what is there no more, and of what would lie below it."""
    world.acls = {acl for acl in world.acls if acl.path != path and not acl.path.startswith(f"{path}/")}


def _check_path(world: World, who: Who, rest: list[Any], values: Mapping[str, str]) -> None:
    template, names, *options = rest
    if options[:1] == ["require_param"] and options[1] not in values:
        raise forbidden()
    path = _filled(template, values)
    if options[:1] == ["any"]:
        require_any(world, who, path, *dict.fromkeys(names))
    else:
        require(world, who, path, *names)


def _check_user(world: World, who: Who, rest: list[Any], userid: str) -> None:
    """May somebody see or change a user? The lab has no groups that it could be in, or be put into."""
    names, *options = rest
    is_new = options == ["groups_param", "create"]
    if not is_new and userid not in world.users:
        raise refused(f"no such user ('{userid}')")
    if not has_any(world, who, "/access/groups", names):
        raise forbidden(f"/access/groups, {'|'.join(names)}" if is_new else "")


def _holds(world: World, who: Who, expression: Any, values: Mapping[str, str]) -> bool:
    try:
        check(world, who, expression, values)
    except ApiError:
        return False
    return True


def _filled(template: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _granted(world: World, identity: str, path: str) -> dict[str, int]:
    """By privilege; what a pool gives on its members holds for these alone."""
    held = _roles(world, identity, path)
    area, _, member = path.strip("/").partition("/")
    for pool in world.pools.values() if area in ("vms", "storage") else ():
        if member in (map(str, pool.vmids) if area == "vms" else pool.storages):
            held = {**dict.fromkeys(_roles(world, identity, f"/pool/{pool.poolid}"), 0), **held}
    known = known_roles(world)
    found: dict[str, int] = {}
    for role, flag in held.items():
        for name in known.get(role, frozenset()):
            found[name] = found.get(name, 0) | flag
    return dict(sorted(found.items()))


def _roles(world: World, identity: str, path: str) -> dict[str, int]:
    """Roles with 1 where they hold for what is below the path, too."""
    parts = path.strip("/").split("/") if path.strip("/") else []
    prefixes = ["/", *("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))]
    found: dict[str, int] = {}
    for prefix in prefixes:
        here = {
            acl.role: int(acl.propagates)
            for acl in world.acls
            if acl.identity == identity and acl.path == prefix and (acl.propagates or prefix == path)
        }
        found = here or found
    return found
