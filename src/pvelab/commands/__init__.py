"""What a Proxmox VE node's command line offers beyond the core utilities."""
