"""/pools."""

from __future__ import annotations

from typing import Any

from pvelab.answers import ApiError, bad_parameter, refused
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import configs, permissions, status, storages
from pvelab.state import Pool


@route("GET", "/pools")
def list_pools(call: Call) -> list[dict[str, Any]]:
    """Those with Pool.Audit, by the sources of 8.2 and 9.2; one that is asked for by its name is shown to everybody."""
    if "poolid" in call.params:
        pool = _find(call)
        return [{"poolid": pool.poolid, **_described(call, pool)}]
    visible = [p for _, p in sorted(call.world.pools.items()) if call.may(f"/pool/{p.poolid}", "Pool.Audit")]
    return [{"poolid": pool.poolid, **_comment(pool)} for pool in visible]


@route("POST", "/pools")
def create(call: Call) -> None:
    poolid = call.params["poolid"]
    configs.require_lock(call.world, "user.cfg", "create pool failed: ")
    if poolid in call.world.pools:
        raise refused(f"create pool failed: pool '{poolid}' already exists")
    parent = poolid.rpartition("/")[0]
    if parent and parent not in call.world.pools:
        raise refused(f"create pool failed: parent '{parent}' of pool '{poolid}' does not exist")
    call.world.pools[poolid] = Pool(poolid, call.params.get("comment"))


@route("GET", "/pools/{poolid}")
def read(call: Call) -> dict[str, Any]:
    return _described(call, _find(call))


@route("PUT", "/pools/{poolid}")
@route("PUT", "/pools")
def update(call: Call) -> None:
    pool = _find(call)
    configs.require_lock(call.world, "user.cfg", "update pools failed: ")
    if "comment" in call.params:
        pool.comment = call.params["comment"]
    for vmid in map(int, split_list(call.params.get("vms", ""))):
        _change_vm(call, pool, vmid)
    storages = set(split_list(call.params.get("storage", "")))
    for name in sorted(storages):
        permissions.require_modify(call.world, call.who, f"/storage/{name}")
    pool.storages = pool.storages - storages if call.flag("delete") else pool.storages | storages


@route("DELETE", "/pools/{poolid}")
@route("DELETE", "/pools")
def delete(call: Call) -> None:
    poolid = call.params["poolid"]
    configs.require_lock(call.world, "user.cfg", "delete pool failed: ")
    pool = call.world.pools.get(poolid)
    if pool is None:
        raise refused(f"delete pool failed: pool '{poolid}' does not exist")
    if member := _first_member(call, pool):
        raise refused(f"delete pool failed: pool '{poolid}' is not empty (contains {member})")
    del call.world.pools[poolid]
    if "/" not in poolid:
        permissions.forget(call.world, f"/pool/{poolid}")


def _first_member(call: Call, pool: Pool) -> str:
    below = sorted(name for name in call.world.pools if name.rpartition("/")[0] == pool.poolid)
    stored = sorted(pool.storages & storages.all_storages(call.world).keys())
    if below:
        return f"pool '{below[0]}'"
    if pool.vmids:
        return f"VM {min(pool.vmids)}"
    return f"storage '{stored[0]}'" if stored else ""


def _find(call: Call) -> Pool:
    pool = call.world.pools.get(call.params["poolid"])
    if pool is None:
        raise refused(f"pool '{call.params['poolid']}' does not exist")
    return pool


def _change_vm(call: Call, pool: Pool, vmid: int) -> None:
    permissions.require_modify(call.world, call.who, f"/vms/{vmid}")
    if call.flag("delete"):
        if vmid not in pool.vmids:
            raise bad_parameter("vms", f"VM {vmid} is not a pool member")
        pool.vmids.discard(vmid)
        return
    holder = next((one for one in call.world.pools.values() if vmid in one.vmids), None)
    if holder and not call.flag("allow-move"):
        raise ApiError(500, f"VM {vmid} belongs already to pool '{holder.poolid}' and 'allow-move' is not set")
    if holder:
        permissions.require(call.world, call.who, f"/pool/{holder.poolid}", "Pool.Allocate")
        holder.vmids.discard(vmid)
    pool.vmids.add(vmid)


def _comment(pool: Pool) -> dict[str, str]:
    return {} if pool.comment is None else {"comment": pool.comment}


def _described(call: Call, pool: Pool) -> dict[str, Any]:
    members: list[dict[str, Any]] = []
    for vmid in sorted(pool.vmids & call.world.vms.keys()):
        vm = call.world.vms[vmid]
        shown = status.listed(call.world, call.world.nodes[vm.node], vm, full=False)
        members.append({**shown, "id": f"qemu/{vmid}", "node": vm.node, "type": "qemu"})
    members += [{"id": f"storage/{name}", "storage": name, "type": "storage"} for name in sorted(pool.storages)]
    return {**_comment(pool), "members": members}
