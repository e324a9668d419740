"""Starting, stopping, pausing and resuming VMs; what happens to them when their node goes down."""

from __future__ import annotations

from collections.abc import Mapping

from pvelab import progress
from pvelab.answers import Who, refused
from pvelab.rules import applying, cloudinit, configs, drives, volumes
from pvelab.rules.access import only_root
from pvelab.state import MIB, Node, Task, Vm, World

SHUTDOWN_TIMEOUT_S = 60.0
KILLED = "VM still running - terminating now with SIGTERM"
POWERDOWN_FAILED = "VM quit/powerdown failed - got timeout"
STILL_PAUSED = "VM is paused - cannot shutdown"
ROOT_STARTS = (
    *("stateuri", "skiplock", "migratedfrom", "migration_type", "migration_network", "targetstorage", "force-cpu"),
    *("with-conntrack-state", "nets-host-mtu"),
)
"""What only root in person may give to a start."""
PAUSED_STATES = ("paused", "suspended", "prelaunch")


async def start(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/start. Returns a UPID; a missing VM shows in the task only."""
    only_root(who, params, *ROOT_STARTS)
    vmid = int(params["vmid"])
    configs.require_quorum(world)

    async def work(task: Task) -> progress.Steps:
        vm = configs.find(world, vmid, node)
        _check_startable(vm, params.get("skiplock") == "1", task)
        yield world.timings.start_s
        switch_on(world, node, vm, task.log)

    return await progress.begin(world, progress.Job(node, "qmstart", str(vmid), who, vmid), work)


async def stop(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/stop: the power is cut."""
    only_root(who, params, "skiplock", "keepActive", "migratedfrom")
    vmid = int(params["vmid"])
    if params.get("overrule-shutdown") == "1":
        _overrule_shutdowns(world, vmid)

    async def work(_task: Task) -> progress.Steps:
        vm = configs.find_for_power(world, vmid, node)
        if vm.is_running:
            _check_lock(vm, params)
            yield world.timings.stop_s
            switch_off(world, vm)

    return await progress.begin(world, progress.Job(node, "qmstop", str(vmid), who, vmid), work)


async def shutdown(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/shutdown: the guest is asked, for as long as the timeout says."""
    only_root(who, params, "skiplock", "keepActive")
    vmid = int(params["vmid"])
    vm = world.vms.get(vmid)
    forced = params.get("forceStop") == "1"
    is_paused = vm is not None and vm.node == node.hostname and vm.qmp in PAUSED_STATES
    if is_paused and not forced:
        raise refused(STILL_PAUSED)
    timeout_s = float(params.get("timeout", SHUTDOWN_TIMEOUT_S))

    async def work(task: Task) -> progress.Steps:
        vm = configs.find_for_power(world, vmid, node)
        if not vm.is_running:
            return
        _check_lock(vm, params)
        if is_paused:
            yield world.timings.stop_s
            switch_off(world, vm)
            return
        async for pause_s in _ask_guest(world, vm, timeout_s):
            yield pause_s
        if vm.is_running and not forced:
            raise refused(POWERDOWN_FAILED)
        if vm.is_running:
            task.log.append(KILLED)
            switch_off(world, vm)

    return await progress.begin(world, progress.Job(node, "qmshutdown", str(vmid), who, vmid), work)


async def reboot(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/reboot: a shutdown, then a start with what was pending."""
    vm = _running(world, node, params)
    if vm.qmp in PAUSED_STATES:
        raise refused(STILL_PAUSED)
    timeout_s = float(params.get("timeout", SHUTDOWN_TIMEOUT_S))

    async def work(task: Task) -> progress.Steps:
        configs.check_lock(vm)
        async for pause_s in _ask_guest(world, vm, timeout_s):
            yield pause_s
        if vm.is_running:
            raise refused(POWERDOWN_FAILED)
        yield world.timings.start_s
        switch_on(world, node, vm, task.log)

    return await progress.begin(world, progress.Job(node, "qmreboot", str(vm.vmid), who, vm.vmid), work)


async def reset(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/reset: as the reset button does."""
    only_root(who, params, "skiplock")
    vm = _running(world, node, params)

    async def work(_task: Task) -> progress.Steps:
        _check_lock(vm, params)
        world.guests.power_off(vm)
        world.guests.power_on(vm)
        yield 0.0

    return await progress.begin(world, progress.Job(node, "qmreset", str(vm.vmid), who, vm.vmid), work)


async def suspend(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/suspend: QEMU stops the processors; the state stays in memory."""
    only_root(who, params, "skiplock")
    vm = _running(world, node, params)
    if params.get("todisk") == "1":
        raise refused("can't suspend VM to disk: the lab's QEMU cannot save its state")

    async def work(_task: Task) -> progress.Steps:
        if vm.config.get("lock") != "backup":
            _check_lock(vm, params)
        if vm.qmp == "running":
            vm.qmp = "paused"
            world.guests.pause(vm)
        yield 0.0

    return await progress.begin(world, progress.Job(node, "qmpause", str(vm.vmid), who, vm.vmid), work)


async def resume(world: World, node: Node, params: Mapping[str, str], who: Who) -> str:
    """POST status/resume."""
    only_root(who, params, "skiplock", "nocheck")
    vm = _running(world, node, params)

    async def work(_task: Task) -> progress.Steps:
        yield 0.0
        if vm.qmp == "running":
            return
        if vm.config.get("lock") != "backup":
            _check_lock(vm, params)
        go_on(world, vm)

    return await progress.begin(world, progress.Job(node, "qmresume", str(vm.vmid), who, vm.vmid), work)


def switch_on(world: World, node: Node, vm: Vm, log: list[str]) -> None:
    """Apply what was pending and start QEMU. Raises ApiError with what is missing."""
    if vm.is_running:
        return
    applying.apply_pending(world, vm)
    _check_volumes(world, node, vm)
    if cloudinit.drive(world, vm):
        cloudinit.generate(world, node, vm, log)
    _check_host(world, node, vm, log)
    _note_change(world, vm)
    vm.qmp = "prelaunch" if vm.config.get("freeze") == "1" else "running"
    vm.pid = world.random.randrange(10_000, 100_000)
    vm.started_at = world.clock.now()
    if vm.qmp == "running":
        world.guests.power_on(vm)


def go_on(world: World, vm: Vm) -> None:
    """Let a paused VM, or one that was never started on, run."""
    was, vm.qmp = vm.qmp, "running"
    if was == "prelaunch":
        world.guests.power_on(vm)
    elif was in PAUSED_STATES:
        world.guests.resume(vm)


def switch_off(world: World, vm: Vm) -> None:
    """End QEMU at once."""
    if not vm.is_running:
        return
    _note_change(world, vm)
    vm.qmp = "stopped"
    vm.pid = 0
    world.guests.power_off(vm)
    if vm.pending or vm.unplug:
        applying.apply_pending(world, vm)


def node_went_down(world: World, node: Node) -> None:
    """The node lost power: its VMs and tasks are gone with it."""
    node.is_up, node.down_since = False, world.clock.now()
    for vm in world.vms.values():
        if vm.node == node.hostname:
            _note_change(world, vm)
            vm.qmp, vm.pid = "stopped", 0
            world.guests.power_off(vm)
    for task in world.tasks.values():
        if task.node == node.hostname:
            progress.cut_off(world, task)


def node_came_up(world: World, node: Node) -> None:
    """The node has booted; VMs with onboot are started, but for those that are locked."""
    node.is_up = True
    node.booted_at = world.clock.now()
    for vm in world.vms.values():
        if vm.node == node.hostname and vm.config.get("onboot") == "1" and not {"template", "lock"} & vm.config.keys():
            switch_on(world, node, vm, [])


def _note_change(world: World, vm: Vm) -> None:
    """Before a VM is switched on or off: keep what the statistics daemon saw last."""
    now = world.clock.now()
    if now - vm.power_changed_at >= world.timings.status_daemon_s:
        vm.was_running = vm.is_running
    vm.power_changed_at = now


def memory_bytes(vm: Vm) -> int:
    """The memory a VM is configured with."""
    return int(vm.config.get("memory", "512").removeprefix("current=")) * MIB


def cores(vm: Vm) -> int:
    """The virtual processors it is configured with."""
    return int(vm.config.get("sockets", "1")) * int(vm.config.get("cores", "1"))


def _running(world: World, node: Node, params: Mapping[str, str]) -> Vm:
    vm = configs.find_for_power(world, params["vmid"], node)
    if not vm.is_running:
        raise refused(f"VM {vm.vmid} not running")
    return vm


def _check_lock(vm: Vm, params: Mapping[str, str]) -> None:
    if params.get("skiplock") != "1":
        configs.check_lock(vm)


def _check_startable(vm: Vm, ignores_lock: bool, task: Task) -> None:
    if vm.config.get("template") == "1":
        raise refused("you can't start a vm if it's a template")
    is_suspended = vm.config.get("lock") == "suspended"
    if not ignores_lock and not is_suspended:
        configs.check_lock(vm)
    if vm.is_running:
        raise refused(f"VM {vm.vmid} already running")
    if is_suspended:
        task.log += ["Resuming suspended VM", "Resumed VM, removing state"]
        del vm.config["lock"]


def _check_volumes(world: World, node: Node, vm: Vm) -> None:
    for _, drive in drives.of_config(world, vm.config):
        if drives.volume(drive):
            volumes.require(world, node, drive["file"])


def _check_host(world: World, node: Node, vm: Vm, log: list[str]) -> None:
    if cores(vm) > node.cpus:
        raise refused(f"MAX {node.cpus} vcpus allowed per VM on this node")
    for option in sorted(vm.config):
        bridge = drives.parse_net(world, vm.config[option]).get("bridge") if drives.NET.fullmatch(option) else ""
        if bridge and bridge not in node.interfaces:
            raise refused(f"bridge '{bridge}' does not exist")
    if memory_bytes(vm) > node.memory_bytes - node.host_memory_bytes:
        log.append("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory")
        raise refused("start failed: QEMU exited with code 1")


async def _ask_guest(world: World, vm: Vm, timeout_s: float) -> progress.Steps:
    if vm.qmp == "running" and world.guests.obeys_acpi(vm) and world.timings.acpi_s <= timeout_s:
        yield world.timings.acpi_s
        switch_off(world, vm)
    else:
        yield timeout_s


def _overrule_shutdowns(world: World, vmid: int) -> None:
    for task in world.tasks.values():
        if task.type == "qmshutdown" and task.id == str(vmid):
            progress.interrupt(task)
