"""The part of k3s that agents and servers have alike: settings, log, kubelet, and the Node that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvelab.guest import k3s_log
from pvelab.guest.ailments import Ailment, Flapping
from pvelab.guest.k3s_files import K3sFiles
from pvelab.guest.k3s_join import JoinRequest
from pvelab.guest.k3s_release import commit_of
from pvelab.guest.kube_nodes import Host, Kubelet

if TYPE_CHECKING:
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.guest.k3s_settings import Settings
    from pvelab.guest.systemd import Run

_NO_NETWORK = (
    '"Failed to watch" err="failed to list *v1.Node: nodes is forbidden: '
    'User \\"system:k3s-controller\\" cannot list resource \\"nodes\\" in API group \\"\\" at the cluster scope"'
)
_NO_CONTAINER = '"Error syncing pod, skipping" err="failed to \\"StartContainer\\" with {}: \\"{}\\""'
_NO_PARSER = (
    'failed to create containerd container: get apparmor_parser version: exec: "apparmor_parser": executable file '
    "not found in $PATH"
)
_NO_REGISTRY = (
    'failed to pull image "rancher/mirrored-pause:3.6": failed to resolve reference '
    '"docker.io/rancher/mirrored-pause:3.6": failed to do request: Head '
    '"https://registry-1.docker.io/v2/rancher/mirrored-pause/manifests/3.6": dial tcp: lookup registry-1.docker.io: '
    "Try again"
)
READY_S = 5.0
"""From a Node's registration until its network is up."""


class K3sNode:
    """k3s on one machine, from a start of its service to the end."""

    def __init__(self, run: Run, settings: Settings, version: str, *, is_server: bool) -> None:
        self.run = run
        self.settings = settings
        self.version = version
        self.is_server = is_server
        self.files = K3sFiles(run.guest.files, settings.data_dir)
        self._kubelet: Kubelet | None = None
        self._cluster: Cluster | None = None

    @property
    def name(self) -> str:
        """The name of the Node."""
        return self.settings.node_name

    @property
    def address(self) -> str:
        """The address under which others reach this machine."""
        return self.settings.node_ip or self.run.guest.address

    def log(self, level: str, message: str) -> None:
        """Write to the journal as k3s does."""
        self.run.log(k3s_log.line(self.run.guest.now(), level, message))

    def fatal(self, message: str) -> None:
        """Say why, and end."""
        self.log("fatal", message)
        self.run.exited(1)

    def say_version(self) -> None:
        """The first line of every start."""
        kind = " agent" if not self.is_server else ""
        self.log("info", f"Starting k3s{kind} {self.version} ({commit_of(self.version)})")

    def request(self, url: str) -> JoinRequest:
        """What this machine brings along when it joins."""
        return JoinRequest(
            node_name=self.name,
            node_password=self.files.node_password(),
            token=self.settings.token,
            url=url,
            version=self.version,
            address=self.address,
            critical=self.settings.critical,
        )

    def register(self, cluster: Cluster) -> bool:
        """Start containerd and the kubelet, which keeps the Node from now on; False where k3s ends instead."""
        self.files.keep_agent(cluster)
        self.log("info", f"Running containerd -c {self.settings.data_dir}/agent/etc/containerd/config.toml")
        if self.run.guest.ails(Ailment.CONTAINERD):
            self.log("error", "containerd exited: exit status 1")
            self.run.exited(1)
            return False
        self._import_images()
        self._cluster, self._kubelet = cluster, self._new_kubelet()
        self.log("info", f"Running kubelet --hostname-override={self.name}")
        self._report()
        return True

    def _import_images(self) -> None:
        for path, is_good in self.files.image_archives(self.version):
            if is_good:
                self.log("info", f"Imported images from {path} in 5.023s")
            else:
                self.log("error", f"Error encountered while importing {path}: failed to import images: unexpected EOF")

    def silence(self) -> None:
        """The kubelet reports no longer."""
        if self._cluster and self._kubelet:
            self._cluster.kubelet_stopped(self.name)

    def go_on(self) -> None:
        """The kubelet reports again after a pause."""
        if self._cluster and self._kubelet:
            self._report()

    def _report(self) -> None:
        cluster, kubelet = self._cluster, self._kubelet
        if cluster and kubelet:
            cluster.kubelet_started(kubelet, self._node_deleted)
            self.run.after(READY_S, lambda: self._ready(cluster, kubelet))

    def _ready(self, cluster: Cluster, kubelet: Kubelet) -> None:
        cluster.kubelet_ready(kubelet)
        for how in self.run.guest.ails(Ailment.FLAPS):
            if isinstance(how, Flapping):
                self.run.after(how.after_s, lambda: cluster.kubelet_unready(kubelet))
                self.run.after(how.after_s + how.for_s, lambda: cluster.kubelet_ready(kubelet))
        if cluster.is_too_old(kubelet):
            self.run.log(k3s_log.kubernetes_error(self.run.guest.now(), "reflector.go:200", _NO_NETWORK))
        if kubelet.container_trouble:
            reason, message = kubelet.container_trouble
            text = _NO_CONTAINER.format(reason, message.replace('"', '\\\\\\"'))
            self.run.log(k3s_log.kubernetes_error(self.run.guest.now(), "pod_workers.go:1301", text))

    def _node_deleted(self) -> None:
        self.log("error", f'Unable to update node status: nodes "{self.name}" not found')
        self.run.exited(1)

    def _new_kubelet(self) -> Kubelet:
        guest = self.run.guest
        host = Host(
            hostname=self.name,
            address=self.address,
            machine_id=guest.machine_id,
            system_uuid=guest.hardware.system_uuid,
            boot_id=guest.boot_id,
            cpus=guest.hardware.cpus,
            memory_kib=guest.hardware.memory_mib * 1024,
            disk_kib=guest.hardware.disk_bytes // 1024,
        )
        arguments = tuple("********" if before in ("--token", "-t") else word for before, word in self._words())
        return Kubelet(
            node_name=self.name,
            host=host,
            version=self.version,
            is_server=self.is_server,
            node_args=arguments,
            labels=self.settings.labels,
            taints=self.settings.taints,
            container_trouble=self._container_trouble(),
        )

    def _container_trouble(self) -> tuple[str, str] | None:
        guest = self.run.guest
        if guest.ails(Ailment.APPARMOR):
            return "CreateContainerError", _NO_PARSER
        has_images = any(is_good for _, is_good in self.files.image_archives(self.version))
        return ("ErrImagePull", _NO_REGISTRY) if guest.ails(Ailment.NO_IMAGES) and not has_images else None

    def _words(self) -> list[tuple[str, str]]:
        words = self.run.argv[1:]
        return list(zip(["", *words], words, strict=False))
