"""All commands of a Proxmox VE node, put together."""

from __future__ import annotations

from pvelab.api import Api
from pvelab.commands import pvesm, pveum, qm
from pvelab.commands.dispatch import tool_command
from pvelab.commands.neighbours import Neighbours, Nobody
from pvelab.commands.nodetools import node_tools, proc_files
from pvelab.commands.pvesh import pvesh
from pvelab.shell.coreutils import COMMANDS
from pvelab.state import Node, World


def equip(world: World, neighbours: Neighbours | None = None) -> None:
    """Give every node of the world its commands and its /proc; `neighbours` is the network they see, else nobody's."""
    api = Api(world)
    for node in world.nodes.values():
        _equip(api, node, neighbours or Nobody())


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
