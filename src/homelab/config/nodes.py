"""The numbered keys: one NodeConfig per NODE_n, or a DroppedNode with its problems."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from homelab.config.addresses import host_and_port, ip_config, node_name, static_addresses
from homelab.config.labels import labels
from homelab.config.names import dns_label, vm_name
from homelab.config.reader import Reader
from homelab.config.values import (
    BadValue,
    boolean,
    bridges,
    disk_size,
    fingerprint,
    one_of,
    port,
    ratio,
    storage,
    whole_number,
)
from homelab.errors import Problem
from homelab.settings import DroppedNode, NodeConfig, Role

DEFAULT_RATIO = 0.5
DEFAULT_BRIDGES = ("vmbr0",)

_NODE_KEY = re.compile(r"NODE_([0-9]+)")
_NODE_NUMBER = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class NodeDefaults:
    """What the general keys say for every node."""

    api_port: int
    ssh_port: int
    disk_bytes: int
    ip_config: str
    vm_name_template: str


def node_numbers(values: Mapping[str, str]) -> list[int]:
    """The n of every NODE_n that is set, in order."""
    return sorted(int(number) for number in _numbers_written(values) if _NODE_NUMBER.fullmatch(number))


def unread_node_keys(values: Mapping[str, str]) -> list[str]:
    """Keys that look like NODE_n but whose number is not one."""
    return sorted(f"NODE_{number}" for number in _numbers_written(values) if not _NODE_NUMBER.fullmatch(number))


def _numbers_written(values: Mapping[str, str]) -> list[str]:
    return [match[1] for key, value in values.items() if value.strip() and (match := _NODE_KEY.fullmatch(key))]


def read_nodes(reader: Reader, defaults: NodeDefaults) -> tuple[tuple[NodeConfig, ...], tuple[DroppedNode, ...]]:
    """Every node: those that can be used, and those dropped for a problem of their own."""
    nodes, dropped = [], []
    for number in node_numbers(reader.values):
        own = reader.with_own_problems()
        node = _NodeReader(own, number, defaults).read()
        if own.problems:
            dropped.append(DroppedNode(number, node.name or f"NODE_{number}", tuple(own.problems)))
        else:
            nodes.append(node)
    return tuple(nodes), tuple(dropped)


def gaps(reader: Reader) -> list[str]:
    """Sentences about numbers that are skipped, or that have keys but no NODE_n."""
    numbers = node_numbers(reader.values)
    if not numbers:
        return []
    keys_without_node = _keys_without_node(reader, numbers)
    sentences = [
        f"NODE_{number} is not set, so {', '.join(keys)} {'is' if len(keys) == 1 else 'are'} not used"
        for number, keys in sorted(keys_without_node.items())
    ]
    skipped = _spans(set(range(1, numbers[-1])) - set(numbers) - set(keys_without_node))
    sentences += [f"{span} missing; the nodes after that are read all the same" for span in skipped]
    return sentences


def _keys_without_node(reader: Reader, numbers: list[int]) -> dict[int, list[str]]:
    """Numbered keys that would be read if their number had a NODE_n."""
    suffix = f"_{numbers[0]}"
    of_each_node = {key.removesuffix(suffix) for key in reader.asked if key.endswith(suffix)}
    orphans: dict[int, list[str]] = {}
    for key in sorted(key for key, value in reader.values.items() if value.strip()):
        base, _, number = key.rpartition("_")
        if base in of_each_node and _NODE_NUMBER.fullmatch(number) and int(number) not in numbers:
            orphans.setdefault(int(number), []).append(key)
    return orphans


def _spans(numbers: Iterable[int]) -> list[str]:
    """Numbers as `NODE_2 is` or `NODE_2 to NODE_9 are`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return [f"NODE_{first} is" if first == last else f"NODE_{first} to NODE_{last} are" for first, last in spans]


