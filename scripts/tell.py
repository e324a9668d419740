"""`scripts/demo`: tell one story of the lab, or the default ones, and say whether it ended as promised."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pvelab.lab import Lab
from pvelab.spec import PACE_DEMO
from stage import PromiseBroken, Stage, run_as_process
from stories import STORIES, Story

NOT_AS_PROMISED = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the story that the command line names; return the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        width = max(map(len, STORIES))
        for story in STORIES.values():
            _show(f"{story.name:<{width}}  {story.promise}")
        return 0
    try:
        return _tell(STORIES[arguments.name], arguments.via)
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Tell a story: a Proxmox VE cluster in the lab, the commands a user types, what comes of them.",
        epilog="Exit code 0: the story ended as promised, whatever the codes of its commands; 1: it did not.",
    )
    parser.add_argument("name", nargs="?", default="fresh", choices=STORIES, metavar="NAME", help="default: fresh")
    parser.add_argument("--via", choices=("api", "ssh"), help="how the commands reach Proxmox (default: their choice)")
    parser.add_argument("--list", action="store_true", help="list the stories and their promises")
    return parser


def _tell(story: Story, via: str | None) -> int:
    began = time.monotonic()
    _show(f"{story.name}: {story.promise}")
    with (
        tempfile.TemporaryDirectory(prefix="homelab-demo-") as folder,
        Lab(folder=Path(folder) / "lab", pace=PACE_DEMO) as lab,
    ):
        stage = Stage(lab=lab, folder=Path(folder), via=via, run=run_as_process, show=_show)
        stage.begin(story.seed)
        _show(f"# A Proxmox VE cluster is up: {', '.join(node.name for node in lab.spec.nodes)}.")
        try:
            story.tell(stage)
        except PromiseBroken as broken:
            _show(f"\n{story.name} did not end as promised: {broken}")
            return NOT_AS_PROMISED
    _show(f"\n{story.name} ended as promised, after {time.monotonic() - began:.0f} s.")
    return 0


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
