"""Brings every Proxmox VE node in .env to one healthy Ubuntu VM joined to the k3s cluster."""
