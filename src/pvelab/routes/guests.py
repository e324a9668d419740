"""/nodes/{node}/qemu: VMs, their configuration and power."""

from __future__ import annotations

from typing import Any

from pvelab.answers import Answer, ApiError, refused
from pvelab.routes.call import Call, route
from pvelab.rules import (
    cloudinit,
    configs,
    creation,
    moving,
    power,
    removal,
    reshaping,
    snapshots,
    status,
    updates,
)
from pvelab.rules.configs import CLOUDINIT_OPTIONS

QEMU = "/nodes/{node}/qemu"
VM = QEMU + "/{vmid}"
INDEX = (
    "config cloudinit pending status unlink vncproxy termproxy migrate resize move rrd rrddata monitor agent snapshot"
    " spiceproxy sendkey firewall mtunnel remote_migrate"
)
STATUS_INDEX = "current start stop reset shutdown suspend reboot"
MASKED = "**********"


@route("GET", QEMU)
def list_vms(call: Call) -> list[dict[str, Any]]:
    return [
        status.listed(call.world, call.node, vm, full=call.flag("full"))
        for vm in status.vms_on(call.world, call.node)
        if call.may(f"/vms/{vm.vmid}", "VM.Audit")
    ]


@route("POST", QEMU)
async def create(call: Call) -> str:
    return await creation.create(call.world, call.node, call.params, call.who)


@route("GET", VM)
def index(_call: Call) -> list[dict[str, str]]:
    return [{"subdir": name} for name in INDEX.split()]


@route("DELETE", VM)
async def destroy(call: Call) -> str:
    return await removal.destroy(call.world, call.node, call.params, call.who)


@route("GET", f"{VM}/config")
def read_config(call: Call) -> dict[str, Any]:
    vm = configs.find(call.world, call.vmid, call.node)
    if "snapshot" in call.params:
        if call.flag("current"):
            text = "cannot use 'snapshot' parameter with 'current'"
            raise ApiError(400, "Parameter verification failed.", dict.fromkeys(("current", "snapshot"), text))
        return {**snapshots.config(call.world, vm, call.params["snapshot"]), "digest": configs.digest(vm)}
    shown = configs.shown(call.world, vm, current=call.flag("current"))
    return {**shown, "cipassword": MASKED} if "cipassword" in shown else shown


@route("PUT", f"{VM}/config")
async def update_config(call: Call) -> Answer:
    log = await updates.update(call.world, call.node, call.params, call.who)
    return Answer(None, log=log)


@route("POST", f"{VM}/config")
async def update_config_in_task(call: Call) -> str:
    return await updates.update_in_task(call.world, call.node, call.params, call.who)


@route("GET", f"{VM}/pending")
def read_pending(call: Call) -> list[dict[str, Any]]:
    vm = configs.find(call.world, call.vmid, call.node)
    return [
        {**item, "value": MASKED} if item["key"] == "cipassword" else item for item in configs.pending(call.world, vm)
    ]


@route("PUT", f"{VM}/unlink")
async def unlink(call: Call) -> Answer:
    return Answer(None, log=await removal.unlink(call.world, call.node, call.params, call.who))


