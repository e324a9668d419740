#!/usr/bin/env python3
"""Manual override: delete one VM, so that the next run makes it anew. Usage: delete_vm.py <node-name> <vmid>."""

import os
import sys
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"


def main() -> int:
    """Run in the project's .venv, also when started by another Python; returns the exit code."""
    if PYTHON.exists() and Path(sys.prefix) != PYTHON.parents[1]:
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    from homelab.commands import delete_vm

    return delete_vm.main()


if __name__ == "__main__":
    raise SystemExit(main())
