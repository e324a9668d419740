"""/nodes/{node}/qemu/{vmid}/firewall: a VM's own rules and options."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pvelab import schema
from pvelab.answers import bad_parameter, refused
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import configs
from pvelab.state import Vm

FIREWALL = "/nodes/{node}/qemu/{vmid}/firewall"
RULE = FIREWALL + "/rules/{pos}"
NOT_OPTIONS = ("delete", "digest", "node", "vmid")
NOT_OF_A_RULE = ("delete", "digest", "moveto", "node", "pos", "vmid")
MODIFIED = "detected modified configuration - file changed by other user? Try again."


@route("GET", FIREWALL)
def index(_call: Call) -> list[dict[str, str]]:
    return [{"name": name} for name in ("rules", "aliases", "ipset", "refs", "options")]


@route("GET", f"{FIREWALL}/options")
def read_options(call: Call) -> dict[str, Any]:
    options = find_vm(call).firewall_options
    numbers = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    return {**numbers, "digest": digest_of(options.items())}


@route("PUT", f"{FIREWALL}/options")
def set_options(call: Call) -> None:
    options = find_vm(call).firewall_options
    if call.params.get("digest", digest_of(options.items())) != digest_of(options.items()):
        raise refused(MODIFIED)
    known = schema.load(call.world.profile.release).properties(f"{FIREWALL}/options", "PUT")
    for name in split_list(call.params.get("delete", "")):
        if name not in known or name in NOT_OPTIONS:
            raise bad_parameter("delete", f"no such option '{name}'")
        options.pop(name, None)
    options.update({name: value for name, value in call.params.items() if name not in NOT_OPTIONS})


@route("GET", f"{FIREWALL}/rules")
def list_rules(call: Call) -> list[dict[str, Any]]:
    return _shown(find_vm(call).firewall_rules)


@route("POST", f"{FIREWALL}/rules")
def add_rule(call: Call) -> None:
    find_vm(call).firewall_rules.insert(0, _rule(call.params))


@route("GET", RULE)
def read_rule(call: Call) -> dict[str, Any]:
    return _shown(find_vm(call).firewall_rules)[_position(call)]


@route("PUT", RULE)
def change_rule(call: Call) -> None:
    rules = find_vm(call).firewall_rules
    position = _position(call)
    _check_digest(call)
    if "moveto" in call.params:
        rules.insert(int(call.params["moveto"]), rules.pop(position))
        return
    rules[position].update(_rule(call.params))
    for name in split_list(call.params.get("delete", "")):
        rules[position].pop(name, None)


@route("DELETE", RULE)
def remove_rule(call: Call) -> None:
    _check_digest(call)
    del find_vm(call).firewall_rules[_position(call)]


def find_vm(call: Call) -> Vm:
    return configs.find(call.world, call.vmid, call.node)


def _rule(params: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in params.items() if name not in NOT_OF_A_RULE}


def _position(call: Call) -> int:
    position = int(call.params["pos"])
    if position >= len(find_vm(call).firewall_rules):
        raise refused(f"no rule at position {position}")
    return position


def _check_digest(call: Call) -> None:
    now = _rules_digest(find_vm(call).firewall_rules)
    if call.params.get("digest", now) != now:
        raise refused(MODIFIED)


def _shown(rules: list[dict[str, str]]) -> list[dict[str, Any]]:
    digest = _rules_digest(rules)
    return [{**rule, "digest": digest, "pos": position} for position, rule in enumerate(rules)]


def _rules_digest(rules: list[dict[str, str]]) -> str:
    return digest_of((str(position), str(sorted(rule.items()))) for position, rule in enumerate(rules))


def digest_of(items: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha1("".join(f"{name}:{value}\n" for name, value in sorted(items)).encode()).hexdigest()