@route("PUT", f"{VM}/resize")
async def resize(call: Call) -> str:
    return await reshaping.resize(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/move_disk")
async def move_disk(call: Call) -> str:
    return await moving.move(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/migrate")
async def migrate(call: Call) -> str:
    return await moving.migrate(call.world, call.node, call.params, call.who)


@route("GET", f"{VM}/feature")
def feature(call: Call) -> dict[str, Any]:
    vm = configs.find_for_power(call.world, call.vmid, call.node)
    name = call.params.get("snapname")
    config = snapshots.find(vm, name).config if name else vm.config
    has_it = snapshots.has_feature(call.world, call.node, config, call.params["feature"], of_snapshot=bool(name))
    return {"hasFeature": int(has_it), "nodes": snapshots.nodes_with_disks(call.world, call.node, config)}


@route("POST", f"{VM}/template")
async def make_template(call: Call) -> str:
    return await reshaping.make_template(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/clone")
async def clone(call: Call) -> str:
    return await reshaping.clone(call.world, call.node, call.params, call.who)


@route("GET", f"{VM}/cloudinit")
def read_cloudinit(call: Call) -> list[dict[str, Any]]:
    vm = configs.find(call.world, call.vmid, call.node)
    return [
        {"key": name, "value": MASKED if name == "cipassword" else value}
        for name, value in vm.config.items()
        if name in CLOUDINIT_OPTIONS
    ]


@route("PUT", f"{VM}/cloudinit")
def regenerate_cloudinit(call: Call) -> Answer:
    vm = configs.find(call.world, call.vmid, call.node)
    log: list[str] = []
    if cloudinit.drive(call.world, vm):
        cloudinit.generate(call.world, call.node, vm, log)
    return Answer(None, log=log)


@route("GET", f"{VM}/cloudinit/dump")
def dump_cloudinit(call: Call) -> str:
    vm = configs.find(call.world, call.vmid, call.node)
    if call.params["type"] == "user":
        return cloudinit.user_data(vm)
    render = cloudinit.network_data if call.params["type"] == "network" else cloudinit.meta_data
    return render(call.world, vm)


@route("GET", f"{VM}/snapshot")
def list_snapshots(call: Call) -> list[dict[str, Any]]:
    return snapshots.listed(configs.find(call.world, call.vmid, call.node))


@route("POST", f"{VM}/snapshot")
async def take_snapshot(call: Call) -> str:
    return await snapshots.take(call.world, call.node, call.params, call.who)


@route("DELETE", f"{VM}/snapshot/{{snapname}}")
async def remove_snapshot(call: Call) -> str:
    return await snapshots.remove(call.world, call.node, call.params, call.who)


@route("GET", f"{VM}/snapshot/{{snapname}}")
def snapshot_index(_call: Call) -> list[dict[str, str]]:
    return [{"cmd": "rollback"}, {"cmd": "config"}]


@route("GET", f"{VM}/snapshot/{{snapname}}/config")
def read_snapshot(call: Call) -> dict[str, Any]:
    return snapshots.config(call.world, configs.find(call.world, call.vmid, call.node), call.params["snapname"])


@route("PUT", f"{VM}/snapshot/{{snapname}}/config")
def describe_snapshot(call: Call) -> None:
    if "description" in call.params:
        vm = configs.find(call.world, call.vmid, call.node)
        snapshots.describe(call.world, vm, call.params["snapname"], call.params["description"])


@route("POST", f"{VM}/snapshot/{{snapname}}/rollback")
async def roll_back(call: Call) -> str:
    return await snapshots.roll_back(call.world, call.node, call.params, call.who)


@route("GET", f"{VM}/status")
def status_index(_call: Call) -> list[dict[str, str]]:
    return [{"subdir": name} for name in STATUS_INDEX.split()]


@route("GET", f"{VM}/status/current")
def read_status(call: Call) -> dict[str, Any]:
    vm = configs.find(call.world, call.vmid, call.node)
    return status.current(call.world, call.node, vm)


@route("POST", f"{VM}/status/start")
async def start(call: Call) -> str:
    return await power.start(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/status/stop")
async def stop(call: Call) -> str:
    return await power.stop(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/status/shutdown")
async def shutdown(call: Call) -> str:
    return await power.shutdown(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/status/reboot")
async def reboot(call: Call) -> str:
    return await power.reboot(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/status/reset")
async def reset(call: Call) -> str:
    return await power.reset(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/status/suspend")
async def suspend(call: Call) -> str:
    return await power.suspend(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/status/resume")
async def resume(call: Call) -> str:
    return await power.resume(call.world, call.node, call.params, call.who)


@route("POST", f"{VM}/monitor")
def monitor(call: Call) -> str:
    vm = configs.find(call.world, call.vmid, call.node)
    if not vm.is_running:
        raise refused(f"VM {vm.vmid} is not running")
    if call.params["command"] != "quit":
        raise ApiError(501, f"Monitor command '{call.params['command']}' not implemented")
    power.switch_off(call.world, vm)
    return ""
