"""Is a request one that Proxmox VE's published API description allows? Shares nothing with the lab's own checks."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import schema_formats
from support.schema_formats import Property

RELEASES = ("9.2", "8.4")
FOLDER = Path(__file__).parents[1] / "schema"
BEYOND_EXTRACT: Mapping[tuple[str, str], frozenset[str]] = {
    ("GET", "/cluster/replication"): frozenset(),
    ("GET", "/access/acl"): frozenset(),
    ("GET", "/access/roles"): frozenset(),
    ("GET", "/cluster/options"): frozenset(),
    ("GET", "/access/users"): frozenset({"enabled", "full"}),
    ("PUT", "/access/acl"): frozenset({"path", "roles", "users", "tokens", "groups", "propagate", "delete"}),
}
"""Methods with their parameters that Proxmox VE has and the extract in tests/schema leaves out: it keeps of /cluster
and /access only what its README names. Their source is the API viewer of Proxmox VE."""
HIGHEST_NUMBER = {
    "hostpci": 15, "ide": 3, "ipconfig": 31, "net": 31, "numa": 7, "parallel": 2, "sata": 5, "scsi": 30, "serial": 3,
    "unused": 255, "usb": 13, "virtio": 15, "virtiofs": 9,
}  # fmt: skip
ARRAY_SEPARATOR = "\0"
_BOOLEANS = ("0", "1")
_NUMBER = {"integer": r"[+-]?\d+", "number": r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"}

Properties = Mapping[str, Property]


@dataclass(slots=True)
class _Branch:
    """One level of the paths: literal parts, a placeholder for any other, and the methods that end here."""

    literal: dict[str, _Branch] = field(default_factory=dict)
    placeholder: _Branch | None = None
    name: str = ""
    methods: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A method of the schema, and what the path gave."""

    properties: Properties
    in_path: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Published:
    """The API description of one release."""

    release: str
    root: _Branch

    def find(self, method: str, path: str) -> Found | None:
        """The method that METHOD path (without /api2/json) calls."""
        in_path: dict[str, str] = {}
        branch = _descend(self.root, path.strip("/").split("/"), in_path)
        if branch is None or method not in branch.methods:
            return None
        return Found(branch.methods[method].get("parameters", {}).get("properties", {}), in_path)


@functools.cache
def published(release: str) -> Published:
    """The description as it lies in tests/schema."""
    packed = (FOLDER / f"pve-{release}.json.gz").read_bytes()
    root = _Branch()
    for path, methods in json.loads(gzip.decompress(packed))["paths"].items():
        branch = root
        for part in path.strip("/").split("/"):
            if part.startswith("{"):
                branch.placeholder = branch.placeholder or _Branch(name=part.strip("{}"))
                branch = branch.placeholder
            else:
                branch = branch.literal.setdefault(part, _Branch())
        branch.methods = methods
    return Published(release, root)


def request_problems(release: str, method: str, path: str, params: Mapping[str, str]) -> list[str]:
    """What a release would refuse of METHOD path with these parameters; nothing if all is well."""
    beyond = BEYOND_EXTRACT.get((method, path.rstrip("/")))
    if beyond is not None:
        return [f"{name}: no such parameter" for name in params if name not in beyond]
    found = published(release).find(method, path)
    if found is None:
        return [f"there is no {method} {path}"]
    return parameter_problems(found.properties, {**params, **found.in_path})


def parameter_problems(properties: Properties, values: Mapping[str, str]) -> list[str]:
    """What is wrong with parameters: unknown, missing, of the wrong type, format, range or choice."""
    found = [f"{name}: {text}" for name, value in values.items() for text in _problems(properties, name, value)]
    for name, schema in properties.items():
        if "[n]" not in name and "alias" not in schema and not schema.get("optional") and name not in values:
            found.append(f"{name}: is missing")
    for name in values:
        needed = (declared(properties, name) or {}).get("requires")
        if needed and needed not in values:
            found.append(f"{name}: needs {needed}")
    return found


