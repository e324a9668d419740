"""Label and field selectors, in the grammar of Kubernetes."""

from __future__ import annotations

import re

from pvelab.guest.jsonpath import select
from pvelab.guest.kube_objects import Document, KubeError
from pvelab.guest.kube_resources import Resource

_SPLIT = re.compile(r",(?![^()]*\))")
_SET = re.compile(r"\s*([\w./-]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_PAIR = re.compile(r"\s*([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)\s*)?")
_ABSENT = re.compile(r"\s*!\s*([\w./-]+)\s*")
_FIELD = re.compile(r"([\w.]+)(==|=|!=)(.*)")
_ALWAYS_NAMED = ("metadata.name", "metadata.namespace")
_UNSET = {"spec.unschedulable": "false"}


def fits(document: Document, selector: str) -> bool:
    """Has the object the labels that a selector asks for? Raises KubeError for one that cannot be read."""
    labels = document["metadata"].get("labels") or {}
    return all(_fits_part(labels, part) for part in _SPLIT.split(selector) if part.strip())


def _fits_part(labels: dict[str, str], part: str) -> bool:
    if found := _SET.fullmatch(part):
        values = {value.strip() for value in found[3].split(",")}
        return (labels.get(found[1]) in values) == (found[2] == "in")
    if found := _ABSENT.fullmatch(part):
        return found[1] not in labels
    if found := _PAIR.fullmatch(part):
        if found[2] is None:
            return found[1] in labels
        return (labels.get(found[1]) == found[3]) == (found[2] != "!=")
    raise KubeError(400, "BadRequest", f"unable to parse requirement: found {part.strip()!r}, expected: identifier")


def has_fields(document: Document, selector: str, resource: Resource) -> bool:
    """Has the object the fields that a field selector asks for? Raises KubeError where its kind knows no such field."""
    return all(_has_field(document, part, resource) for part in filter(None, selector.split(",")))


def _has_field(document: Document, part: str, resource: Resource) -> bool:
    found = _FIELD.fullmatch(part)
    if found is None:
        raise KubeError(400, "BadRequest", f"invalid selector: '{part}'; can't understand '{part}'")
    path, sign, wanted = found.groups()
    if path not in (*_ALWAYS_NAMED, *resource.fields):
        where = f'"{resource.api_version}, Resource={resource.plural}"'
        text = f'Unable to find {where} that match label selector "", field selector "{part}"'
        raise KubeError(400, "BadRequest", f"{text}: field label not supported: {path}")
    held = next(iter(select(path, document)), _UNSET.get(path, ""))
    shown = str(held).lower() if isinstance(held, bool) else str(held)
    return (shown == wanted) == (sign != "!=")
