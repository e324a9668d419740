"""An emulated Proxmox VE cluster with k3s guests, on loopback only. Imports nothing from homelab."""
