"""Empties a running member before it goes away: cordon and evict, with a deadline; the pod in the way is named."""

from __future__ import annotations

import re

from homelab.errors import StillMember
from homelab.k3s_manager.server import K3sServer

DRAIN_S = 300
PROGRAM_MARGIN_S = 30
EVICTING = re.compile(
    r'error when (?:evicting|waiting for) pods?[/ ]"(?P<pod>[^"]+)"(?: -n| in namespace) "(?P<space>[^"]+)"'
)
NOT_ALLOWED = re.compile(r"cannot delete (?P<kind>[^(]+?) \([^)]*\): (?P<pods>[^\n]+)")
BUDGET = "disruption budget"


def drain(server: K3sServer, name: str) -> str:
    """Cordon the Node and evict its pods; returns what kubectl said if it did not succeed, empty if it did."""
    words = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={DRAIN_S}s"]
    result = server.remote.run(["sudo", "-n", "k3s", "kubectl", *words], timeout_s=DRAIN_S + PROGRAM_MARGIN_S)
    server.check_sudo(result.stderr)
    return "" if result.exit_code == 0 else result.stdout + result.stderr or "(no message)"


def blocking(text: str) -> tuple[str, ...]:
    """The pods (namespace/name) that kubectl drain names as those it could not get rid of, each once."""
    named = [f"{match['space']}/{match['pod']}" for match in EVICTING.finditer(text)]
    listed = [pod.strip().rstrip("],") for match in NOT_ALLOWED.finditer(text) for pod in match["pods"].split(",")]
    whole = [pod for pod in listed if re.fullmatch(r"[^\s/]+/[^\s/]+", pod)]
    return tuple(dict.fromkeys([*named, *whole]))


def not_drained(name: str, text: str) -> StillMember:
    """What `kubectl drain` printed, as an error with the pod in the way and what to do about it."""
    pods = blocking(text)
    who = ", ".join(pods)
    if BUDGET in text:
        why = f"a disruption budget keeps {who}"
        cure = f"kubectl get pdb -A; let {who} run elsewhere too, or scale it down; then run again"
    elif "declare no controller" in text:
        why = f"nothing would start {who} elsewhere: it has no controller"
        cure = f"save what is in {who}, kubectl delete pod it, then run again"
    elif pods:
        why = f"{who} did not end within {DRAIN_S} s"
        cure = f"kubectl get pods -A --field-selector spec.nodeName={name}; end {who}, then run again"
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        why = lines[-1] if lines else "kubectl drain gives no reason"
        cure = f"try it by hand: kubectl drain {name} --ignore-daemonsets --delete-emptydir-data"
    return StillMember(f"{name} cannot be drained", why, cure)
