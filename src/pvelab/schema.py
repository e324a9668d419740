"""The published API schema: which methods exist, what they take, and who may call them."""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pvelab.formats import (
    PROPERTY_FORMATS,
    Errors,
    FormatError,
    Properties,
    check_format,
    check_properties,
    split_property_string,
)
from pvelab.schema_beyond import BEYOND_SCHEMA

COUNTS = {
    "ide": 4, "sata": 6, "scsi": 31, "virtio": 16, "net": 32, "unused": 256, "serial": 4, "parallel": 3,
    "usb": 14, "hostpci": 16, "ipconfig": 32, "numa": 8, "virtiofs": 10,
}  # fmt: skip
"""How many numbered options of each kind there are: scsi0 to scsi30."""

SINCE_8_2 = ("amd-sev", "import-working-storage", "virtiofs[n]")
"""Parameters of a VM that came after 8.2."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one path, and the values that the path itself gave."""

    path: str
    name: str
    in_path: Mapping[str, str]
    properties: Properties
    permission: Any
    allows_token: bool = True
    is_proxied: bool = False


class Schema:
    """The methods of one release."""

    def __init__(self, paths: Mapping[str, Mapping[str, Any]]) -> None:
        self.paths = {**paths, **BEYOND_SCHEMA}
        self._by_length: dict[int, list[tuple[list[str], str]]] = {}
        for path in self.paths:
            parts = path.strip("/").split("/")
            self._by_length.setdefault(len(parts), []).append((parts, path))
        self._properties: dict[tuple[str, str], Properties] = {}
        self._match = functools.lru_cache(maxsize=1024)(lambda path: self.match(path.strip("/").split("/")))

    def find(self, method: str, path: str) -> Method | None:
        """The method that METHOD path calls, or None."""
        matched = self._match(path)
        if matched is None or method not in self.paths[matched[0]]:
            return None
        template, in_path = matched
        entry = self.paths[template][method]
        permissions = entry.get("permissions") or {}
        return Method(
            path=template,
            name=method,
            in_path=in_path,
            properties=self.properties(template, method),
            permission=permissions.get("check") or permissions.get("user"),
            allows_token=bool(entry.get("allowtoken", 1)),
            is_proxied=bool(entry.get("proxyto")),
        )

    def match(self, parts: list[str]) -> tuple[str, dict[str, str]] | None:
        """The path of the schema that these parts spell, with the values of its placeholders."""
        if parts[:1] == ["nodes"] and parts[2:3] == ["storage"] and parts[4:5] == ["content"] and len(parts) > 5:
            parts = [*parts[:5], "/".join(parts[5:])]
        best: tuple[int, str, dict[str, str]] | None = None
        for wanted, template in self._by_length.get(len(parts), []):
            values: dict[str, str] = {}
            for want, part in zip(wanted, parts, strict=True):
                if want.startswith("{"):
                    values[want[1:-1]] = part
                elif want != part:
                    break
            else:
                if best is None or len(values) < best[0]:
                    best = (len(values), template, values)
        return (best[1], best[2]) if best else None

    def properties(self, path: str, method: str) -> Properties:
        """The parameters of a method by name, numbered ones spelt out."""
        key = (path, method)
        if key not in self._properties:
            declared = self.paths[path][method].get("parameters", {}).get("properties", {})
            self._properties[key] = _numbered(declared)
        return self._properties[key]


@functools.cache
def load(release: str) -> Schema:
    """The schema of a release: 9.2, 8.4, or 8.2, which is that of 8.4 without what came since."""
    name = "pve-9.2.json.gz" if release.startswith("9") else "pve-8.4.json.gz"
    packed = resources.files("pvelab").joinpath("schema", name).read_bytes()
    paths = json.loads(gzip.decompress(packed))["paths"]
    if release == "8.2":
        _take_back(paths)
    return Schema(paths)


def _take_back(paths: Mapping[str, Mapping[str, Any]]) -> None:
    """Remove from the schema of 8.4 what 8.2 had not yet. Source: the Debian changelogs of qemu-server, pve-storage."""
    for methods in paths.values():
        for method in methods.values():
            properties = method.get("parameters", {}).get("properties", {})
            for name in SINCE_8_2:
                properties.pop(name, None)
            content = properties.get("content", {})
            if "import" in content.get("enum", ()):
                content["enum"] = [one for one in content["enum"] if one != "import"]


def verify(properties: Properties, values: Mapping[str, str]) -> Errors:
    """The errors by parameter; none if the call may be carried out."""
    errors: Errors = {}
    check_properties(properties, values, "", _check, errors)
    return errors


def parse_properties(schema: Mapping[str, Any], text: str) -> dict[str, str]:
    """A property string as a mapping. Raises FormatError."""
    properties = property_format(schema)
    found = split_property_string(properties, text)
    return {key: value for key, value in found.items() if key in properties}


def property_format(schema: Mapping[str, Any]) -> Properties:
    """The fields of a parameter that is a property string; empty if it is none."""
    form = schema.get("format")
    if isinstance(form, str):
        return PROPERTY_FORMATS.get(form, {})
    return form or {}


def _numbered(declared: Mapping[str, Any]) -> Properties:
    found: dict[str, Any] = {}
    for name, schema in declared.items():
        if name.endswith("[n]"):
            stem = name.removesuffix("[n]")
            found.update({f"{stem}{n}": schema for n in range(COUNTS[stem])})
        else:
            found[name] = schema
    return found


def _check(schema: Mapping[str, Any], value: str, path: str, errors: Errors) -> None:
    kind = schema.get("type", "string")
    if not _has_type(kind, value):
        errors[path] = f"type check ('{kind}') failed - got '{value}'"
        return
    try:
        _check_format(schema, value, path)
    except FormatError as error:
        errors[path] = f"invalid format - {error}"
        return
    text = _restriction(schema, value)
    if text:
        errors[path] = text


def _has_type(kind: str, value: str) -> bool:
    patterns = {"integer": r"[+-]?\d+", "number": r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "boolean": r"[01]"}
    return kind not in patterns or re.fullmatch(patterns[kind], value) is not None


def _check_format(schema: Mapping[str, Any], value: str, path: str) -> None:
    properties = property_format(schema)
    if not properties:
        if schema.get("format"):
            check_format(schema["format"], value)
        return
    errors: Errors = {}
    check_properties(properties, split_property_string(properties, value), path, _check, errors)
    if errors:
        raise FormatError("format error\n", errors)
    if isinstance(schema["format"], str):
        check_format(schema["format"], value)


def _restriction(schema: Mapping[str, Any], value: str) -> str:
    pattern = schema.get("pattern")
    if pattern and not re.fullmatch(_python_pattern(pattern), value):
        return "value does not match the regex pattern"
    if len(value) > schema.get("maxLength", len(value)):
        return f"value may only be {schema['maxLength']} characters long"
    if len(value) < schema.get("minLength", 0):
        return f"value must be at least {schema['minLength']} characters long"
    if _has_type("number", value):
        if float(value) > float(schema.get("maximum", value)):
            return f"value must have a maximum value of {schema['maximum']}"
        if float(value) < float(schema.get("minimum", value)):
            return f"value must have a minimum value of {schema['minimum']}"
    if schema.get("enum") and value not in map(str, schema["enum"]):
        return f"value '{value}' does not have a value in the enumeration '{', '.join(map(str, schema['enum']))}'"
    return ""


def _python_pattern(pattern: str) -> str:
    """A Perl pattern as Python spells it."""
    return re.sub(r"\(\?\^(\w*):", lambda flags: f"(?{flags[1]}:" if flags[1] else "(?:", pattern).replace("{,", "{0,")
