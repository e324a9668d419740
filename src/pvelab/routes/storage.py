"""/storage, and a node's storages."""

from __future__ import annotations

import hashlib
from typing import Any

from pvelab.answers import ApiError, bad_parameter, refused
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import configs, permissions, storage_options, storages, volumes
from pvelab.state import Storage

STATUS_INDEX = ("content", "download-url", "file-restore", "prunebackups", "rrd", "rrddata", "status", "upload")
_FOLDERS_AS_VOLUMES = {"dir": ("subvol",), "zfspool": ("subvol",)}
CONTROL = ("delete", "digest", "storage", "type")


@route("GET", "/nodes/{node}/storage")
def list_status(call: Call) -> list[dict[str, Any]]:
    known = storages.all_storages(call.world)
    wanted = call.params.get("storage")
    if wanted is not None and wanted not in known:
        raise bad_parameter("storage", "No such storage.")
    shown = []
    for storage in known.values():
        if storages.is_on(storage, call.node) and _is_wanted(call, storage):
            item = {**_status(call, storage), "storage": storage.name}
            if item["total"]:
                item["used_fraction"] = item["used"] / item["total"]
            shown.append(item)
    return shown


@route("GET", "/nodes/{node}/storage/{storage}/status")
def read_status(call: Call) -> dict[str, Any]:
    storage = storages.all_storages(call.world).get(call.params["storage"])
    if storage is None or not storages.is_on(storage, call.node):
        raise bad_parameter("storage", "No such storage.")
    return _status(call, storage)


@route("GET", "/nodes/{node}/storage/{storage}")
def index(_call: Call) -> list[dict[str, str]]:
    return [{"subdir": name} for name in STATUS_INDEX]


@route("GET", "/storage")
def list_configured(call: Call) -> list[dict[str, Any]]:
    return [
        _configured(call, storage)
        for storage in storages.all_storages(call.world).values()
        if call.params.get("type", storage.type) == storage.type and _is_visible(call, storage)
    ]


@route("GET", "/storage/{storage}")
def read_configured(call: Call) -> dict[str, Any]:
    return _configured(call, storages.find(call.world, call.params["storage"]))


@route("POST", "/storage")
def create(call: Call) -> dict[str, str]:
    name, kind = call.params["storage"], call.params["type"]
    known = storages.all_storages(call.world)
    options = {key: value for key, value in call.params.items() if key not in CONTROL}
    storage_options.check_new(kind, options)
    configs.require_lock(call.world, "storage.cfg", "create storage failed: ")
    if name in known:
        raise refused(f"create storage failed: storage ID '{name}' already defined")
    if kind in ("nfs", "cifs"):
        options.setdefault("path", f"/mnt/pve/{name}")
    made = storages.from_options(name, kind, options, call.world.profile.release)
    storages.write(call.world, [*known.values(), made])
    _make_folder(call, made)
    return {"storage": name, "type": kind}


@route("PUT", "/storage/{storage}")
def update(call: Call) -> dict[str, str]:
    known = storages.all_storages(call.world)
    storage = known.get(call.params["storage"])
    if storage is None:
        raise refused(f"update storage failed: storage '{call.params['storage']}' does not exist")
    if call.params.get("digest", _digest(call)) != _digest(call):
        raise refused("update storage failed: detected modified configuration - file changed by other user? Try again.")
    configs.require_lock(call.world, "storage.cfg", "update storage failed: ")
    given = {key: value for key, value in call.params.items() if key not in CONTROL}
    deleted = split_list(call.params.get("delete", ""))
    try:
        storage_options.check_change(storage.type, given, deleted)
    except ApiError as error:
        raise refused(f"update storage failed: {error.reason}") from error
    options = {key: value for key, value in {**storage.options, **given}.items() if key not in deleted}
    release = call.world.profile.release
    known[storage.name] = storages.from_options(storage.name, storage.type, options, release)
    storages.write(call.world, known.values())
    return {"storage": storage.name, "type": storage.type}


@route("DELETE", "/storage/{storage}")
def delete(call: Call) -> None:
    known = storages.all_storages(call.world)
    configs.require_lock(call.world, "storage.cfg", "delete storage failed: ")
    if known.pop(call.params["storage"], None) is None:
        raise refused(f"delete storage failed: storage '{call.params['storage']}' does not exist")
    storages.write(call.world, known.values())
    permissions.forget(call.world, f"/storage/{call.params['storage']}")
    for pool in call.world.pools.values():
        pool.storages.discard(call.params["storage"])


def _is_visible(call: Call, storage: Storage) -> bool:
    return call.may(f"/storage/{storage.name}", "Datastore.Audit", "Datastore.AllocateSpace", "Datastore.Allocate")


def _is_wanted(call: Call, storage: Storage) -> bool:
    types = split_list(call.params.get("content", ""))
    return (
        call.params.get("storage", storage.name) == storage.name
        and (not types or any(name in storage.content for name in types))
        and _is_within_reach(call, storage)
        and not (storage.is_disabled and (types or call.flag("enabled")))
        and call.may(f"/storage/{storage.name}", "Datastore.Audit", "Datastore.AllocateSpace")
    )


def _is_within_reach(call: Call, storage: Storage) -> bool:
    """Is it of use to a VM that is to go to another node, which `target` names?"""
    target = call.params.get("target", call.node.hostname)
    is_here = target in (call.node.hostname, "localhost")
    return is_here or (storage.is_shared and (not storage.nodes or target in storage.nodes))


def _status(call: Call, storage: Storage) -> dict[str, Any]:
    is_active = not storage.is_disabled and storage.name not in call.world.offline_storages
    shown: dict[str, Any] = {
        "active": int(is_active),
        "avail": 0,
        "content": ",".join(storage.content),
        "enabled": int(not storage.is_disabled),
        "shared": int(storage.is_shared),
        "total": 0,
        "type": storage.type,
        "used": 0,
    }
    if is_active:
        room = storages.room(call.world, storage, call.node)
        shown |= {"avail": room.available_bytes, "total": room.total_bytes, "used": room.used_bytes}
    if call.flag("format") and not storage.is_disabled:
        shown |= _formats(storage)
    return shown


def _formats(storage: Storage) -> dict[str, Any]:
    """Formats of new disks, told twice."""
    supported = sorted({*volumes.FORMATS.get(storage.type, ("raw",)), *_FOLDERS_AS_VOLUMES.get(storage.type, ())})
    default = storage.options.get("format", "raw")
    return {
        "format": [dict.fromkeys(supported, 1), default],
        "formats": {"default": default, "supported": supported},
    }


def _configured(call: Call, storage: Storage) -> dict[str, Any]:
    numbers = {
        key: int(value) if value.isdigit() and key in storages.FLAGS else value
        for key, value in storage.options.items()
    }
    return {
        **numbers,
        "content": ",".join(storage.content),
        "digest": _digest(call),
        "storage": storage.name,
        "type": storage.type,
    }


def _digest(call: Call) -> str:
    return hashlib.sha1(call.world.pve.read(storages.CONFIG)).hexdigest()


def _make_folder(call: Call, storage: Storage) -> None:
    if storages.in_folder(storage):
        for node in call.world.nodes.values():
            if storages.is_on(storage, node):
                node.files.make_folder(storage.path, parents=True)
