"""Puts the rooms together for one run: connections, image, VMs, cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from homelab import download, kubernetes, memory
from homelab.config.dotenv_file import home
from homelab.errors import HomelabError, Problem
from homelab.health_checker import VMHealthChecker
from homelab.image_manager import ImageManager
from homelab.k3s_manager import GuestFinder, K3sManager, Marking, Ways
from homelab.memory import ClusterMemory, Cordons, GuestKeys, Journal, TrustStore
from homelab.models import Guard, K3sFacts, VmFacts
from homelab.preflight import Preflight
from homelab.proxmox import discovery
from homelab.proxmox.client import Proxmox
from homelab.report import News, Report
from homelab.run_marker import MarkedRecord, RunMarker
from homelab.runtime import Clock, InterruptibleClock
from homelab.settings import Config, Secret, Via
from homelab.shelf import Shelf
from homelab.shell import Shell, Shells, addresses_of
from homelab.trusting import Questions, Strangers
from homelab.vm_manager import FirstBoots, Replacements, VmManager, judge, refuse_beside_half_made


@dataclass(frozen=True, slots=True)
class Run:
    """What the rooms of one run share: its nodes, connections, report, time, and what it leaves word of itself in."""

    found: discovery.Found
    shells: Shells
    report: Report
    clock: Clock
    journal: Journal
    marker: RunMarker
    cluster: ClusterMemory

    @property
    def patient(self) -> Clock:
        """For waits that Ctrl-C ends."""
        return InterruptibleClock(self.clock, self.journal.interruption)


@dataclass(frozen=True, slots=True)
class Homelab:
    """Everything a run works with. `unreached` are the configured nodes to which there is no way."""

    config: Config
    pve: Proxmox
    unreached: Mapping[str, Problem]
    health: VMHealthChecker
    preflight: Preflight
    vms: VmManager
    k3s: K3sManager
    images: ImageManager
    journal: Journal
    marker: RunMarker


@contextmanager
def connect(config: Config, via: Via, report: Report, clock: Clock, *, is_dry_run: bool = False) -> Iterator[Homelab]:
    """Find the nodes and tie the rooms together; closes every connection at the end.

    Raises Locked before anything is contacted while another run goes on; a dry run writes nothing, so it may.
    """
    report.secrets = secrets_in(config, report)
    report.dropped(config)
    strangers = Strangers(trust_store(report), None if is_dry_run else Questions(report))
    cluster = memory.Cluster(frozenset(node.name for node in config.nodes), _addresses(config))
    named = memory.find_folder(state_root(), cluster)
    with (
        _memory(named, clock, is_dry_run=is_dry_run) as at_first,
        report.details(),
        shells_for(config, strangers) as shells,
    ):
        report.news = _news(at_first, config)
        found = discovery.find(
            config, via=via, shells=shells, on_fallback=report.fallback, clock=clock, certificates=strangers
        )
        pve = Proxmox(found.links, clock)
        if not memory.is_certain(named, cluster) or at_first.unfinished():
            cluster = replace(cluster, identity=_identity(pve))
        folder = memory.folder_by_identity(state_root(), named, cluster)
        with nullcontext(at_first) if folder == named else _memory(folder, clock, is_dry_run=is_dry_run) as journal:
            report.news = _news(journal, config)
            if not is_dry_run:
                memory.note_cluster(folder, cluster)
            marker = RunMarker(pve, clock, journal.owner, report.progress, journal)
            try:
                seen = ClusterMemory(folder, is_read_only=is_dry_run)
                yield _assemble(Run(found, shells, report, clock, journal, marker, seen))
            finally:
                if not is_dry_run:
                    marker.give_back()


def shells_for(config: Config, strangers: Strangers) -> Shells:
    """Connections to nodes, guests and k3s servers, as .env and ssh_config say."""
    ssh = config.ssh
    return Shells(
        user=ssh.user, key_path=ssh.key_path, known_hosts=ssh.known_hosts, home=home(), introduction=strangers
    )


def trust_store(report: Report) -> TrustStore:
    """What a person has trusted: for all clusters, since it is needed before the cluster is known."""
    store = TrustStore(state_root() / "trust")
    if doubt := store.doubt():
        report.warn(f"{doubt}; {doubt.cure}")
    return store


@contextmanager
def _memory(folder: Path, clock: Clock, *, is_dry_run: bool) -> Iterator[Journal]:
    """The journal in a folder that this run holds; a dry run makes and holds nothing."""
    if not is_dry_run:
        memory.make_folder(folder)
    with nullcontext() if is_dry_run else memory.held(folder, clock.now()):
        yield Journal(folder / "journal.jsonl", clock, is_read_only=is_dry_run, owner=memory.owner(folder))


def _news(journal: Journal, config: Config) -> News:
    return lambda matters, looked_at: memory.news(journal, matters, looked_at, is_told=config.wishes.is_unattended)


def _identity(pve: Proxmox) -> str:
    """Empty where the cluster does not say; then its names have to do."""
    with suppress(HomelabError):
        return pve.cluster_identity()
    return ""


def _addresses(config: Config) -> frozenset[str]:
    return frozenset(filter(None, (*config.fallback_addresses, *(node.host for node in config.nodes))))


def secrets_in(config: Config, report: Report) -> tuple[Secret, ...]:
    """What is never to be shown. A password that is the user's name is none: hiding it would hide the name."""
    token, password = config.api.token, config.guest.password
    if password and password.reveal() == config.guest.user:
        report.warn("CLOUD_PASSWORD is the same as CLOUD_USER: anybody can guess it")
        password = None
    return tuple(secret for secret in (token.secret if token else None, password) if secret)


