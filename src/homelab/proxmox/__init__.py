"""One client over two wires: the Proxmox API and SSH."""
