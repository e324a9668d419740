"""What a run leaves anywhere is searched for secrets: here, on nodes, in guests, in what the lab was asked."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from e2e.conftest import Homelab, Run
from e2e.world import cluster, guests, ready_members, vm_on
from pvelab.guest.k3s_tokens import BootstrapToken, Tokens
from pvelab.lab import Lab
from pvelab.machine import Machine
from pvelab.shell.entries import File, Folder, children
from pvelab.state import World

ONLY_PVE3 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_2": "0"}
NAME = "k3s-vm-pve3"
PASSWORD = "cloud-canary-password"
LARGEST = 1 << 20
"""No larger file holds a secret: those are images and programs."""
ITS_OWN = ("/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/k3s.yaml", "/var/lib/rancher/k3s/")
"""Where k3s itself looks for a token, and keeps it; a server has the administrator's kubeconfig."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a machine that holds a secret."""

    machine: str
    path: str
    mode: int
    owner: str


def holding(folder: Folder, secrets: list[bytes], path: str = "") -> Iterator[tuple[str, File]]:
    """Every file below a folder with one of the secrets in it; /proc has the running programs' words."""
    for name, entry in children(folder).items():
        if isinstance(entry, Folder):
            yield from holding(entry, secrets, f"{path}/{name}")
        elif isinstance(entry, File) and entry.content.size_bytes < LARGEST:
            content = entry.content.data()
            if any(secret in content for secret in secrets):
                yield f"{path}/{name}", entry


def places(world: World, secrets: list[str]) -> set[Place]:
    """Every file of every node and guest with one of the secrets in it."""
    machines: list[Machine] = [*world.nodes.values(), guests(world).existing]
    machines += [guests(world).machine_in(vm) for vm in world.vms.values() if vm.is_running]
    wanted = [secret.encode() for secret in secrets]
    return {
        Place(machine.hostname, path, file.mode, file.owner)
        for machine in machines
        for path, file in holding(machine.files.root, wanted)
    }


def journals(world: World) -> str:
    """What services and sshd have logged in the guests."""
    machines = [guests(world).existing, *(guests(world).machine_in(vm) for vm in world.vms.values() if vm.is_running)]
    return "\n".join(
        line for machine in machines for unit in machine.systemd.units for line in machine.journal.of(unit)
    )


def left_here(home: Path) -> str:
    """All files under our home but those that a person put there."""
    own = {home / "lab.env"}
    files = [path for path in home.rglob("*") if path.is_file() and path not in own]
    return "\n".join(f"{path}\n{path.read_text(errors='replace')}" for path in files)


def of_kubeconfig(path: str) -> list[str]:
    """The key in a kubeconfig as it stands there, and in PEM form line by line; the token of an account."""
    (entry,) = yaml.safe_load(Path(path).read_text())["users"]
    key, token = entry["user"].get("client-key-data", ""), entry["user"].get("token", "")
    lines = [line for line in base64.b64decode(key).decode().splitlines() if not line.startswith("-----")]
    return [secret for secret in (key, token, *lines) if secret]


