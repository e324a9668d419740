"""K3S_LABELS_n -> labels of the VM's Node: what Kubernetes would refuse, or a kubelet may not set, is refused here."""

from __future__ import annotations

import re

from homelab.config.values import BadValue
from homelab.settings import ZONE_LABEL

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_RESERVED = ("kubernetes.io", "k8s.io")
_OF_KUBELETS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_ALLOWED = frozenset({ZONE_LABEL, "topology.kubernetes.io/region"})
_WANTED = "labels such as disk=ssd,example.com/rack=2, separated by commas"


def labels(text: str) -> tuple[tuple[str, str], ...]:
    """A comma list of key=value as pairs, in the order written.

    Of the keys of Kubernetes itself only those pass that a kubelet accepts at registration and that say nothing untrue:
    with another one k3s does not start. Source: kubelet --node-labels.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, sign, value = (one.strip() for one in part.partition("="))
        if not sign:
            raise BadValue("a label in it has no =", _WANTED)
        _check_key(key)
        if value and not _NAME.fullmatch(value):
            raise BadValue("the value of a label has letters, digits, - _ and . inside, at most 63 of them", _WANTED)
        if key in pairs:
            raise BadValue("a label stands in it twice", _WANTED)
        pairs[key] = value
    if not pairs:
        raise BadValue("it holds no label", _WANTED)
    return tuple(pairs.items())


def _check_key(key: str) -> None:
    prefix, has_prefix, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (has_prefix and not _PREFIX.fullmatch(prefix)):
        raise BadValue("the key of a label is none that Kubernetes takes", _WANTED)
    is_reserved = any(prefix == one or prefix.endswith(f".{one}") for one in _RESERVED)
    is_of_kubelet = any(prefix == one or prefix.endswith(f".{one}") for one in _OF_KUBELETS)
    if is_reserved and not is_of_kubelet and key not in _ALLOWED:
        raise BadValue(
            "a VM may not give itself that label of Kubernetes: k3s would not start",
            "labels without kubernetes.io and k8s.io in the key; what only an admin may set: kubectl label node",
        )
