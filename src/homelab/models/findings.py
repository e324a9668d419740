"""What was found to be amiss on a node before anything is written to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from homelab.errors import Problem


class Severity(Enum):
    """What a finding means for the VM: it cannot be made, it can be made but not as it should, or nobody knows."""

    ERROR = "error"
    WARNING = "warning"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is amiss, or that could not be looked at, on one node; `node` is empty where it is of all."""

    node: str
    problem: Problem
    severity: Severity = Severity.ERROR