def shared_files(home: Path) -> set[Path]:
    """What the tool has made here that others may look into."""
    roots = [path for path in (home / "state", home / ".cache") if path.exists()]
    made = [path for root in roots for path in (root, *root.rglob("*"))]
    return {path for path in made if path.stat().st_mode & 0o077}


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """A person whose files are everybody's."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[BootstrapToken]:
    """The tokens that the cluster makes for agents."""
    tokens: list[BootstrapToken] = []
    create = Tokens.create

    def noting(self: Tokens, ttl_s: float, description: str, now: float) -> BootstrapToken:
        tokens.append(create(self, ttl_s, description, now))
        return tokens[-1]

    monkeypatch.setattr(Tokens, "create", noting)
    return tokens


def assert_nothing_leaked(lab: Lab, homelab: Homelab, run: Run, secrets: list[str], before: set[Place]) -> None:
    told = {
        "stdout and stderr": run.text,
        "files here": left_here(homelab.home),
        "requests": "\n".join(map(repr, lab.requests)),
        "journals": lab.look(journals),
    }
    assert [(where, secret) for where, text in told.items() for secret in secrets if secret in text] == []
    new = lab.look(lambda world: places(world, secrets)) - before
    assert {place for place in new if not place.path.startswith(ITS_OWN)} == set()
    assert {place for place in new if place.mode & 0o077 or place.owner != "root"} == set()
    assert {place.machine for place in new} <= {NAME}
    assert shared_files(homelab.home) == set()
    with_password = [request for request in lab.requests if PASSWORD in repr(request)]
    assert {(request.via, request.method, *request.params) for request in with_password} <= {
        ("api", "PUT", "cipassword", "digest")
    }
    assert PASSWORD not in run.text + told["files here"]


def works(_: Lab) -> None:
    """Nothing is in the way."""


def crashes(lab: Lab) -> None:
    lab.fault("join-fails", how="k3s-crash", vm=NAME)


def is_rotated(lab: Lab) -> None:
    lab.look(lambda world: setattr(cluster(world).tokens, "server_password", "rotated-canary"))


def is_of_another_cluster(lab: Lab) -> None:
    lab.shell("k3s-server", f"echo K10{'0' * 64}::server:foreign-canary > /var/lib/rancher/k3s/server/node-token")


def is_short(lab: Lab) -> None:
    lab.shell("k3s-server", "echo short-canary > /var/lib/rancher/k3s/server/node-token")


@pytest.mark.parametrize("role", ["agent", "server"])
@pytest.mark.parametrize("trouble", [works, crashes, is_rotated, is_of_another_cluster, is_short])
def test_no_secret_is_left_where_it_does_not_belong(
    lab: Lab, homelab: Homelab, made: list[BootstrapToken], role: str, trouble: Callable[[Lab], None]
) -> None:
    tokens = lab.look(lambda world: cluster(world).tokens)
    tokens.agent_password = "agents-canary"
    lab.shell("k3s-server", "rm /var/lib/rancher/k3s/server/agent-token")
    lab.shell("k3s-server", f"echo {tokens.agent_token} > /var/lib/rancher/k3s/server/agent-token")
    lab.shell("k3s-server", "echo 'agent-token: agents-canary' >> /etc/rancher/k3s/config.yaml")
    lasting = [tokens.server_password, tokens.agent_password]
    trouble(lab)
    fixed = [*lasting, tokens.server_password, "foreign-canary", "short-canary", *of_kubeconfig(lab.env["KUBECONFIG"])]
    api_secret = lab.env["API_TOKEN"].rpartition("=")[2]
    before = lab.look(lambda world: places(world, fixed))

    run = homelab("-v", K3S_ROLE_3=role, CLOUD_PASSWORD=PASSWORD, **ONLY_PVE3)

    assert (NAME in ready_members(lab)) == (trouble is works or (trouble is is_rotated and role == "agent")), run.text
    secrets = [*fixed, api_secret, *(token.secret for token in made)]
    assert_nothing_leaked(lab, homelab, run, secrets, before)


def loses_its_node(lab: Lab) -> None:
    lab.shell("k3s-server", f"kubectl delete node {NAME}")


def goes_down(lab: Lab) -> None:
    lab.shell("pve3", "qm stop 102")
    lab.shell("k3s-server", "sleep 120")


@pytest.mark.parametrize(
    ("happens", "told"), [(loses_its_node, "joined cluster again as agent"), (goes_down, "joined cluster as agent")]
)
def test_no_secret_is_left_by_a_member_that_joins_again_or_is_replaced(
    lab: Lab, homelab: Homelab, made: list[BootstrapToken], happens: Callable[[Lab], None], told: str
) -> None:
    lab.reset("healthy")
    happens(lab)
    secrets = [lab.look(lambda world: cluster(world).tokens.server_password), *of_kubeconfig(lab.env["KUBECONFIG"])]
    before = lab.look(lambda world: places(world, secrets))

    run = homelab("-v", CLOUD_PASSWORD=PASSWORD)

    assert run.exit_code == 0, run.text
    assert f"{NAME} {told}" in run.out
    assert_nothing_leaked(lab, homelab, run, [*secrets, *(token.secret for token in made)], before)


def test_what_the_guest_agent_reads_is_not_left_on_the_node_either(
    lab: Lab, homelab: Homelab, made: list[BootstrapToken], via: str
) -> None:
    lab.reset("healthy")
    lab.shell(NAME, "systemctl disable --now k3s-agent; rm -r /etc/rancher /var/lib/rancher /etc/systemd/system/k3s*")
    lab.shell("k3s-server", f"kubectl delete node {NAME}")
    vmid, _ = vm_on(lab, "pve1")
    address = lab.look(lambda world: guests(world).machine_in(world.vms[vmid]).address)
    folder = homelab.home / ".ssh"
    folder.mkdir(mode=0o700)
    closed = f"Host {address}\n  HostName {lab.network.outside(99)}\n"
    (folder / "config").write_text(f"{closed}Host *\n  StrictHostKeyChecking accept-new\n")
    tokens = lab.look(lambda world: cluster(world).tokens)
    secrets = [tokens.server_password]
    before = lab.look(lambda world: places(world, secrets))

    run = homelab("-v", "--via", via, K3S_EXISTING_NODE_IP=address, KUBECONFIG=None, SSH_KNOWN_HOSTS=None)

    assert run.exit_code == 0, run.text
    assert made
    assert_nothing_leaked(lab, homelab, run, [*secrets, *(token.secret for token in made)], before)


def echoed(lab: Lab, secret: str) -> None:
    """Proxmox and the existing server say back what they were told, or know."""
    text = f"bad value '{secret}' in {quote(secret)} ({base64.b64encode(f'x:{secret}'.encode()).decode()})"
    lab.fault("on", do="error", method="POST", path="/nodes/*/qemu/*/status/start", command="qm start", text=text)
    lab.fault("on", do="error", path="/nodes/*/tasks", text=text)
    lab.fault("on", do="error", command="sh -c hostname", node="k3s-server", text=text)


@pytest.mark.parametrize("kind", ["token", "foreign"])
def test_what_is_said_back_to_the_tool_is_searched_for_secrets(lab: Lab, homelab: Homelab, via: str, kind: str) -> None:
    own = homelab.home / "own-token"
    own.write_text(f"{lab.env['API_TOKEN']}\n")
    kubeconfig = str(lab.kubeconfig(kind))
    secrets = [lab.env["API_TOKEN"].rpartition("=")[2], *of_kubeconfig(kubeconfig)]
    echoed(lab, PASSWORD)

    run = homelab(
        "-v",
        "--via",
        via,
        API_TOKEN=None,
        API_TOKEN_FILE=str(own),
        CLOUD_PASSWORD=PASSWORD,
        KUBECONFIG=kubeconfig,
        **ONLY_PVE3,
    )

    assert run.exit_code == 1, run.text
    assert "bad value '***' in *** (" in run.err
    assert "is open to other users of this machine" in run.err
    own.unlink()
    assert_nothing_leaked(lab, homelab, run, secrets, set())


@pytest.mark.parametrize(
    "leak",
    ["echo canary > /tmp/note", "umask 077; echo canary > /root/note", "echo canary > /etc/rancher/k3s/config.yaml"],
)
def test_search_finds_what_is_planted(lab: Lab, homelab: Homelab, leak: str) -> None:
    lab.reset("healthy")
    before = lab.look(lambda world: places(world, ["canary"]))
    lab.shell(NAME, f"mkdir -p /etc/rancher/k3s; rm -f /etc/rancher/k3s/config.yaml; {leak}")

    with pytest.raises(AssertionError, match=r"note|config\.yaml"):
        assert_nothing_leaked(lab, homelab, Run(0, "", ""), ["canary"], before)
