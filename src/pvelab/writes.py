"""Does a request change anything? Judged by what it is, not by what came of it; what is not known to read, writes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Sequence

_READING_POSTS = re.compile(r"/nodes/[^/]+/qemu/\d+/agent/(ping|get-\S+|network-get-interfaces|info)$")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_SEPARATORS = frozenset("();&|\n")
_GRAMMAR = frozenset({"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}"})

_READERS = re.compile(
    r"\[|basename|cat|cd|cut|date|df|dirname|echo|exit|export|false|findmnt|free|grep|head|hostname|id|journalctl|ls"
    r"|lsblk|ping|printf|ps|pveversion|pwd|readlink|set|sha256sum|sleep|sort|ss|stat|tail|test|tr|true|type|umask|uname"
    r"|uniq|unset|uptime|wait|wc|whoami"
)
_READING_VERBS: dict[str, frozenset[str]] = {
    "cloud-init": frozenset({"status", "query", "--version"}),
    "ip": frozenset({"a", "addr", "address", "link", "neigh", "neighbour", "route"}),
    "kubectl": frozenset({"get", "version", "describe", "config", "cluster-info", "api-resources", "logs"}),
    "pvecm": frozenset({"status", "nodes"}),
    "pvesh": frozenset({"get", "ls", "usage"}),
    "pvesm": frozenset({"status", "list", "path"}),
    "qm": frozenset({"status", "config", "list", "pending", "showcmd", "listsnapshot"}),
    "systemctl": frozenset({"is-active", "is-enabled", "is-failed", "is-system-running", "show", "status", "cat"}),
    "timedatectl": frozenset({"", "show", "status"}),
}


def is_api_write(method: str, path: str) -> bool:
    """Does METHOD path (without /api2/json) change anything on Proxmox?"""
    return method not in ("GET", "HEAD") and not (method == "POST" and _READING_POSTS.fullmatch(path))


def is_command_write(command_line: str) -> bool:
    """Does a shell command line change anything on the machine, on Proxmox or in k3s?"""
    inner = [first or second for first, second in _SUBSTITUTION.findall(command_line)]
    outer = _SUBSTITUTION.sub("SUBSTITUTED", command_line)
    if any(is_command_write(part) for part in inner):
        return True
    try:
        return any(_redirects(words) or _writes(_plain(words)) for words in _simple_commands(outer))
    except ValueError:
        return True


def is_program_write(argv: Sequence[str], targets: Sequence[str] = ()) -> bool:
    """Does a program with these arguments, its output going to these files, change anything?"""
    return any(target != "/dev/null" for target in targets) or _writes(_plain(argv))


def _simple_commands(command_line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(command_line, posix=True, punctuation_chars="();<>&|\n")
    lexer.whitespace = " \t\r"
    lexer.commenters = ""
    words: list[str] = []
    for token in lexer:
        if set(token) <= _SEPARATORS:
            yield words
            words = []
        else:
            words.append(token)
    yield words


def _redirects(words: Sequence[str]) -> bool:
    targets = [word for sign, word in itertools.pairwise(words) if sign in (">", ">>", ">|", "&>", "&>>")]
    return any(target != "/dev/null" for target in targets)


def _plain(words: Sequence[str]) -> list[str]:
    """The command with what stands before it taken away: grammar, assignments, sudo, env, timeout, exec."""
    left = list(words)
    while left:
        if left[0] in _GRAMMAR or _ASSIGNMENT.match(left[0]):
            left = left[1:]
        elif left[0] in _PREFIXES:
            left = _PREFIXES[left[0]](left[1:])
        else:
            return left
    return []


def _without_options(words: list[str]) -> list[str]:
    return words[1:] and _without_options(words[1:]) if words and words[0].startswith("-") else words


def _after_duration(words: list[str]) -> list[str]:
    return _without_options(words)[1:]


_PREFIXES: dict[str, Callable[[list[str]], list[str]]] = {
    "sudo": _without_options,
    "env": _without_options,
    "exec": _without_options,
    "command": _without_options,
    "nice": _without_options,
    "timeout": _after_duration,
}


def _writes(words: Sequence[str]) -> bool:
    if not words:
        return False
    name, rest = words[0].rsplit("/", 1)[-1], list(words[1:])
    if name == "k3s" and rest[:1] == ["kubectl"]:
        name, rest = "kubectl", rest[1:]
    if name in ("sh", "bash", "dash"):
        return not rest or rest[0] not in ("-c", "-ec") or is_command_write(rest[1])
    special = _SPECIAL.get(name)
    if special:
        return special(rest)
    if name in _READING_VERBS:
        return _verb(rest) not in _READING_VERBS[name]
    return not _READERS.fullmatch(name)


def _verb(words: list[str]) -> str:
    """The first word that is not an option; an option with its value apart counts as two options."""
    position = 0
    while position < len(words) and words[position].startswith("-"):
        if words[position] in ("-n", "--namespace", "--kubeconfig", "--context"):
            position += 1
        position += 1
    return words[position] if position < len(words) else (words[0] if words else "")


def _curl_writes(words: list[str]) -> bool:
    saves = any(word in ("-o", "-O", "--output", "--remote-name") for word in words) and "/dev/null" not in words
    return saves or any(word in ("-X", "-d", "--data", "-T", "--request") for word in words)


def _k3s_writes(words: list[str]) -> bool:
    return words[:1] != ["--version"] and words[:2] not in (["token", "list"], ["etcd-snapshot", "ls"])


def _qm_writes(words: list[str]) -> bool:
    if words[:1] == ["guest"]:
        return words[1:2] != ["cmd"]
    if words[:2] == ["cloudinit", "dump"]:
        return False
    return _verb(words) not in _READING_VERBS["qm"]


def _dd_writes(words: list[str]) -> bool:
    return any(word.startswith("of=") and word != "of=/dev/null" for word in words)


_SPECIAL: dict[str, Callable[[list[str]], bool]] = {
    "curl": _curl_writes,
    "dd": _dd_writes,
    "k3s": _k3s_writes,
    "qm": _qm_writes,
}
