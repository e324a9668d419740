"""pvesm: storages and their volumes from a node's shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab.answers import bad_parameter
from pvelab.commands.dispatch import Tool
from pvelab.commands.tool import Entry, Invocation, Runner, call_api
from pvelab.formats import VOLUME_ID
from pvelab.rules import storages, volume_names

STORAGES = "/storage"
CONTENT = "/nodes/{node}/storage/{storage}/content"
_VOLUME: Mapping[str, Mapping[str, Any]] = {"volume": {"type": "string"}}
_FREEING: Mapping[str, Mapping[str, Any]] = {
    "delay": {"type": "integer", "minimum": 1, "maximum": 30, "optional": 1},
    "storage": {"type": "string", "format": "pve-storage-id", "optional": 1},
}
API_VERSIONS = {"9": (15, 6), "8.4": (11, 2), "8.2": (10, 1)}
"""Version and age of the storage plugins' interface, by release."""


async def status(run: Invocation) -> int:
    """pvesm status: a table in KiB."""
    rows = (await run.call("GET", f"/nodes/{run.node.hostname}/storage", run.params)).data
    width = max([len(row["storage"]) for row in rows], default=0) + 1
    titles = ("Type", "Status", "Total (KiB)", "Used (KiB)", "Available (KiB)", "%")
    run.process.print(f"{'Name':<{width}}" + " {:>10} {:>10} {:>15} {:>15} {:>15} {:>8}".format(*titles))
    for row in sorted(rows, key=lambda one: str(one["storage"])):
        total, used, available = (row.get(key, 0) for key in ("total", "used", "avail"))
        state = "active" if row.get("active") else "inactive"
        percent = f"{used * 100 / total if total else 0: 7.2f}%"
        if not row.get("enabled"):
            state, percent = "disabled", f"{'N/A':>8}"
        run.process.print(
            f"{row['storage']:<{width}} {row['type']:>10} {state:>10} "
            f"{total // 1024:>15} {used // 1024:>15} {available // 1024:>15} {percent}"
        )
    return 0


async def list_volumes(run: Invocation) -> int:
    """pvesm list: a table in bytes."""
    params = {name: value for name, value in run.params.items() if name != "storage"}
    path = f"/nodes/{run.node.hostname}/storage/{run.params['storage']}/content"
    found = sorted((await run.call("GET", path, params)).data, key=lambda one: str(one["volid"]).lower())
    rows = [row for row in found if row.get("vmid")]
    rows += sorted((row for row in found if not row.get("vmid")), key=lambda one: str(one["format"]))
    name_width = max((len(row["volid"]) for row in rows), default=0)
    size_width = len(str(max((row["size"] for row in rows), default=0)))
    run.process.print(f"{'Volid':<{name_width}} {'Format':<7} {'Type':<9} {'Size':>{size_width}} VMID")
    for row in rows:
        owner = f" {row['vmid']}" if row.get("vmid") else ""
        run.process.print(
            f"{row['volid']:<{name_width}} {row['format']:<7} {row['content']:<9} {row['size']:>{size_width}}{owner}"
        )
    return 0


async def allocate(run: Invocation) -> int:
    """pvesm alloc."""
    path = f"/nodes/{run.node.hostname}/storage/{run.params['storage']}/content"
    params = {name: value for name, value in run.params.items() if name != "storage"}
    answer = await run.call("POST", path, params)
    run.process.print(f"successfully created '{answer.data}'")
    return 0


async def free(run: Invocation) -> int:
    """pvesm free: it always waits for the task and does not tell of its failure, as it lacks the hook that tells."""
    volid = run.params["volume"]
    storage = run.params.get("storage", volid.partition(":")[0])
    if ":" not in volid and "storage" not in run.params:
        raise bad_parameter("volume", "no storage specified - incomplete volume ID")
    path = f"/nodes/{run.node.hostname}/storage/{storage}/content/{volid}"
    await run.follow((await run.call("DELETE", path)).data)
    return 0


async def api_version(run: Invocation) -> int:
    """pvesm apiinfo: the version of the plugins' interface."""
    version, age = next(known for name, known in API_VERSIONS.items() if run.api.world.profile.release.startswith(name))
    run.process.print(f"APIVER {version}")
    run.process.print(f"APIAGE {age}")
    return 0


async def path(run: Invocation) -> int:
    """pvesm path: where a volume is, or would be."""
    volid = run.params["volume"]
    if not VOLUME_ID.fullmatch(volid):
        raise bad_parameter("volume", f"invalid format - unable to parse volume ID '{volid}'\n")
    storage, name = volume_names.split(volid)
    run.process.print(volume_names.path(storages.find(run.api.world, storage), name))
    return 0


def _entry(usage: str, method: str, path: str, arguments: str = "", run: Runner = call_api) -> Entry:
    return Entry(f"pvesm {usage}", method, path, tuple(arguments.split()), run)


GROUPS: tuple[tuple[Entry, ...], ...] = (
    (
        Entry("pvesm scan cifs <server> [OPTIONS]"),
        Entry("pvesm scan iscsi <portal>"),
        Entry("pvesm scan lvm"),
        Entry("pvesm scan lvmthin <vg>"),
        Entry("pvesm scan nfs <server>"),
        Entry("pvesm scan pbs <server> <username> --password <string> [OPTIONS] [FORMAT_OPTIONS]"),
        Entry("pvesm scan zfs"),
    ),
    (
        _entry("add <type> <storage> [OPTIONS]", "POST", STORAGES, "type storage"),
        _entry("remove <storage>", "DELETE", STORAGES + "/{storage}", "storage"),
        _entry("set <storage> [OPTIONS]", "PUT", STORAGES + "/{storage}", "storage"),
    ),
    (
        _entry(
            "alloc <storage> <vmid> <filename> <size> [OPTIONS]",
            "POST",
            CONTENT,
            "storage vmid filename size",
            allocate,
        ),
        Entry("pvesm free <volume> [OPTIONS]", arguments=("volume",), run=free, own_options={**_VOLUME, **_FREEING}),
        _entry("list <storage> [OPTIONS]", "GET", CONTENT, "storage", list_volumes),
    ),
    (_entry("status  [OPTIONS]", "GET", "/nodes/{node}/storage", "", status),),
    (
        Entry("pvesm apiinfo", run=api_version),
        Entry("pvesm export <volume> <format> <filename> [OPTIONS]"),
        Entry("pvesm extractconfig <volume>"),
        Entry("pvesm import <volume> <format> <filename> [OPTIONS]"),
        Entry("pvesm path <volume>", arguments=("volume",), run=path, own_options=_VOLUME),
        Entry("pvesm prune-backups <storage> [OPTIONS]"),
    ),
)
ALIASES: Mapping[str, str] = {
    f"{kind}scan": f"scan {kind}" for kind in ("cifs", "iscsi", "lvm", "lvmthin", "nfs", "zfs")
}
PVESM = Tool("pvesm", GROUPS, ALIASES)
