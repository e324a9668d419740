"""Finds a VM on the network, proves that it is the right one, and waits until its first boot is over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from homelab import cloud_init
from homelab.errors import (
    ChangedIdentity,
    HomelabError,
    Misunderstood,
    NodeFailed,
    NotResponding,
    Problem,
    Refused,
    TimedOut,
    Undecided,
    Unreachable,
)
from homelab.k3s_manager import first_boot
from homelab.k3s_manager.whereabouts import Names, Sight, Whereabouts, check_own, net0_mac
from homelab.memory import GuestKeys
from homelab.models import MEMBER_TAGS, TAG_KEEP, TAG_UNFINISHED, NodePlan, RunningVm, VmFacts
from homelab.proxmox.client import Proxmox
from homelab.proxmox.neighbours import Neighbour
from homelab.runtime import Clock, Pace, Wait, wait_for
from homelab.settings import Config, NodeConfig
from homelab.shell import ChangedHostKey, HostKey, LearnOnce, PinnedKey, Shell, Shells, Trust

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
FORBIDDEN = 403
FIRST_BOOT_EXTRA_S = 420
LEAST_TIMEOUT_S = 15
UNHURRIED = Pace(first_s=1, longest_s=10)
"""For what takes several commands on the node."""
BOOTING = Pace(first_s=1, longest_s=5)
"""For the agent of a VM that boots: it takes tens of seconds to be there."""
CLOUD_INIT_TIMEOUT_S = 900
NOT_YET = (Unreachable, Undecided, TimedOut)
"""A connection that did not come about, or dropped: it is tried again."""


@dataclass(frozen=True, slots=True)
class GuestFinder:
    """Logs in to the VMs of this run.

    `names` asks DNS, `keys` are the host keys that were found right before; `on_learned` says a sentence, `on_reboot`
    is told a VM's name and uuid before.
    """

    pve: Proxmox
    config: Config
    shells: Shells
    clock: Clock
    on_learned: Callable[[str], None]
    on_reboot: Callable[[str, str], None]
    names: Names
    keys: GuestKeys

    @property
    def whereabouts(self) -> Whereabouts:
        return Whereabouts(self.pve, self.names, self.config.node_domain)

    def login_to_newcomer(self, plan: NodePlan, running: RunningVm) -> Shell:
        """As login, for a VM of which the cluster has no Node: one that hangs is rebooted, once in its life.

        Raises NotResponding when that did not help, or was done before.
        """
        try:
            return self.login(plan.config, running)
        except NotResponding:
            if running.is_new or not _may_be_rebooted(plan, running.vm):
                raise
        vm = running.vm
        self.on_reboot(plan.config.vm_name, vm.config.uuid)
        status = self.pve.reset_vm(vm.node, vm.vmid)
        return self.login(plan.config, replace(running, vm=replace(vm, status=replace(status, uptime_s=0))))

    def login(self, node: NodeConfig, running: RunningVm) -> Shell:
        """A shell on the VM, once it answers; a VM that has been up for long is given less time.

        Raises NotResponding when neither agent nor SSH answers in time.
        """
        vm = running.vm
        is_first_boot = running.is_new or cloud_init.is_vendor_data(vm.config.values.get("cicustom", ""))
        timeout_s = self.config.guest.start_timeout_s + (FIRST_BOOT_EXTRA_S if is_first_boot else 0)
        timeout_s = max(timeout_s - vm.status.uptime_s, LEAST_TIMEOUT_S)
        sight = self._sight(node, running, timeout_s)
        if sight.how:
            self.on_learned(f"VM {vm.config.name} (vmid={vm.vmid}) is at {sight.address}: {sight.how}")
        trust = self._trust(running, sight, timeout_s)
        shell = self.shells.guest(sight.address, self.config.ssh.guest_port, self.config.guest.user, trust)
        self._wait_for_ssh(vm, shell, timeout_s)
        return shell

    def _sight(self, node: NodeConfig, running: RunningVm, timeout_s: float) -> Sight:
        """By configuration, guest agent, the node's neighbour table, DNS: the first that shows the VM.

        After an agent that should answer and does not, the others are asked where the VM can prove itself without it.
        """
        vm = running.vm
        if static := cloud_init.static_address(node.ip_config):
            return Sight(static)
        if not running.has_agent:
            return self._sight_without_agent(node, vm, timeout_s)
        try:
            return Sight(self._address_by_agent(vm, timeout_s), is_proven=True)
        except TimedOut as error:
            why = f"{error.what}, {error.why}"
            if _is_in_the_making(running) or self._recalled(vm):
                seen = self.whereabouts.beyond_agent(vm)
                if isinstance(seen, Sight):
                    return seen
                why = f"{why}; {seen}"
            raise _not_responding(vm, why) from error

    def _sight_without_agent(self, node: NodeConfig, vm: VmFacts, timeout_s: float) -> Sight:
        """Of a VM that was made without what installs the agent; its image may have one."""

        def look() -> Sight | str:
            with suppress(HomelabError):
                if address := self.whereabouts.by_agent(vm):
                    return Sight(address, is_proven=True)
            return self.whereabouts.beyond_agent(vm)

        wait = Wait("its address cannot be found", timeout_s, self.clock, pace=UNHURRIED)
        try:
            self.pve.root(vm.node)
            seen = wait_for(look, lambda seen: isinstance(seen, Sight), wait)
        except (Unreachable, TimedOut) as error:
            seen = error.why
        if isinstance(seen, Sight):
            return seen
        raise NodeFailed(
            f"VM {vm.config.name} (vmid={vm.vmid}): its address cannot be found",
            f"it was made without the guest agent, and it gets its address by DHCP; {seen}",
            f"let homelab log in to the node over SSH, and run again; or set {node.key('CLOUD_IP_CONFIG')} to a static "
            f"address, then scripts/delete_vm.py {vm.node} {vm.vmid}, and run again",
        )

    def _address_by_agent(self, vm: VmFacts, timeout_s: float) -> str:
        """The address on the interface that has net0's MAC, as the guest agent sees it. Raises TimedOut."""

        def look() -> tuple[str, str]:
            try:
                return self.whereabouts.by_agent(vm), f"no address on {net0_mac(vm.config)} yet"
            except ChangedIdentity:
                raise
            except HomelabError as error:
                return "", error.why

        address, _ = wait_for(
            look,
            lambda seen: bool(seen[0]),
            Wait("the guest agent gives no address", timeout_s, self.clock, pace=BOOTING),
            describe=lambda seen: seen[1],
        )
        return address

    def _trust(self, running: RunningVm, sight: Sight, timeout_s: float) -> Trust:
        """The host key as the hypervisor's agent reads it, once it answers; else as it was at an earlier time.

        Else it is learned once, if the VM is in the making and is seen to be the one at that address. The agent comes
        late in a first boot; whoever did not wait for it would learn the key from anybody.
        """
        vm = running.vm
        try:
            is_agent_expected = running.has_agent and not sight.how
            key = self._host_key(vm, timeout_s if is_agent_expected else 0)
        except TimedOut as error:
            if known := self._recalled(vm):
                return PinnedKey((known,))
            if not _is_in_the_making(running):
                raise _unchecked(vm, error.why) from error
            if not sight.is_proven:
                self._prove(vm, sight.address, timeout_s, error.why)
            return LearnOnce(partial(self._learn, vm))
        self.keys.keep(vm.config.uuid, str(key))
        return PinnedKey((key,))

    def _recalled(self, vm: VmFacts) -> HostKey | None:
        """Its host key as it was at an earlier time; one that cannot be read is not known."""
        try:
            return HostKey.parse(self.keys.recall(vm.config.uuid))
        except ValueError:
            return None

    def _prove(self, vm: VmFacts, address: str, timeout_s: float, silence: str) -> None:
        """Return once the VM's own MAC answers there; raises NodeFailed where another does, or nobody can tell."""

        def look() -> tuple[Neighbour, ...]:
            with suppress(HomelabError):
                return self.pve.neighbours_at(vm.node, address)
            return ()

        wait = Wait("nobody answers at its address", timeout_s, self.clock, pace=UNHURRIED)
        try:
            self.pve.root(vm.node)
            heard = wait_for(look, bool, wait, lambda _: f"no answer in the networks of {vm.node}")
        except Unreachable as error:
            raise _unchecked(vm, f"{silence}; nor can be told whose MAC answers at {address}: {error}") from error
        except TimedOut as error:
            raise _not_responding(vm, f"{error.what} {address}, {error.why}") from error
        check_own(vm, address, heard)

    def _host_key(self, vm: VmFacts, timeout_s: float) -> HostKey:
        """Raises TimedOut; a token that may not read files is not asked again."""

        def look() -> HostKey | HomelabError:
            try:
                return HostKey.parse(self.pve.agent_file_read(vm.node, vm.vmid, HOST_KEY))
            except ValueError as error:
                return Misunderstood("host key", str(error))
            except ChangedIdentity:
                raise
            except HomelabError as error:
                return error

        seen = wait_for(
            look,
            lambda seen: isinstance(seen, HostKey) or (isinstance(seen, Refused) and seen.status == FORBIDDEN),
            Wait("the guest agent gives no host key", timeout_s, self.clock),
        )
        if isinstance(seen, HomelabError):
            raise TimedOut("the guest agent gives no host key", str(seen)) from seen
        return seen

    def _learn(self, vm: VmFacts, host: str, port: int, key: HostKey) -> bool:
        self.keys.keep(vm.config.uuid, str(key))
        self.on_learned(f"learned the SSH host key of the new VM at {host}:{port}: {key}")
        return True

    def _wait_for_ssh(self, vm: VmFacts, shell: Shell, timeout_s: float) -> None:
        def look() -> str:
            try:
                return "" if shell.run(["true"], timeout_s=15).exit_code == 0 else "the shell answers with an error"
            except ChangedHostKey:
                raise
            except NOT_YET as error:
                return str(error)

        try:
            wait_for(look, lambda seen: not seen, Wait("SSH does not answer", timeout_s, self.clock))
        except TimedOut as error:
            raise _not_responding(vm, f"{error.what}, {error.why}") from error

    def wait_for_cloud_init(self, vm: VmFacts, shell: Shell) -> Problem | None:
        """Wait until the first boot is over; returns what cloud-init could not do, if it went on all the same.

        Raises NodeFailed when cloud-init failed (exit code 1), TimedOut when it does not end.
        """

        look_at_it = f"look at it: {shell.machine.login} 'cloud-init status --long'"

        def look() -> tuple[int, str]:
            try:
                return _cloud_init_status(shell)
            except ChangedHostKey:
                raise
            except NOT_YET as error:
                return -1, str(error)

        try:
            exit_code, text = wait_for(
                look,
                lambda seen: seen[0] == 127 or first_boot.state(seen[1]) in first_boot.OVER,
                Wait(f"VM {vm.config.name}: cloud-init does not end", CLOUD_INIT_TIMEOUT_S, self.clock, look_at_it),
                describe=lambda seen: first_boot.progress(seen[1]),
            )
        except TimedOut as error:
            raise TimedOut(error.what, f"{error.why}; its log ends with: {_log_end(shell)}", error.cure) from error
        if exit_code == 1:
            raise NodeFailed(f"VM {vm.config.name}: cloud-init failed", _why_failed(text, shell), look_at_it)
        if exit_code == 2:
            troubles = first_boot.troubles(text)
            return Problem(f"VM {vm.config.name}: cloud-init had errors it could get over", troubles, look_at_it)
        return None


