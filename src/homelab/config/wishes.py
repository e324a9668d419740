"""The names on the command line -> the nodes that they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from homelab.errors import ConfigError, Problem
from homelab.settings import Asked, Config, Wishes


def with_wishes(config: Config, asked: Asked) -> Config:
    """The configuration with what the command line asks of this run.

    Raises ConfigError with every name that is no configured node's nor its VM's.
    """
    nodes, vms = _nodes(config), _vms(config)
    problems = [_unknown("--node", name, nodes) for name in asked.nodes if name.lower() not in nodes]
    options = (
        ("--replace", asked.replaced),
        ("--force-replace", asked.forced),
        ("--allow-data-loss", asked.data_loss),
    )
    named = [(option, name) for option, names in options for name in names]
    problems += [_unknown(option, name, nodes, vms) for option, name in named if name.lower() not in {**nodes, **vms}]
    if problems:
        raise ConfigError(problems)
    everything = {**vms, **nodes}
    only = _numbers(asked.nodes, nodes) if asked.nodes else None
    problems = [
        Problem(
            f"{option} {name} is not among the nodes of this run",
            f"--node names {', '.join(asked.nodes)}",
            "add its node with --node, or leave --node out",
        )
        for option, name in named
        if only is not None and everything[name.lower()] not in only
    ]
    if problems:
        raise ConfigError(problems)
    forced = _numbers(asked.forced, everything)
    replaced = _numbers(asked.replaced, everything) | forced
    data_loss = _numbers(asked.data_loss, everything)
    return replace(config, wishes=Wishes(asked.is_unattended, only, replaced, forced, data_loss))


def _nodes(config: Config) -> dict[str, int]:
    """Numbers by what a node is called: NODE_n, or NODE_HOST_n. Those with wrong keys are known, too."""
    hosts = {node.host.lower(): node.number for node in config.nodes if node.host}
    dropped = {node.name.lower(): node.number for node in config.dropped}
    return {**hosts, **dropped, **{node.name.lower(): node.number for node in config.nodes}}


def _vms(config: Config) -> dict[str, int]:
    return {node.vm_name.lower(): node.number for node in config.nodes}


def _numbers(names: Iterable[str], known: Mapping[str, int]) -> frozenset[int]:
    return frozenset(known[name.lower()] for name in names)


def _unknown(option: str, name: str, nodes: Mapping[str, int], vms: Mapping[str, int] | None = None) -> Problem:
    nobody = "no configured node" if vms is None else "no configured node and no VM of one"
    known = ", ".join([*sorted(nodes, key=lambda one: nodes[one]), *(vms or ())])
    return Problem(f"{option} {name} names {nobody}", f"there are {known}", "use one of these names")
