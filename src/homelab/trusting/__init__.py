"""Whom to believe: what a person at the terminal is asked about, and what one trusted node says of the others."""

from homelab.trusting.questions import Questions
from homelab.trusting.strangers import Strangers

__all__ = ["Questions", "Strangers"]
