"""Has a random world happen, and watches what must never come about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from crash.arena import Arena
from crash.matrix import last_lines, never_said
from crash.points import CrashPoint, Killer, Moment, Write
from crash.processes import KILLED, Ended
from crash.soundness import OURS, UNFINISHED, leftovers, unsound
from crash.worlds import CHANGES_LATER, FAULTS, Condition, Reboot, Run, Setting, Step, Switch, Wait
from pvelab.interception import Arrival
from pvelab.requestlog import Request
from pvelab.rules import configs, power
from pvelab.snapshot import vms as vms_of
from pvelab.state import Snapshot, Vm, World

SETTLED_S = 120.0
DAY_S = 86_400.0
BOOTED_S = 900.0
NODE_KEYS = ("NODE", "STORAGE", "CPU_RATIO", "MEMORY_RATIO", "NETWORK_IFACES", "IMG_STORAGE")


@dataclass(slots=True)
class OrdinalKiller(Killer):
    """Kills the run at its so-many-th write, whatever that is."""

    number: int = 1
    _written: int = 0

    def _is_meant(self, arrival: Arrival) -> bool:
        self._written += arrival.is_write
        return arrival.is_write and self._written == self.number


@dataclass(slots=True)
class Life:
    """A world while things happen in it; `wrong` is what must not be."""

    arena: Arena
    setting: Setting
    wrong: list[str] = field(default_factory=list)
    _foreign: Mapping[int, Any] = field(default_factory=dict)
    _deleted_at: dict[str, list[float]] = field(default_factory=dict)
    _parked: set[str] = field(default_factory=set)

    def live(self) -> list[str]:
        """Everything that was wrong."""
        build(self.arena, self.setting)
        self._parked = {
            OURS + node for node, condition in self.setting.condition.items() if condition is Condition.STOPPED
        }
        self._foreign = {vmid: vm for vmid, vm in self._others().items() if not _is_ours(vm)}
        for step in self.setting.steps:
            self._happen(step)
        self._come_to_rest()
        return self.wrong

    def _happen(self, step: Step) -> None:
        lab = self.arena.lab
        if isinstance(step, Wait):
            self.arena.pass_time(step.seconds)
        elif isinstance(step, Switch):
            self._switch(step)
        elif isinstance(step, Reboot):
            lab.look(lambda world: power.node_went_down(world, world.nodes[step.node]))
            self.arena.pass_time(step.off_s)
            lab.look(lambda world: power.node_came_up(world, world.nodes[step.node]))
            self._parked.discard(OURS + step.node)
            self.arena.pass_time(30.0)
        else:
            self._run(step)

    def _switch(self, step: Switch) -> None:
        """A person's `qm stop` is a task of theirs; a crash is nobody's."""
        own = [vmid for vmid, vm in self._own_vms().items() if vm["node"] == step.node and vm["status"] == "running"]
        for vmid in own:
            if step.is_by_person:
                self.arena.lab.shell(step.node, f"qm stop {vmid}")
                self._parked.add(OURS + step.node)
            else:
                self.arena.lab.look(partial(_switch_off, vmid))
        self.arena.pass_time(30.0)

    def _run(self, run: Run) -> Ended:
        lab = self.arena.lab
        if run.fault:
            name, options = FAULTS[run.fault]
            lab.fault(name, **{key: value.format(node=run.faulty) for key, value in options.items()})
        if run.kill_at:
            point = CrashPoint(Write("", "", run.kill_at), run.moment)
            lab.trap(OrdinalKiller(point, self.arena.tool.kill, number=run.kill_at))
        before, quorum, asked = self._own_vms(), _has_quorum(lab.snapshot()), len(lab.requests)
        ended = self.arena.homelab("--via", run.via, *(["--cron"] if run.is_cron else []), **self._settings())
        lab.clear_faults()
        self.arena.pass_time(SETTLED_S if run.moment is not Moment.DURING else 1.0)
        self._judge(run, ended, before, lab.requests[asked:])
        if quorum and not _has_quorum(lab.snapshot()):
            self._say(run, "etcd has lost its quorum")
        return ended

    def _settings(self) -> dict[str, str | None]:
        unused = range(len(self.setting.nodes) + 1, 5)
        left_out: dict[str, str | None] = {f"{key}_{number}": None for number in unused for key in NODE_KEYS}
        return left_out if self.setting.joins else {**left_out, "K3S_EXISTING_NODE_IP": None}

    # --- what must be, or must not be ---------------------------------------------------------------------------------

    def _judge(self, run: Run, ended: Ended, before: Mapping[int, Any], requests: list[Request]) -> None:
        for problem in never_said(ended):
            self._say(run, problem)
        if ended.exit_code not in ((KILLED, 0, 1, 3) if run.kill_at else (0, 1, 3)):
            self._say(run, f"exit code {ended.exit_code}: {last_lines(ended)}")
        self._judge_deletions(run, [_name(vm) for vm in before.values() if not _is_among(vm, self._own_vms())])
        self._judge_parked(run, before)
        others = self._others()
        for vmid, vm in self._foreign.items():
            if others.get(vmid) != vm:
                self._say(run, f"VM {vmid}, which is none of ours, was {vm} and is {others.get(vmid)}")
        for request in requests:
            if request.is_write and any(_is_about(request, vmid) for vmid in self._foreign):
                self._say(run, f"a write to a VM that is none of ours: {request.what}")

    def _judge_deletions(self, run: Run, names: list[str]) -> None:
        """Of VMs that had been finished."""
        now = self.arena.clock.now()
        if len(names) > 1:
            self._say(run, f"more than one VM was deleted: {names}")
        for name in names:
            condition = self.setting.condition[name.removeprefix(OURS)]
            if condition not in CHANGES_LATER:
                self._say(run, f"{name} was deleted, which was {condition.value}")
            if any(now - at < DAY_S for at in self._deleted_at.get(name, [])):
                self._say(run, f"{name} was deleted twice within a day")
            self._deleted_at.setdefault(name, []).append(now)

    def _judge_parked(self, run: Run, before: Mapping[int, Any]) -> None:
        """What a person has switched off stays off in unattended runs, unless others are down too (a power cut)."""
        now = {_name(vm): vm for vm in self._own_vms().values()}
        kept = {OURS + node for node, condition in self.setting.condition.items() if condition is Condition.KEPT}
        down = [vm for vm in before.values() if vm["status"] != "running" and _name(vm) not in kept]
        for vm in down if len(down) == 1 and run.is_cron and run.fault != "node-down" else ():
            if _name(vm) in self._parked and now.get(_name(vm)) != vm:
                self._say(run, f"{_name(vm)} was switched off by a person, and was not left so")
        if not run.is_cron:
            self._parked.clear()

    def _come_to_rest(self) -> None:
        """Nothing happens any more: the last run ends in what it says, and one more writes nothing."""
        self.arena.pass_time(BOOTED_S)
        last = Run("auto", is_cron=False)
        ended = self._run(last)
        if ended.exit_code:
            ended = self._run(last)
        if ended.exit_code == 0:
            self._check_success(last)
            writes = len(self.arena.lab.writes)
            again = self._run(last)
            new = [request.what for request in self.arena.lab.writes[writes:]]
            if again.exit_code or new:
                self._say(last, f"once more, it ended with {again.exit_code} and wrote {new}: {last_lines(again)}")
        elif all(condition in CHANGES_LATER for condition in self.setting.conditions) and not self._is_held():
            self._say(last, f"it does not come to rest: {ended.exit_code}: {last_lines(ended)}")

    def _is_held(self) -> bool:
        """Is a VM down that was replaced within a day? It is a person's turn then."""
        now = self.arena.clock.now()
        down = [_name(vm) for vm in self._own_vms().values() if vm["status"] != "running"]
        return any(now - at < DAY_S for name in down for at in self._deleted_at.get(name, []))

    def _check_success(self, run: Run) -> None:
        """It reported success: each VM runs, but for those that are left as they are by choice."""
        by_choice = [node for node, condition in self.setting.condition.items() if condition is Condition.KEPT]
        running = {vm["node"] for vm in self._own_vms().values() if vm["status"] == "running"}
        for node in self.setting.nodes:
            if node not in running and node not in by_choice:
                self._say(run, f"success, but the VM of {node} does not run")
        for problem in leftovers(self.arena.lab, self.arena.lab.snapshot()):
            self._say(run, f"success, but {problem}")
        if self.setting.joins and not by_choice and len(self.setting.nodes) == len(self.arena.lab.spec.nodes):
            for problem in unsound(self.arena.lab):
                self._say(run, f"success, but {problem}")

    def _say(self, run: Run, problem: str) -> None:
        self.wrong.append(f"{run}: {problem}")

    # --- looking ------------------------------------------------------------------------------------------------------

    def _own_vms(self) -> dict[int, Any]:
        names = {OURS + node for node in self.setting.nodes}
        vms = self.arena.lab.look(vms_of)
        return {vmid: vm for vmid, vm in vms.items() if vm["config"].get("name") in names and vmid not in self._foreign}

    def _others(self) -> dict[int, Any]:
        """What foreign VMs are, without their power state, which a host's reboot changes."""
        vmids = [one.vmid for one in self.setting.foreign]
        vms = self.arena.lab.look(vms_of)
        return {vmid: {**vms[vmid], "status": ""} for vmid in vmids if vmid in vms}


