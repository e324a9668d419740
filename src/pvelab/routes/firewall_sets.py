"""/nodes/{node}/qemu/{vmid}/firewall: the aliases and IP sets of a VM."""

from __future__ import annotations

from typing import Any

from pvelab.answers import bad_parameter, refused
from pvelab.routes.call import Call, route
from pvelab.routes.firewall import FIREWALL, MODIFIED, digest_of, find_vm
from pvelab.state import IpSet

ALIASES, SETS = f"{FIREWALL}/aliases", f"{FIREWALL}/ipset"
ALIAS, SET = ALIASES + "/{name}", SETS + "/{name}"
Row = dict[str, str]


@route("GET", ALIASES)
def list_aliases(call: Call) -> list[Row]:
    aliases = find_vm(call).firewall_aliases
    return _with_digest([aliases[name] for name in sorted(aliases)])


@route("POST", ALIASES)
def add_alias(call: Call) -> None:
    aliases, name = find_vm(call).firewall_aliases, call.params["name"]
    if name.lower() in aliases:
        raise bad_parameter("name", f"alias '{name}' already exists")
    aliases[name.lower()] = _kept(call, "name", "cidr", "comment")


@route("GET", ALIAS)
def read_alias(call: Call) -> Row:
    found = find_vm(call).firewall_aliases.get(call.params["name"].lower())
    if found is None:
        raise bad_parameter("name", "no such alias")
    return found


@route("PUT", ALIAS)
def change_alias(call: Call) -> None:
    aliases, name = find_vm(call).firewall_aliases, call.params["name"].lower()
    _check_digest(call, list_aliases(call))
    read_alias(call)
    renamed = call.params.get("rename", name)
    if renamed.lower() != name and renamed.lower() in aliases:
        raise bad_parameter("name", f"alias '{renamed}' already exists")
    del aliases[name]
    aliases[renamed.lower()] = {
        **_kept(call, "cidr", "comment"),
        "name": call.params.get("rename", call.params["name"]),
    }


@route("DELETE", ALIAS)
def remove_alias(call: Call) -> None:
    _check_digest(call, list_aliases(call))
    find_vm(call).firewall_aliases.pop(call.params["name"].lower(), None)


@route("GET", SETS)
def list_sets(call: Call) -> list[Row]:
    sets = find_vm(call).firewall_sets
    return _with_digest(
        [{"name": name, **({"comment": sets[name].comment} if sets[name].comment else {})} for name in sorted(sets)]
    )


@route("POST", SETS)
def add_set(call: Call) -> None:
    sets, name, before = find_vm(call).firewall_sets, call.params["name"], call.params.get("rename", "")
    if not before:
        if name in sets:
            raise bad_parameter("name", f"IPSet '{name}' already exists")
        sets[name] = IpSet(call.params.get("comment", ""))
        return
    _check_digest(call, list_sets(call))
    if before not in sets:
        raise bad_parameter("name", f"IPSet '{before}' does not exists")
    if name in sets and name != before:
        raise bad_parameter("name", f"IPSet '{name}' does already exist")
    renamed = sets.pop(before)
    sets[name] = IpSet(call.params.get("comment", renamed.comment), renamed.entries)


@route("GET", SET)
def list_entries(call: Call) -> list[dict[str, Any]]:
    return _with_digest(_set(call).entries)


@route("POST", SET)
def add_entry(call: Call) -> None:
    entries, cidr = _set(call).entries, call.params["cidr"]
    if any(entry["cidr"] == cidr for entry in entries):
        raise bad_parameter("cidr", f"address '{cidr}' already exists")
    entries.insert(0, _kept(call, "cidr", "nomatch", "comment"))


@route("DELETE", SET)
def remove_set(call: Call) -> None:
    if _set(call).entries and not call.flag("force"):
        raise refused(f"IPSet '{call.params['name']}' is not empty")
    del find_vm(call).firewall_sets[call.params["name"]]


def _set(call: Call) -> IpSet:
    name = call.params["name"]
    if name not in find_vm(call).firewall_sets:
        raise refused(f"no such IPSet '{name}'")
    return find_vm(call).firewall_sets[name]


def _kept(call: Call, *names: str) -> Row:
    return {name: call.params[name] for name in names if call.params.get(name)}


def _with_digest(rows: list[Row]) -> list[Row]:
    digest = digest_of((str(position), str(sorted(row.items()))) for position, row in enumerate(rows))
    return [{**row, "digest": digest} for row in rows]


def _check_digest(call: Call, rows: list[Row]) -> None:
    if "digest" in call.params and rows and call.params["digest"] != rows[0]["digest"]:
        raise refused(MODIFIED)
