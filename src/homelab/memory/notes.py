"""The lines that homelab keeps in a VM's notes, for runs from other machines; the rest of the notes is a person's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from homelab.memory.stamps import read_stamp, stamp
from homelab.models import KnownImage, VmConfig

LINE = re.compile(r"\s*^homelab: replaced (?P<when>\S+)[ \t]*$", re.MULTILINE)
IMAGE_LINE = re.compile(r"\s*^homelab: image (?P<sum>[0-9a-f]{8,64})(?: of (?P<when>\S+))?[ \t]*$", re.MULTILINE)
IMAGE_DIGITS = 12
CLAIM = re.compile(r"\s*^homelab: being made by (?P<owner>\S+) until (?P<until>\S+)[ \t]*$", re.MULTILINE)
CLAIMED_S = 1800
"""How long whoever makes a VM has it to himself; longer than making one takes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who makes a VM, and until when in Unix seconds nobody else goes on with it."""

    owner: str
    until: float

    def __str__(self) -> str:
        return f"{self.owner} until {stamp(self.until)}"


def without_line(notes: str) -> str:
    """The notes as a person wrote them."""
    return LINE.sub("", notes).strip()


def with_line(notes: str, replaced_at: float) -> str:
    """The notes with the time, in Unix seconds, at which the VM was last replaced."""
    return f"{without_line(notes)}\n\nhomelab: replaced {stamp(replaced_at)}".strip()


def replaced_at(notes: str) -> float | None:
    """The newest time that the notes tell, in Unix seconds; what cannot be read as a time tells none."""
    return max((when for line in LINE.finditer(notes) if (when := read_stamp(line["when"])) is not None), default=None)


def with_claim(notes: str, claim: Claim) -> str:
    """The notes of a VM that is being made; where no pool tells other machines of a run, this does."""
    return f"{without_claim(notes)}\n\nhomelab: being made by {claim}".strip()


def without_claim(notes: str) -> str:
    """The notes of a VM that is made."""
    return CLAIM.sub("", notes).strip()


def claim_taken_off(config: VmConfig) -> dict[str, str]:
    """What has to be set in a VM's config so that nobody claims it any more; empty: nothing."""
    notes = config.values.get("description", "")
    return {} if without_claim(notes) == notes.strip() else {"description": without_claim(notes)}


def claim_in(notes: str) -> Claim | None:
    """None where there is none, or one that cannot be read."""
    found = CLAIM.search(notes)
    until = read_stamp(found["until"]) if found else None
    return Claim(found["owner"], until) if found and until is not None else None


def with_image(notes: str, image: KnownImage) -> str:
    """The notes with the image that the VM is made from."""
    of_day = "" if image.published_at is None else f" of {stamp(image.published_at)}"
    return f"{IMAGE_LINE.sub('', notes).strip()}\n\nhomelab: image {image.sha256[:IMAGE_DIGITS]}{of_day}".strip()


def image_in(notes: str) -> KnownImage | None:
    """The image that the notes tell; None: they tell none."""
    line = IMAGE_LINE.search(notes)
    return KnownImage(line["sum"], read_stamp(line["when"] or "")) if line else None
