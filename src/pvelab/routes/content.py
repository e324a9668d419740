"""/nodes/{node}/storage/{storage}/content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab import progress
from pvelab.answers import Answer, ApiError, bad_parameter, refused
from pvelab.routes.call import Call, route
from pvelab.rules import access, images, permissions, storages, volume_names, volumes
from pvelab.rules.volumes import Listed, Log, Place
from pvelab.state import Task

CONTENT = "/nodes/{node}/storage/{storage}/content"
VOLUME = CONTENT + "/{volume}"
BLOCK_BYTES = 4096
KIB = 1024


@route("GET", CONTENT)
def list_content(call: Call) -> list[dict[str, Any]]:
    place = volumes.at(call.world, call.node, call.params["storage"])
    wanted = call.params.get("content")
    return [
        _shown(listed)
        for listed in volumes.listing(place, int(call.params.get("vmid", 0)))
        if wanted in (None, listed.content) and _may_see(call, listed)
    ]


@route("POST", CONTENT)
def allocate(call: Call) -> Answer:
    place = volumes.at(call.world, call.node, call.params["storage"])
    name = call.params["filename"]
    form = _format(call.params)
    vmid = call.vmid
    if not name:
        name = volumes.next_name(place, vmid, form)
    elif storages.in_folder(place.storage):
        name = f"{vmid}/{name}"
    elif form not in volumes.FORMATS.get(place.storage.type, ("raw",)):
        raise refused(volumes.unsupported_format(place, form))
    elif not name.startswith(f"vm-{vmid}-"):
        raise refused(f"illegal name '{name}' - should be 'vm-{vmid}-*'")
    size = call.params["size"]
    size_bytes = images.parse_size(size) if size[-1].isalpha() else int(size) * KIB
    log: Log = []
    volume = volumes.allocate(place, vmid, name, size_bytes, log)
    return Answer(volume.volid, log=log)


@route("GET", VOLUME)
def read(call: Call) -> dict[str, Any]:
    volid, place, name = _volume(call)
    access.check_volume(call.world, call.who, volid)
    parsed = volume_names.parse(place.storage, name)
    where = volume_names.path(place.storage, name)
    if not volumes.exists(place, name):
        raise refused(f"volume_size_info on '{volid}' failed - no format")
    image = volumes.find(place, name) if parsed.content == "images" else None
    if image:
        facts, used_bytes = images.ImageFacts(image.format, image.size_bytes), image.used_bytes
    else:
        content = call.node.files.content(where)
        facts, used_bytes = images.inspect(content), content.allocated_bytes
    used_bytes = -(-used_bytes // BLOCK_BYTES) * BLOCK_BYTES
    return {"format": facts.format, "path": where, "size": facts.size_bytes, "used": used_bytes}


@route("DELETE", VOLUME)
async def delete(call: Call) -> str | None:
    volid, place, name = _volume(call)
    parsed = volume_names.parse(place.storage, name)
    where = f"/storage/{place.storage.name}"
    if parsed.content == "backup" and parsed.vmid:
        permissions.require(call.world, call.who, where, "Datastore.AllocateSpace")
        permissions.require(call.world, call.who, f"/vms/{parsed.vmid}", "VM.Backup")
    else:
        permissions.require(call.world, call.who, where, "Datastore.Allocate")

    async def work(task: Task) -> progress.Steps:
        yield 0.0
        volumes.remove(place, name, task.log)
        task.log.append(f"Removed volume '{volid}'")

    owner = f"{parsed.vmid}@" if parsed.vmid else ""
    job = progress.Job(call.node, "imgdel", f"{owner}{place.storage.name}", call.who)
    upid = await progress.begin(call.world, job, work)
    return await _within(call, upid) if "delay" in call.params else upid


async def _within(call: Call, upid: str) -> str | None:
    """Wait as long as the caller asked; the UPID if the task still runs then."""
    task = call.world.tasks[upid]
    waited_s = 0.0
    while task.is_running and waited_s < float(call.params["delay"]):
        await call.world.clock.sleep(progress.POLL_S)
        waited_s += progress.POLL_S
    if task.is_running:
        return upid
    if task.exitstatus != "OK":
        raise ApiError(500, str(task.exitstatus))
    return None


def _volume(call: Call) -> tuple[str, Place, str]:
    given, storage = call.params["volume"], call.params["storage"]
    volid = given if ":" in given else f"{storage}:{given}"
    named, name = volume_names.split(volid)
    if named != storage:
        raise bad_parameter("volume", f"storage ID mismatch ({named} != {storage})\n")
    return volid, volumes.at(call.world, call.node, storage), name


def _format(params: Mapping[str, str]) -> str:
    ending = params["filename"].rpartition(".")[2]
    form = params.get("format", ending if ending in ("raw", "qcow2", "vmdk") else "raw")
    if ending in ("raw", "qcow2", "vmdk") and ending != form:
        raise bad_parameter("format", f"different storage formats ({ending} != {form})")
    return form


def _may_see(call: Call, listed: Listed) -> bool:
    try:
        access.check_volume(call.world, call.who, listed.volid)
    except ApiError:
        return False
    return True


def _shown(listed: Listed) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "content": listed.content,
        "ctime": int(listed.created_at),
        "format": listed.format,
        "size": listed.size_bytes,
        "volid": listed.volid,
    }
    if listed.content == "images":
        shown |= {"parent": listed.parent or None, "used": listed.used_bytes, "vmid": listed.vmid}
    return shown
