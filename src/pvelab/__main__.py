"""`python -m pvelab`: a whole Proxmox VE cluster with k3s on this machine's loopback, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pvelab import faults, seeds, spec
from pvelab.catalogue import UnknownChoice, parse_choice
from pvelab.lab import Lab
from pvelab.network import API_PORT, SOURCES_PORT, SSH_PORT

PACES = {"demo": spec.PACE_DEMO, "test": spec.PACE_TEST, "real": 1.0}
LIST_COLUMNS, LIST_INDENT = 110, " " * 6
USAGE_ERROR = 2
NOT_FOUND = 127
KILLED_BY_SIGNAL = 128
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a lab, or a command inside one; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    own, command = _split(given)
    arguments = _parser().parse_args(own)
    if arguments.list:
        _print_catalogues()
        return 0
    try:
        return _run(arguments, command)
    except (UnknownChoice, spec.NoSuchNode) as problem:
        print(f"pvelab: {problem}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED if command else 0


def _run(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    seed, options = parse_choice(arguments.seed)
    chosen = [parse_choice(text) for text in arguments.fault]
    lab = Lab(_spec(seed, arguments), arguments.folder, pace=_pace(arguments.pace))
    lab.start(seed, **options)
    try:
        for name, fault_options in chosen:
            lab.fault(name, **fault_options)
        return _run_inside(lab, command) if command else _run_until_interrupted(lab)
    finally:
        lab.stop()


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pvelab",
        description="An emulated Proxmox VE cluster with k3s guests, on loopback only.",
        epilog="After --, a command to run inside the lab: its variables are added to the environment, HOME and "
        "XDG_STATE_HOME are temporary, and its exit code is the lab's.",
    )
    parser.add_argument("--seed", default="fresh", metavar="NAME[:key=value,...]", help="what is there at the start")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:key=value,...]", help="what is broken; repeatable"
    )
    parser.add_argument("--nodes", metavar="N|NAMES", help="how many nodes, or their names with commas (default 3)")
    parser.add_argument(
        "--pve", choices=spec.PVE_VERSIONS, default=spec.PVE_VERSIONS[0], help="the release of Proxmox VE"
    )
    parser.add_argument(
        "--pace", default="demo", metavar="|".join(PACES), help="how fast time passes, or real seconds per lab second"
    )
    parser.add_argument("--folder", type=Path, help="where the lab keeps its files (default: temporary)")
    parser.add_argument("--list", action="store_true", help="list the seeds and faults")
    return parser


def _spec(seed: str, arguments: argparse.Namespace) -> spec.LabSpec:
    wanted = seeds.spec_for(seed, spec.LabSpec(pve_version=arguments.pve))
    return replace(wanted, nodes=spec.nodes_called(arguments.nodes)) if arguments.nodes else wanted


def _pace(text: str) -> float:
    try:
        pace = PACES[text] if text in PACES else float(text)
    except ValueError:
        raise UnknownChoice(f"--pace {text!r}: give {', '.join(PACES)} or a number") from None
    if pace <= 0:
        raise UnknownChoice(f"--pace {text}: give a number above 0")
    return pace


def _print_catalogues() -> None:
    """In one write, so that a pager may end before it has read everything."""
    lines = []
    for title, catalogue in (("Seeds", seeds.SEEDS), ("Faults", faults.FAULTS)):
        lines.append(f"{title}:")
        for choice, what in catalogue.described():
            lines.append(f"  {choice}")
            lines.append(textwrap.fill(what, LIST_COLUMNS, initial_indent=LIST_INDENT, subsequent_indent=LIST_INDENT))
    print("\n".join(lines))


def _run_until_interrupted(lab: Lab) -> int:
    _print_welcome(lab)
    threading.Event().wait()
    return 0


def _print_welcome(lab: Lab) -> None:
    env_path = lab.write_env(lab.folder / ".env")
    print(f"A Proxmox VE cluster of {len(lab.spec.nodes)} nodes is up:")
    for number, node in enumerate(lab.spec.nodes, start=1):
        address = lab.network.node(number)
        print(f"  {node.name:<12} https://{address}:{API_PORT}   ssh root@{address} -p {SSH_PORT}")
    for name, address in lab.k3s_servers.items():
        print(f"  {name:<12} https://{address}:6443   ssh ubuntu@{address} -p {SSH_PORT}")
    print(f"  {'downloads':<12} http://{lab.network.sources}:{SOURCES_PORT}")
    print(f"Everything one needs to reach it is in {env_path}. Try:")
    for example in _examples(lab.env, env_path):
        print(f"  {example}")
    print("Ctrl-C ends it.", flush=True)


def _examples(env: Mapping[str, str], env_path: Path) -> list[str]:
    first = env["PVE_IPS"].partition(",")[0]
    return [
        f"poetry run python -m homelab.main --env {env_path}",
        f"curl --cacert {env['PROXMOX_CA_BUNDLE']} -H 'Authorization: PVEAPIToken={env['API_TOKEN']}' "
        f"https://{first}:{env['PROXMOX_PORT']}/api2/json/nodes",
        f"ssh -i {env['SSH_KEY_PATH']} -o UserKnownHostsFile={env['SSH_KNOWN_HOSTS']} -p {env['SSH_PORT']} "
        f"root@{first} pvesh get /cluster/resources",
        f"kubectl --kubeconfig {env['KUBECONFIG']} get nodes",
    ]


def _run_inside(lab: Lab, command: Sequence[str]) -> int:
    home = lab.folder / "home"
    state = home / ".local" / "state"
    state.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **lab.env, "HOME": str(home), "XDG_STATE_HOME": str(state)}
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except FileNotFoundError:
        print(f"pvelab: {command[0]}: command not found", file=sys.stderr)
        return NOT_FOUND
    return code if code >= 0 else KILLED_BY_SIGNAL - code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
