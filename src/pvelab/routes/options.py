"""/cluster/options: what datacenter.cfg says."""

from __future__ import annotations

from typing import Any

from pvelab.formats import split_list, split_property_string
from pvelab.routes.call import Call, route
from pvelab.rules import configs, tags
from pvelab.schema_beyond import TAG_ACCESS

OPTIONS = "/cluster/options"
SEEN_BY_ALL = ("console", "tag-style")


@route("GET", OPTIONS)
def show(call: Call) -> dict[str, Any]:
    """Most of them for Sys.Audit on / only, and the tags from which the caller may choose."""
    found: dict[str, Any] = {"keyboard": "en-us", "mac_prefix": "BC:24:11", **call.world.options}
    if "user-tag-access" in found:
        given: dict[str, Any] = dict(split_property_string(TAG_ACCESS, found["user-tag-access"]))
        if "user-allow-list" in given:
            given["user-allow-list"] = split_list(given["user-allow-list"])
        found["user-tag-access"] = given
    if "registered-tags" in found:
        found["registered-tags"] = sorted(tags.reserved(call.world))
    if not call.may("/", "Sys.Audit"):
        found = {name: value for name, value in found.items() if name in SEEN_BY_ALL}
    return {**found, "allowed-tags": sorted(tags.allowed(call.world, call.who).tags)}


@route("PUT", OPTIONS)
def change(call: Call) -> None:
    configs.require_lock(call.world, "datacenter.cfg")
    gone = set(split_list(call.params.get("delete", "")))
    given = {name: value for name, value in call.params.items() if name != "delete"}
    call.world.options = {name: text for name, text in {**call.world.options, **given}.items() if name not in gone}