@dataclass(frozen=True, slots=True)
class _NodeReader:
    """Reads the keys that end in one number."""

    reader: Reader
    number: int
    defaults: NodeDefaults

    def read(self) -> NodeConfig:
        """The node; not to be used when its reader has problems."""
        get = self.reader.get
        name = get(self._key("NODE"), node_name, "")
        host, api_port = get(self._key("NODE_HOST"), host_and_port, (None, None))
        image_disk = get(self._key("IMG_STORAGE"), storage, None)
        main_storage = get(self._key("STORAGE"), storage, None)
        if self.reader.text(self._key("STORAGE")) is None and self.reader.text(self._key("IMG_STORAGE")) is None:
            self.reader.missing(self._key("STORAGE"), "the storage for the VM's disk, such as local-zfs")
        return NodeConfig(
            number=self.number,
            name=name,
            is_enabled=get(self._key("NODE_ENABLED"), boolean, True),
            host=host,
            api_port=api_port or self.defaults.api_port,
            ssh_port=get(self._key("SSH_PORT"), port, self.defaults.ssh_port),
            fingerprint=get(self._key("PROXMOX_FINGERPRINT"), fingerprint, None),
            storage=main_storage,
            disk_storage=image_disk or main_storage or "",
            image_storage=get(self._key("ISO_STORAGE"), storage, None),
            cpu_ratio=get(self._key("CPU_RATIO"), ratio, DEFAULT_RATIO),
            memory_ratio=get(self._key("MEMORY_RATIO"), ratio, DEFAULT_RATIO),
            bridges=get(self._key("NETWORK_IFACES"), bridges, DEFAULT_BRIDGES),
            vmid=self._vmid(),
            vm_name=self._vm_name(name) if name else "",
            cores=get(self._key("VM_CORES"), whole_number(1, 1024), None),
            memory_mib=get(self._key("VM_MEMORY"), whole_number(512, 16_777_216, "MiB"), None),
            disk_bytes=get(self._key("VM_DISK_SIZE"), disk_size, self.defaults.disk_bytes),
            ip_config=self._ip_config(),
            role=get(self._key("K3S_ROLE"), one_of(Role), Role.AUTO),
            labels=get(self._key("K3S_LABELS"), labels, ()),
        )

    def _key(self, name: str) -> str:
        return f"{name}_{self.number}"

    def _vmid(self) -> int | None:
        key = self._key("VMID")
        vmid = self.reader.get(key, whole_number(100, 999_999_999), None)
        if vmid is not None:
            self.reader.claim("VMID", vmid, key, f"set {key} to the VMID of this node's own VM, or leave it out")
        return vmid

    def _vm_name(self, node: str) -> str:
        """VM_NAME_n, else from the template; two nodes of one name have one VM name, which needs no second problem."""
        key = self._key("VM_NAME")
        is_own = self.reader.text(key) is not None
        name = self.reader.get(key, dns_label, "") if is_own else self._name_from_template(node)
        cure = f"remove {self._key('NODE')} with its other keys, or name another node"
        if self.reader.claim("node", node.lower(), self._key("NODE"), cure) and name:
            cure = f"set {key} to a VM name that no other node has"
            self.reader.claim("VM name", name, key if is_own else self._key("NODE"), cure)
        return name

    def _name_from_template(self, node: str) -> str:
        try:
            return vm_name(self.defaults.vm_name_template, node)
        except BadValue as bad:
            what = f"{self._key('NODE')}={self.reader.shown(node)} gives no VM name"
            why = f"with VM_NAME_TEMPLATE {bad.why}"
            self.reader.problems.append(Problem(what, why, f"set {self._key('VM_NAME')} to {bad.wanted}"))
            return ""

    def _ip_config(self) -> str:
        key = self._key("CLOUD_IP_CONFIG")
        own = self.reader.get(key, ip_config, None)
        wanted = own or self.defaults.ip_config
        for address in static_addresses(wanted):
            cure = f"set {key} to another address, or to dhcp"
            self.reader.claim("static address", address, key if own else "CLOUD_IP_CONFIG", cure)
        return wanted
