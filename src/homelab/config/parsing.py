"""A mapping of keys -> Config, or one ConfigError with every problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from homelab.config import general
from homelab.config.addresses import domain, ip_config, static_addresses
from homelab.config.names import has_node, vm_name
from homelab.config.nodes import NodeDefaults, gaps, node_numbers, read_nodes, unread_node_keys
from homelab.config.reader import Files, Reader, Surroundings
from homelab.config.values import BadValue, boolean, disk_size, port
from homelab.errors import ConfigError
from homelab.settings import Config, Via

DEFAULT_VM_NAME_TEMPLATE = "k3s-vm-{node}"
DEFAULT_DISK_BYTES = 200 * 1024**3
DEFAULT_IP_CONFIG = "ip=dhcp"

_NOT_IN_FILE = "neither .env nor the environment has it"


def parse(values: Mapping[str, str], *, home: Path, via: Via, files: Files, why_missing: str = _NOT_IN_FILE) -> Config:
    """The configuration that `values` hold; `why_missing` says in messages where else a key could be.

    Raises ConfigError with every problem if a general key is wrong or no node is left.
    """
    return read_config(Reader(values, Surroundings(home, files, why_missing)), via)


def read_config(reader: Reader, via: Via) -> Config:
    """As parse(), for a caller who wants to know afterwards which keys were asked for."""
    defaults = _node_defaults(reader)
    nodes, dropped = read_nodes(reader, defaults)
    if not nodes and not dropped:
        reader.missing("NODE_1", "the name of your first Proxmox node")
    reader.warnings.extend(gaps(reader))
    reader.warnings.extend(
        f"{key} is not read: numbers count from 1 and have no leading zero" for key in unread_node_keys(reader.values)
    )
    config = Config(
        nodes=nodes,
        dropped=dropped,
        warnings=(),
        node_domain=reader.get("NODE_DOMAIN", domain, "maas"),
        fallback_addresses=general.read_fallback_addresses(reader),
        api_port=defaults.api_port,
        ssh_port=defaults.ssh_port,
        api=general.read_api(reader, via),
        ssh=general.read_ssh(reader),
        guest=general.read_guest(reader),
        image=general.read_image(reader),
        k3s=general.read_k3s(reader),
        policy=general.read_policy(reader),
    )
    if reader.problems or not nodes:
        raise ConfigError([*reader.problems, *(problem for node in dropped for problem in node.problems)])
    return replace(config, warnings=tuple(reader.warnings))


def _node_defaults(reader: Reader) -> NodeDefaults:
    return NodeDefaults(
        api_port=reader.get("PROXMOX_PORT", port, 8006),
        ssh_port=reader.get("SSH_PORT", port, 22),
        disk_bytes=reader.get("VM_DISK_SIZE", disk_size, DEFAULT_DISK_BYTES),
        ip_config=reader.get("CLOUD_IP_CONFIG", lambda text: _ip_config(reader, text), DEFAULT_IP_CONFIG),
        vm_name_template=reader.get(
            "VM_NAME_TEMPLATE", lambda text: _vm_name_template(reader, text), DEFAULT_VM_NAME_TEMPLATE
        ),
    )


def _ip_config(reader: Reader, text: str) -> str:
    """CLOUD_IP_CONFIG; one static address cannot serve several VMs."""
    checked = ip_config(text)
    sharing = [number for number in _enabled_numbers(reader) if not reader.text(f"CLOUD_IP_CONFIG_{number}")]
    if static_addresses(checked) and len(sharing) > 1:
        raise BadValue(
            f"it gives one static address to the VMs of {_node_keys(sharing)}",
            "dhcp, and give each node that needs a static address its own CLOUD_IP_CONFIG_n",
        )
    return checked


def _vm_name_template(reader: Reader, text: str) -> str:
    """VM_NAME_TEMPLATE; tried on a plain node name, and without {node} good for one node only."""
    vm_name(text, "node")
    sharing = [number for number in node_numbers(reader.values) if not reader.text(f"VM_NAME_{number}")]
    if not has_node(text) and len(sharing) > 1:
        raise BadValue(
            f"it gives the VMs of {_node_keys(sharing)} the same name",
            "a name with {node} in it, such as k3s-vm-{node}",
        )
    return text


def _enabled_numbers(reader: Reader) -> list[int]:
    silent = reader.with_own_problems()
    return [number for number in node_numbers(reader.values) if silent.get(f"NODE_ENABLED_{number}", boolean, True)]


def _node_keys(numbers: list[int]) -> str:
    return ", ".join(f"NODE_{number}" for number in numbers)
