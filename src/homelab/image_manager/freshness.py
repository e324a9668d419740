"""Whether a VM was made from an older image than the one that is published now. Pure."""

from __future__ import annotations

from dataclasses import replace

from homelab.image_manager.sums import Published
from homelab.models import DAY_S, Action, KnownImage, NodePlan, Plan


def noted(plan: Plan, published: Published) -> Plan:
    """The plan with a note on each VM that is kept and was made from another image. Nothing is done about it."""
    return replace(plan, nodes=tuple(_noted(node, published) for node in plan.nodes))


def _noted(node: NodePlan, published: Published) -> NodePlan:
    made_from = node.facts.past.image
    if node.action is not Action.KEEP or made_from is None:
        return node
    return replace(node, note=news(made_from, published))


def news(made_from: KnownImage, published: Published) -> str:
    """Such as "image 12 days newer at ISO_URL"; empty where it is the same."""
    if published.sha256.startswith(made_from.sha256):
        return ""
    if made_from.published_at is None or published.at is None:
        return "another image at ISO_URL"
    days = round((published.at - made_from.published_at) / DAY_S)
    return f"image {abs(days)} day{'s' * (abs(days) != 1)} {'older' if days < 0 else 'newer'} at ISO_URL"