def _assemble(run: Run) -> Homelab:
    found, config, journal = run.found, run.found.config, run.journal
    pve = Proxmox(found.links, run.clock, MarkedRecord(journal, run.marker))
    first_boots = FirstBoots(pve, is_awaited=config.k3s.is_join_wanted)
    k3s = _k3s(run, pve, first_boots)
    health = VMHealthChecker(
        pve,
        found,
        past=lambda name, vm: memory.past_of(journal, name, vm),
        ties=k3s.ties,
    )
    images = ImageManager(
        pve,
        config.image,
        cache_folder(),
        run.patient,
        run.report.progress,
        threading.Semaphore(config.policy.max_parallel),
    )

    def guards_now(vm: VmFacts, expected_name: str) -> tuple[Guard, ...]:
        cluster: K3sFacts = k3s.observe()
        return health.reasons_against_deleting(vm, expected_name, cluster)

    preflight = Preflight(
        pve,
        config,
        images,
        run.clock,
        privileges=lambda node, there: judge(pve, config, node, there),
        half_made=lambda node: refuse_beside_half_made(pve, journal, node),
    )
    vms = VmManager(
        pve=pve,
        config=config,
        members=k3s,
        image=images.ensure,
        guards=guards_now,
        replacements=Replacements(config.policy.max_replacements),
        slots=threading.Semaphore(config.policy.max_parallel),
        journal=journal,
        first_boots=first_boots,
    )
    return Homelab(config, pve, found.problems, health, preflight, vms, k3s, images, journal, run.marker)


def _k3s(run: Run, pve: Proxmox, first_boots: FirstBoots) -> K3sManager:
    config, report, clock = run.found.config, run.report, run.patient

    def log_in(address: str) -> Shell:
        return run.shells.server(address, config.ssh.guest_port, config.guest.user)

    def note_reboot(vm: str, uuid: str) -> None:
        memory.note(run.journal, memory.REBOOTED, vm, uuid)
        report.progress(f"{vm}: running, not responding, and never a Ready member: it is rebooted, once")

    def bring(url: str, path: Path, sha256: str) -> None:
        download.fetch(download.Source(url, "K3S_ARTIFACT_URL"), path, sha256=sha256, clock=clock)

    def access() -> kubernetes.Access | None:
        found = kubernetes.read_access(config.k3s.kubeconfigs, config.k3s.existing_servers)
        report.hide(*(secret for secret in ((found.key_pem, found.token) if found else ()) if secret))
        return found

    ways = Ways(
        connect=log_in,
        access=access,
        fetch=lambda url, setting: download.fetch_text(url, clock=clock, setting=setting),
        shelf=Shelf(cache_folder() / "k3s", bring, run.journal.is_read_only),
        slots=threading.Semaphore(config.policy.max_parallel),
        progress=report.progress,
        warn=report.warn,
        hide=report.hide,
    )
    return K3sManager(
        config=config.k3s,
        pve=pve,
        finder=GuestFinder(
            pve, config, run.shells, clock, report.progress, note_reboot, addresses_of, GuestKeys(run.cluster.folder)
        ),
        clock=clock,
        ways=ways,
        marking=Marking(pve, first_boots.end, run.journal.interruption.check, run.marker.take),
        memory=run.cluster,
        cordons=Cordons(run.journal),
    )


def state_root() -> Path:
    """Where memory lies: $XDG_STATE_HOME/homelab, a folder for each cluster in it. A relative path counts as none."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (given if given.is_absolute() else home() / ".local" / "state") / "homelab"


def cache_folder() -> Path:
    """Where downloaded images are kept between runs: $XDG_CACHE_HOME/homelab."""
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "homelab"
