"""The command lines of qm, pvesm and pvesh as the API methods they stand for, written from their manual pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from support import schema_check
from support.schema_check import Properties, declared, parameter_problems, published

TOOLS = ("qm", "pvesm", "pvesh")
_VM = "/nodes/{node}/qemu/{vmid}"
_STORAGE = "/nodes/{node}/storage/{storage}"
_FROM_FILE = frozenset({"sshkeys"})
_ASKED = frozenset({"cipassword", "password"})
_FLAG: Mapping[str, object] = {"type": "boolean", "optional": 1}
_VMID: Mapping[str, object] = {"type": "integer", "format": "pve-vmid"}
_VOLUME: Mapping[str, object] = {"type": "string", "format": "pve-volume-id"}
_SECONDS: Mapping[str, object] = {"type": "integer", "optional": 1, "minimum": 1}
_SPELT_BOOLEANS = {"yes": "1", "on": "1", "true": "1", "no": "0", "off": "0", "false": "0"}


@dataclass(frozen=True, slots=True)
class Spelling:
    """A command: the method whose parameters it takes, which of them stand without a name, and options of its own."""

    method: str = ""
    path: str = ""
    positional: tuple[str, ...] = ()
    own: Properties | None = None
    takes_rest: bool = False


def _of_vm(method: str, rest: str = "", *more: str) -> Spelling:
    return Spelling(method, f"{_VM}{rest}", ("vmid", *more))


_IMPORT: Properties = {
    "vmid": _VMID,
    "source": {"type": "string"},
    "storage": {"type": "string", "format": "pve-storage-id"},
    "format": {"type": "string", "optional": 1, "enum": ["raw", "qcow2", "vmdk"]},
    "target-disk": {"type": "string", "optional": 1, "pattern": r"(?:ide|sata|scsi|virtio)\d+|efidisk0|tpmstate0"},
}
_EXEC: Properties = {
    "vmid": _VMID,
    "pass-stdin": _FLAG,
    "synchronous": _FLAG,
    "timeout": {"type": "integer", "optional": 1, "minimum": 0},
}
SPELLINGS: Mapping[str, Spelling] = {
    "qm agent": _of_vm("POST", "/agent", "command"),
    "qm clone": _of_vm("POST", "/clone", "newid"),
    "qm cloudinit dump": _of_vm("GET", "/cloudinit/dump", "type"),
    "qm cloudinit pending": _of_vm("GET", "/cloudinit"),
    "qm cloudinit update": _of_vm("PUT", "/cloudinit"),
    "qm config": _of_vm("GET", "/config"),
    "qm create": Spelling("POST", "/nodes/{node}/qemu", ("vmid",)),
    "qm delsnapshot": _of_vm("DELETE", "/snapshot/{snapname}", "snapname"),
    "qm destroy": _of_vm("DELETE"),
    "qm disk import": Spelling(positional=("vmid", "source", "storage"), own=_IMPORT),
    "qm disk resize": _of_vm("PUT", "/resize", "disk", "size"),
    "qm disk rescan": Spelling(own={"vmid": {**_VMID, "optional": 1}, "dryrun": _FLAG}),
    "qm disk unlink": _of_vm("PUT", "/unlink"),
    "qm guest cmd": _of_vm("POST", "/agent", "command"),
    "qm guest exec": Spelling(positional=("vmid",), own=_EXEC, takes_rest=True),
    "qm guest exec-status": _of_vm("GET", "/agent/exec-status", "pid"),
    "qm guest passwd": _of_vm("POST", "/agent/set-user-password", "username"),
    "qm importdisk": Spelling(positional=("vmid", "source", "storage"), own=_IMPORT),
    "qm list": Spelling("GET", "/nodes/{node}/qemu"),
    "qm listsnapshot": _of_vm("GET", "/snapshot"),
    "qm pending": _of_vm("GET", "/pending"),
    "qm reboot": _of_vm("POST", "/status/reboot"),
    "qm reset": _of_vm("POST", "/status/reset"),
    "qm resize": _of_vm("PUT", "/resize", "disk", "size"),
    "qm resume": _of_vm("POST", "/status/resume"),
    "qm set": _of_vm("POST", "/config"),
    "qm shutdown": _of_vm("POST", "/status/shutdown"),
    "qm snapshot": _of_vm("POST", "/snapshot", "snapname"),
    "qm start": _of_vm("POST", "/status/start"),
    "qm status": Spelling(positional=("vmid",), own={"vmid": _VMID, "verbose": _FLAG}),
    "qm stop": _of_vm("POST", "/status/stop"),
    "qm suspend": _of_vm("POST", "/status/suspend"),
    "qm template": _of_vm("POST", "/template"),
    "qm unlink": _of_vm("PUT", "/unlink"),
    "qm unlock": Spelling(positional=("vmid",), own={"vmid": _VMID}),
    "qm wait": Spelling(positional=("vmid",), own={"vmid": _VMID, "timeout": _SECONDS}),
    "pvesm add": Spelling("POST", "/storage", ("type", "storage")),
    "pvesm alloc": Spelling("POST", f"{_STORAGE}/content", ("storage", "vmid", "filename", "size")),
    "pvesm free": Spelling(positional=("volume",), own={"volume": _VOLUME, "delay": _SECONDS}),
    "pvesm list": Spelling("GET", f"{_STORAGE}/content", ("storage",)),
    "pvesm path": Spelling(positional=("volume",), own={"volume": _VOLUME}),
    "pvesm remove": Spelling("DELETE", "/storage/{storage}", ("storage",)),
    "pvesm set": Spelling("PUT", "/storage/{storage}", ("storage",)),
    "pvesm status": Spelling("GET", "/nodes/{node}/storage"),
}
_VERBS = {"create": "POST", "delete": "DELETE", "get": "GET", "set": "PUT"}
_OUTPUT: Properties = {
    "output-format": {"type": "string", "optional": 1, "enum": ["text", "json", "json-pretty", "yaml"]},
    **dict.fromkeys(("human-readable", "noborder", "noheader", "quiet"), _FLAG),
}
_PVESH_OWN = frozenset(_OUTPUT)


class Misspelt(Exception):
    """A command line that the tool cannot take apart."""


def command_problems(release: str, argv: Sequence[str], node: str) -> list[str]:
    """What a release's tools would refuse of a command line on a node; nothing if all is well."""
    try:
        return _pvesh(release, argv, node) if argv[0] == "pvesh" else _tool(release, argv)
    except Misspelt as problem:
        return [str(problem)]