def declared(properties: Properties, name: str) -> Property | None:
    """How a parameter is declared; scsi7 stands under scsi[n]."""
    if name in properties:
        return properties[name]
    numbered = re.fullmatch(r"([a-z]+)(\d|[1-9]\d+)", name)
    if numbered and int(numbered[2]) <= HIGHEST_NUMBER.get(numbered[1], -1):
        return properties.get(f"{numbered[1]}[n]")
    return None


def value_problems(schema: Property, value: str) -> list[str]:
    """What is wrong with one value."""
    if schema.get("type") == "array":
        items = schema.get("items", {})
        return [text for one in value.split(ARRAY_SEPARATOR) for text in value_problems(items, one)]
    return list(filter(None, (_type_problem(schema, value), *_range_problems(schema, value)))) or list(
        _format_problems(schema.get("format"), value)
    )


def _descend(branch: _Branch, parts: Sequence[str], in_path: dict[str, str]) -> _Branch | None:
    for position, part in enumerate(parts):
        following = branch.literal.get(part)
        if following is None and branch.placeholder is not None:
            following = branch.placeholder
            if following.name == "volume":
                in_path["volume"] = "/".join(parts[position:])
                return following
            in_path[following.name] = part
        if following is None:
            return None
        branch = following
    return branch


def _problems(properties: Properties, name: str, value: str) -> list[str]:
    schema = declared(properties, name)
    return ["no such parameter"] if schema is None else value_problems(schema, value)


def _type_problem(schema: Property, value: str) -> str:
    kind = schema.get("type", "string")
    if kind == "boolean":
        return "" if value in _BOOLEANS else f"{value!r} is neither 0 nor 1"
    if kind in _NUMBER:
        return "" if re.fullmatch(_NUMBER[kind], value) else f"{value!r} is no {kind}"
    return "" if kind == "string" else f"there is no check for the type {kind!r}"


def _range_problems(schema: Property, value: str) -> Iterator[str]:
    if "enum" in schema and value not in map(str, schema["enum"]):
        yield f"{value!r} is none of {', '.join(map(str, schema['enum']))}"
    if "pattern" in schema and not re.fullmatch(_python_pattern(schema["pattern"]), value):
        yield f"{value!r} does not match {schema['pattern']}"
    if schema.get("type") in _NUMBER and re.fullmatch(_NUMBER[schema["type"]], value):
        if float(value) < float(schema.get("minimum", value)):
            yield f"{value} is below {schema['minimum']}"
        if float(value) > float(schema.get("maximum", value)):
            yield f"{value} is above {schema['maximum']}"
    elif not int(schema.get("minLength", 0)) <= len(value) <= int(schema.get("maxLength", len(value))):
        yield f"{len(value)} characters are too few or too many"


def _format_problems(form: Any, value: str) -> Iterator[str]:
    if isinstance(form, str) and form in schema_formats.PROPERTY_STRINGS:
        form = schema_formats.PROPERTY_STRINGS[form]
    if isinstance(form, str):
        text = schema_formats.problem(form, value)
        if text:
            yield text
    elif isinstance(form, dict):
        yield from _property_string_problems(form, value)


def _property_string_problems(fields: Properties, text: str) -> Iterator[str]:
    values: dict[str, str] = {}
    for part in text.split(","):
        key, sign, value = part.partition("=")
        if not sign:
            default = next((name for name, schema in fields.items() if schema.get("default_key")), "")
            key, value = default or part, part if default else ""
        schema = fields.get(key, {})
        if "keyAlias" in schema:
            values[schema["keyAlias"]] = key
        key = schema.get("alias", key)
        if key in values:
            yield f"{key} stands twice in {text!r}"
        values[key] = value
    yield from (f"{problem} (in {text!r})" for problem in parameter_problems(fields, values))


def _python_pattern(pattern: str) -> str:
    """A Perl pattern in Python's spelling: `(?^i:` for flags, `{,n}` for at most n."""
    without_caret = re.sub(r"\(\?\^([a-z]*):", lambda match: f"(?{match[1]}:", pattern)
    return without_caret.replace("{,", "{0,")
