"""VM names: one rule for lookup, create and join."""

from __future__ import annotations

import re
from string import Formatter

from homelab.config.values import BadValue
from homelab.settings import is_address

_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TEMPLATE_WANTED = "a name with {node} in it, such as k3s-vm-{node}"


def vm_name(template: str, node: str) -> str:
    """The VM's name on `node`: VM_NAME_TEMPLATE filled in and made a DNS label.

    `node` may be a node name, a full host name (its first label counts) or an address (its separators become `-`).
    Raises BadValue if the template or the name cannot be used.
    """
    _check_placeholders(template)
    short = re.sub(r"[.:%]", "-", node) if is_address(node) else node.split(".")[0]
    return dns_label(template.format(node=short))


def dns_label(text: str) -> str:
    """`text` as a DNS label: lower case, `_` as `-`. Raises BadValue if it still is none."""
    label = text.lower().replace("_", "-")
    if not _DNS_LABEL.fullmatch(label):
        raise BadValue(
            "it makes no DNS label (letters, digits and inner hyphens, at most 63)",
            "a name of letters, digits and inner hyphens, at most 63 of them",
        )
    return label


def has_node(template: str) -> bool:
    """Whether a checked template gives each node its own name."""
    return any(field is not None for _, field, _, _ in Formatter().parse(template))


def _check_placeholders(template: str) -> None:
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise BadValue("its braces do not match", _TEMPLATE_WANTED) from None
    for _, field, format_spec, conversion in parts:
        if field is not None and (field != "node" or format_spec or conversion):
            raise BadValue("{node} is the only placeholder there is", _TEMPLATE_WANTED)
