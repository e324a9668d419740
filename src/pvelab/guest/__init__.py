"""Machines inside VMs, the k3s server outside, and the k3s cluster they make."""
