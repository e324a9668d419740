"""All commands of a Proxmox VE node, put together."""

from __future__ import annotations

from collections.abc import Sequence

from pvelab.api import Api
from pvelab.commands import pvesm, pveum, qm
from pvelab.commands.dispatch import tool_command
from pvelab.commands.nodetools import Neighbour, Neighbours, node_tools, proc_files
from pvelab.commands.pvesh import pvesh
from pvelab.shell.coreutils import COMMANDS
from pvelab.state import Node, World


def nobody(_node: Node) -> Sequence[Neighbour]:
    """No neighbours."""
    return ()


def equip(world: World, neighbours: Neighbours = nobody) -> None:
    """Give every node of the world its commands and its /proc; `neighbours` tells whom a node has heard of."""
    api = Api(world)
    for node in world.nodes.values():
        _equip(api, node, neighbours)


def _equip(api: Api, node: Node, neighbours: Neighbours) -> None:
    node.files.mount("/proc", lambda: proc_files(api.world, node))
    node.commands = {
        **COMMANDS,
        **node_tools(api, node, neighbours),
        "pvesh": pvesh(api, node),
        "pvesm": tool_command(pvesm.PVESM, api, node),
        "pveum": tool_command(pveum.PVEUM, api, node),
        "qm": tool_command(qm.QM, api, node),
    }
