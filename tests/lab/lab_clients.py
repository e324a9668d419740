"""Clients of the lab that share no code with it: requests, proxmoxer, OpenSSH's ssh, a bare socket."""

from __future__ import annotations

import socket
import subprocess
from typing import Any

import requests
from proxmoxer import ProxmoxAPI

from pvelab.lab import Lab

PATIENCE_S = 5.0


def api(lab: Lab, node: str = "", **options: Any) -> ProxmoxAPI:
    """proxmoxer, with the lab's token and CA."""
    user, _, rest = lab.env["API_TOKEN"].partition("!")
    name, _, value = rest.partition("=")
    return ProxmoxAPI(
        address(lab, node),
        port=int(lab.env["PROXMOX_PORT"]),
        user=user,
        token_name=name,
        token_value=value,
        verify_ssl=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=PATIENCE_S,
        **options,
    )


def address(lab: Lab, node: str = "") -> str:
    """A node's address, by default the first one's."""
    names = [one.name for one in lab.spec.nodes]
    return lab.network.node(names.index(node) + 1 if node else 1)


def version(lab: Lab, node: str = "") -> requests.Response:
    """GET /version from a node. Raises requests' exceptions."""
    return requests.get(
        f"https://{address(lab, node)}:{lab.env['PROXMOX_PORT']}/api2/json/version",
        headers={"Authorization": f"PVEAPIToken={lab.env['API_TOKEN']}"},
        verify=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=PATIENCE_S,
    )


def ssh(lab: Lab, user_and_host: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command by OpenSSH's client, its host key checked against the lab's known_hosts."""
    trust = [f"UserKnownHostsFile={lab.env['SSH_KNOWN_HOSTS']}", "GlobalKnownHostsFile=none", "BatchMode=yes"]
    options = [word for option in (*trust, "IdentitiesOnly=yes") for word in ("-o", option)]
    key = ["-i", lab.env["SSH_KEY_PATH"], "-p", lab.env["SSH_PORT"]]
    return subprocess.run(
        ["ssh", "-F", "none", *options, *key, user_and_host, command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def knock(host: str, port: int, patience_s: float = 0.15) -> str:
    """What a caller gets from a port: open, refused or time-out."""
    try:
        with socket.create_connection((host, port), timeout=patience_s):
            return "open"
    except TimeoutError:
        return "time-out"
    except ConnectionRefusedError:
        return "refused"


def ended(lab: Lab, upid: Any) -> str:
    """The exit status of a task, waited for in the lab's time."""
    assert isinstance(upid, str) and upid.startswith("UPID:")
    lab.wait_until(lambda world: not world.tasks[upid].is_running, timeout_s=600)
    return lab.look(lambda world: world.tasks[upid].exitstatus or "")


def token_of(lab: Lab, owner: str, name: str) -> ProxmoxAPI:
    """proxmoxer as a privilege-separated token of a user, made in the lab beforehand."""
    secret = lab.look(lambda world: world.tokens[f"{owner}!{name}"].secret)
    return ProxmoxAPI(
        address(lab),
        port=int(lab.env["PROXMOX_PORT"]),
        user=owner,
        token_name=name,
        token_value=secret,
        verify_ssl=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=PATIENCE_S,
    )
