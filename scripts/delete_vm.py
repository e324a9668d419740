#!/usr/bin/env python3
"""Manual override: delete one VM, so that the next run makes it anew. Usage: delete_vm.py <node-name> <vmid>."""

import own_python


def main() -> int:
    """Returns the exit code."""
    own_python.go_on()
    from homelab.commands import delete_vm

    return delete_vm.main()


if __name__ == "__main__":
    raise SystemExit(main())