def build(arena: Arena, setting: Setting) -> None:
    """Bring a lab to where the setting begins."""
    has_vm = [node for node, condition in setting.condition.items() if condition is not Condition.ABSENT]
    without = "+".join(node.name for node in arena.lab.spec.nodes if node.name not in has_vm)
    arena.begin("healthy", {"without": without})
    taken = arena.lab.look(vms_of)
    for foreign in (one for one in setting.foreign if one.vmid not in taken):
        tags = f"--tags '{foreign.tags}'" if foreign.tags else ""
        arena.lab.shell(foreign.node, f"qm create {foreign.vmid} --name {foreign.name} --scsi0 local:1 {tags}")
        if foreign.is_running:
            arena.lab.shell(foreign.node, f"qm start {foreign.vmid}")
    for node, condition in setting.condition.items():
        _bring_into(arena, node, condition)
    arena.pass_time(120.0)


def _bring_into(arena: Arena, node: str, condition: Condition) -> None:
    if condition in (Condition.HEALTHY, Condition.ABSENT):
        return
    vmid = arena.lab.look(lambda world: _vm_of(world, node).vmid)
    by_hand = {
        Condition.STOPPED: "qm stop {}",
        Condition.PAUSED: "qm suspend {}",
        Condition.PROTECTED: "qm set {} --protection 1",
        Condition.DATA_DISK: "qm set {} --scsi1 local:1",
        Condition.UNTAGGED: "qm set {} --tags ''",
        Condition.KEPT: "qm set {} --tags 'homelab;homelab-keep'",
        Condition.TEMPLATE: "qm stop {0} && qm template {0}",
    }
    if condition in by_hand:
        arena.lab.shell(node, by_hand[condition].format(vmid))
    arena.lab.look(lambda world: _change(world, _vm_of(world, node), condition))


