"""The settings that all servers of a cluster have to share, from wherever a server has them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import yaml

from homelab.errors import Misunderstood
from homelab.settings import Secret

CORRECT = "correct that file on the server"
SWITCHES = frozenset(
    {"disable-cloud-controller", "disable-helm-controller", "disable-kube-proxy", "disable-network-policy"}
    | {"embedded-registry", "flannel-external-ip", "flannel-ipv6-masq", "secrets-encryption"}
)
LISTS = frozenset({"cluster-cidr", "cluster-dns", "disable", "service-cidr", "tls-san"})
SECRET = "agent-token"
SHARED = (
    SWITCHES
    | LISTS
    | {SECRET, "cluster-domain", "egress-selector-mode", "flannel-backend", "secrets-encryption-provider"}
)


def shared(files: Mapping[str, str], unit: str) -> dict[str, object]:
    """The shared settings of a server: its config files by path in their order, then the flags of its unit.

    As k3s reads them: a later file replaces a key or (`key+`) adds to it; a flag of the unit replaces what files say.
    The agents' token among them is a Secret.
    """
    found: dict[str, object] = {}
    for path, text in files.items():
        for key, value in document(path, text).items():
            name = key.removesuffix("+")
            found[name] = [*_listed(found.get(name)), *_listed(value)] if key.endswith("+") else value
    found.update(_flags(_command(unit)))
    return {
        key: Secret(str(value)) if key == SECRET and value else value for key, value in found.items() if key in SHARED
    }


def document(path: str, text: str) -> dict[str, object]:
    """The keys of a config file of k3s. What is wrong with it is told by its line alone: there are tokens in it."""
    try:
        found = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        why = f"line {mark.line + 1} is not YAML" if mark else "it is not YAML"
        raise Misunderstood(f"{path} is not understood", why, CORRECT) from None
    if not isinstance(found, dict):
        raise Misunderstood(f"{path} is not understood", "it holds no keys", CORRECT)
    return {str(key): value for key, value in found.items()}


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _command(unit: str) -> list[str]:
    """The words of the last ExecStart in a unit and its drop-ins."""
    lines = unit.replace("\\\n", " ").splitlines()
    commands = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")]
    try:
        return shlex.split(next((command for command in reversed(commands) if command.strip()), ""))
    except ValueError as error:
        raise Misunderstood(
            "the unit of k3s is not understood", str(error), "on that server: systemctl cat k3s"
        ) from error


def _flags(words: Sequence[str]) -> dict[str, object]:
    """The shared settings among the words of a command: `--key value`, `--key=value`, or a switch alone."""
    found: dict[str, object] = {}
    for word, following in zip(words, [*words[1:], ""], strict=False):
        key, has_value, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key not in SHARED:
            continue
        if key in SWITCHES:
            found[key] = not has_value or value.lower() in ("true", "1", "t")
        elif key in LISTS:
            found[key] = [*_listed(found.get(key)), value if has_value else following]
        else:
            found[key] = value if has_value else following
    return found
