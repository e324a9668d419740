"""The command line: arguments -> Options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from homelab.settings import Asked, Via

_DESCRIPTION = """\
Bring every Proxmox VE node that .env names to one healthy Ubuntu VM, joined to
the k3s cluster. What is already right is left alone, so run it at any time."""

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "doctor": "check everything that a run needs, on every node, and change nothing",
        "trust": "show certificates and SSH host keys of nodes and k3s servers, and ask about those that are new",
    }
)
"""What can be asked for instead of a run: the name of a module under homelab.commands, and what it does."""

_EXIT_CODES = """\
exit codes:
  0    every node is as wanted, or differs by choice
  1    no configured node has its VM running, or the run could not go on
  2    the configuration or the command line is wrong
  3    partly done: at least one VM runs, and the report says what is left
  4    another run is going on
  130  interrupted

A command ends in 0 when nothing is amiss, in 1 when something is.
Settings are read from the first .env in src/homelab, the project root and the
current directory; the environment overrides the file."""

_OF_A_RUN = ("--dry-run", "--cron", "--replace", "--force-replace", "--allow-data-loss")
"""Options that say how a run is to go on: no command takes them."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for. `command` is one of COMMANDS; empty: a run."""

    env_file: Path | None
    via: Via
    is_dry_run: bool
    is_json: bool
    is_verbose: bool
    is_quiet: bool
    asked: Asked = field(default_factory=Asked)
    command: str = ""


def parse_arguments(arguments: Sequence[str] | None = None) -> Options:
    """The options in `arguments` (default: those of the process).

    Raises SystemExit as argparse does: 0 after --help, 2 on wrong usage.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command:
        _refuse_options_of_a_run(parser, given)
    if given.cron and (given.replace or given.force_replace or given.allow_data_loss):
        parser.error("--replace, --force-replace and --allow-data-loss are a person's word: not allowed with --cron")
    return Options(
        env_file=given.env,
        via=Via(given.via),
        is_dry_run=given.dry_run,
        is_json=given.json,
        is_verbose=given.verbose,
        is_quiet=given.quiet,
        asked=Asked(
            tuple(given.node),
            tuple(given.replace),
            tuple(given.force_replace),
            is_unattended=given.cron,
            data_loss=tuple(given.allow_data_loss),
        ),
        command=given.command or "",
    )


def _refuse_options_of_a_run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    for option in _OF_A_RUN:
        if getattr(given, option.removeprefix("--").replace("-", "_")):
            parser.error(f"{option} is for a run: it makes no sense with the command {given.command}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m homelab.main",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = "; ".join(f"{name}: {text}" for name, text in COMMANDS.items())
    parser.add_argument("command", nargs="?", choices=list(COMMANDS), help=f"{commands}; without one: a run")
    parser.add_argument("--env", type=Path, metavar="FILE", help="read this file instead of searching for .env")
    parser.add_argument(
        "--via",
        choices=[via.value for via in Via],
        default=Via.AUTO.value,
        help="how to reach Proxmox: the API with SSH as fallback (auto, the default), only one of them",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done and change nothing")
    parser.add_argument("--json", action="store_true", help="write the report to stdout as JSON")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="show each request and command on stderr")
    loudness.add_argument(
        "--quiet", action="store_true", help="show only warnings, errors and, if something failed, the report"
    )
    loudness.add_argument(
        "--cron", action="store_true", help="nobody watches: start before replacing, say only what is new"
    )
    _add_names(parser)
    return parser


def _add_names(parser: argparse.ArgumentParser) -> None:
    for option, text in (
        ("--node", "work on this node only (NODE_n); repeatable"),
        ("--replace", "replace this node's VM, or the VM of this name, whatever its state; repeatable"),
        ("--force-replace", "the same, with its data disks, snapshots, ...; not a protected or locked one; repeatable"),
        ("--allow-data-loss", "give up the volumes of k3s that are on this node's VM, if it is replaced; repeatable"),
    ):
        parser.add_argument(option, action="append", default=[], metavar="NAME", help=text)