def _tool(release: str, argv: Sequence[str]) -> list[str]:
    length = next((n for n in (3, 2) if " ".join(argv[:n]) in SPELLINGS), 0)
    if not length:
        raise Misspelt(f"there is no {' '.join(argv[:2])}")
    spelling = SPELLINGS[" ".join(argv[:length])]
    properties = spelling.own
    if properties is None:
        found = published(release).find(spelling.method, spelling.path)
        if found is None:
            raise Misspelt(f"there is no {spelling.method} {spelling.path}")
        properties = {name: schema for name, schema in found.properties.items() if name != "node"}
    own, sign, _ = _split_at_dashes(argv[length:])
    if sign and not spelling.takes_rest:
        raise Misspelt("-- is not for this command")
    values = _values(own, properties, spelling.positional)
    judged = {name: value for name, value in values.items() if not _is_indirect(argv[0], name, value)}
    asked = {name: schema for name, schema in properties.items() if name not in values or name in judged}
    return parameter_problems(asked, judged)


def _pvesh(release: str, argv: Sequence[str], node: str) -> list[str]:
    if len(argv) < 3 or argv[1] not in _VERBS:
        raise Misspelt(f"there is no {' '.join(argv[:2])}")
    method, path = _VERBS[argv[1]], argv[2].replace("/nodes/localhost", f"/nodes/{node}")
    if (method, path) in schema_check.BEYOND_EXTRACT:
        return []
    found = published(release).find(method, path)
    if found is None:
        raise Misspelt(f"there is no {method} {path}")
    values = _values(argv[3:], {**found.properties, **_OUTPUT}, ())
    of_output = {name: value for name, value in values.items() if name in _PVESH_OWN}
    of_call = {name: value for name, value in values.items() if name not in _PVESH_OWN}
    return parameter_problems(_OUTPUT, of_output) + parameter_problems(found.properties, {**of_call, **found.in_path})


def _split_at_dashes(words: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in words:
        return list(words), False, []
    at = list(words).index("--")
    return list(words[:at]), True, list(words[at + 1 :])


def _values(words: Sequence[str], properties: Properties, positional: tuple[str, ...]) -> dict[str, str]:
    """The parameters by name; an option given more than once is a list."""
    values: dict[str, str] = {}
    bare: list[str] = []
    left = list(words)
    while left:
        option = re.fullmatch(r"--?([a-z][\w-]*)(?:=(.*))?", left[0], re.DOTALL)
        word = left.pop(0)
        if not option:
            bare.append(word)
            continue
        name, value = option[1], option[2]
        schema = declared(properties, name)
        if schema is None:
            raise Misspelt(f"{name}: no such option")
        may_be_bare = schema.get("type") == "boolean" or name in _ASKED
        if value is None:
            value = _following(left, name, may_be_bare=may_be_bare)
        value = _SPELT_BOOLEANS.get(value, value) if schema.get("type") == "boolean" else value
        values[name] = f"{values[name]}\0{value}" if name in values else value
    if len(bare) != len(positional):
        raise Misspelt(f"{len(bare)} words where {len(positional)} belong: {' '.join(bare)}")
    return {**values, **dict(zip(positional, bare, strict=True))}


def _following(left: list[str], name: str, *, may_be_bare: bool) -> str:
    is_value = bool(left) and not left[0].startswith("-")
    if may_be_bare:
        return left.pop(0) if is_value else "1"
    if not left:
        raise Misspelt(f"{name}: has no value")
    return left.pop(0)


def _is_indirect(tool: str, name: str, value: str) -> bool:
    """A file's name in place of its content, or a password that is read from standard input."""
    return tool == "qm" and (name in _FROM_FILE or (name in _ASKED and value == "1"))