def _cloud_init_status(shell: Shell) -> tuple[int, str]:
    """Exit code and text of `cloud-init status`, in plain words where it does not know JSON."""
    result = shell.run(["cloud-init", "status", "--format", "json"], timeout_s=60)
    if result.exit_code != 127 and not first_boot.state(result.stdout):
        result = shell.run(["cloud-init", "status"], timeout_s=60)
    return result.exit_code, result.stdout


def _why_failed(text: str, shell: Shell) -> str:
    return "; ".join(filter(None, (first_boot.troubles(text), f"its log ends with: {_log_end(shell)}")))


def _log_end(shell: Shell) -> str:
    """The last lines of what the first boot printed, with | between."""
    with suppress(*NOT_YET):
        if log := shell.run(["tail", "-n", "5", "/var/log/cloud-init-output.log"]).stdout.strip():
            return " | ".join(line.strip() for line in log.splitlines())
    return "no log"


def _unchecked(vm: VmFacts, why: str) -> NodeFailed:
    return NodeFailed(
        f"VM {vm.config.name} (vmid={vm.vmid}): its SSH host key cannot be checked",
        f"the guest agent does not give it: {why}",
        "install and start qemu-guest-agent in the VM, and let the token read files through it "
        "(VM.GuestAgent.FileRead; before Proxmox VE 9: VM.Monitor)",
    )


def _not_responding(vm: VmFacts, why: str) -> NotResponding:
    return NotResponding(
        f"VM {vm.config.name} (vmid={vm.vmid}) is running, not responding",
        why,
        f"look at its console: qm terminal {vm.vmid} on {vm.node}; to make it anew: --replace {vm.config.name}",
    )


def _is_in_the_making(running: RunningVm) -> bool:
    """Did this run make it, or one before that did not finish it? That one may have made it without the agent."""
    tags = running.vm.config.tags
    return running.is_new or (TAG_UNFINISHED in tags and not MEMBER_TAGS & tags)


def _may_be_rebooted(plan: NodePlan, vm: VmFacts) -> bool:
    """Only one that was found running, that never was a Ready member, and that nobody wants left alone."""
    is_left_alone = TAG_KEEP in vm.config.tags or vm.status.lock or vm.status.is_ha_managed
    was_rebooted = plan.facts.past.rebooted_at is not None
    return plan.was_running and not MEMBER_TAGS & vm.config.tags and not is_left_alone and not was_rebooted
