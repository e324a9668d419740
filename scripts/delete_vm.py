"""Manual override: delete one VM, so that the next run makes it anew. Usage: delete_vm.py <node-name> <vmid>."""

from homelab.commands.delete_vm import main

if __name__ == "__main__":
    raise SystemExit(main())
