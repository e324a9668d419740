"""One loopback network per lab: 127.X.0.0/16, claimed so that labs side by side do not meet."""

from __future__ import annotations

import socket
from dataclasses import dataclass

API_PORT = 8006
SSH_PORT = 2222
K3S_PORT = 6443
SOURCES_PORT = 8080

_CLAIM_PORT = 8000
_FIRST_OCTET, _LAST_OCTET = 10, 250


class NoNetworkFree(Exception):
    """Every 127.X.0.0/16 with X in 10..250 is taken by another lab."""


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of one lab; the claim holds as long as its socket is open."""

    octet: int
    claim: socket.socket

    def node(self, number: int) -> str:
        """The address of Proxmox node `number` (from 1)."""
        return f"127.{self.octet}.1.{number}"

    def guest(self, number: int) -> str:
        """The address of lease `number` (from 1) given to machines inside VMs."""
        return f"127.{self.octet}.2.{number}"

    def outside(self, number: int) -> str:
        """The address of machine `number` (from 1) that is not a VM of this cluster."""
        return f"127.{self.octet}.3.{number}"

    @property
    def virtual(self) -> str:
        """The address that stands before several k3s servers, where a seed has one."""
        return f"127.{self.octet}.3.100"

    def moved(self, number: int) -> str:
        """The address that machine `number` outside gets when it does not keep its own."""
        return f"127.{self.octet}.3.{150 + number}"

    @property
    def gateway(self) -> str:
        """The router's address."""
        return f"127.{self.octet}.0.1"

    @property
    def guest_prefix(self) -> str:
        """The first three numbers, with their dots, of every guest's address."""
        return f"127.{self.octet}.2."

    @property
    def sources(self) -> str:
        """The address of the HTTP server with images and k3s releases."""
        return f"127.{self.octet}.4.1"

    def release(self) -> None:
        """Let another lab have this network."""
        self.claim.close()


def claim_network() -> Network:
    """Take the first free network. Raises NoNetworkFree."""
    for octet in range(_FIRST_OCTET, _LAST_OCTET + 1):
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            claim.bind((f"127.{octet}.0.1", _CLAIM_PORT))
        except OSError:
            claim.close()
            continue
        return Network(octet, claim)
    raise NoNetworkFree("no loopback network 127.10.0.0/16 to 127.250.0.0/16 is free: stop a lab that still runs")