def _change(world: World, vm: Vm, condition: Condition) -> None:
    if condition is Condition.IO_ERROR:
        world.guests.pause(vm)
        vm.qmp = "io-error"
    elif condition not in (Condition.PAUSED, Condition.STOPPED, Condition.TEMPLATE):
        power.switch_off(world, vm)
    if condition is Condition.SNAPSHOT:
        vm.snapshots["before"] = Snapshot("before", dict(vm.config), world.clock.now())
        vm.config["parent"] = "before"
    elif condition is Condition.LOCKED:
        vm.config["lock"] = "backup"
    elif condition is Condition.MANAGED:
        world.ha[f"vm:{vm.vmid}"] = {"state": "started"}
    elif condition is Condition.UNFINISHED:
        vm.config["tags"] = "homelab;homelab-unfinished"
    configs.save(world, vm)


def _switch_off(vmid: int, world: World) -> None:
    power.switch_off(world, world.vms[vmid])


def _name(vm: Mapping[str, Any]) -> str:
    return str(vm["config"]["name"])


def _is_among(vm: Mapping[str, Any], vms: Mapping[int, Any]) -> bool:
    """Is the machine still there, or was it one that had never been finished?"""
    uuids = {one["config"].get("smbios1") for one in vms.values()}
    return vm["config"].get("smbios1") in uuids or UNFINISHED in str(vm["config"].get("tags"))


def _is_ours(vm: Mapping[str, Any]) -> bool:
    """Is it the VM of the node that it is on?"""
    return bool(vm["config"].get("name") == OURS + vm["node"])


def _vm_of(world: World, node: str) -> Vm:
    (vm,) = (vm for vm in world.vms.values() if vm.name == OURS + node)
    return vm


def _is_about(request: Request, vmid: int) -> bool:
    if request.via == "api":
        return f"/qemu/{vmid}/" in f"{request.path}/"
    return request.programs != () and any(
        argv[0] == "qm" and str(vmid) in argv[1:4] for argv in request.programs if argv
    )


def _has_quorum(snapshot: Mapping[str, Any]) -> bool:
    """Do more than half of the voters live?"""
    return all(_is_quorate(cluster) for cluster in snapshot["k3s"])


def _is_quorate(cluster: Mapping[str, Any]) -> bool:
    voters = [name.rpartition("-")[0] for name, kind in cluster["members"].items() if kind == "voter"]
    alive = [name for name in voters if cluster["nodes"].get(name, {}).get("ready")]
    return 2 * len(alive) > len(voters)
