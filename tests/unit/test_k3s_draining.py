"""What kubectl drain prints -> the pod in the way, the reason, and what to do about it."""

from __future__ import annotations

import pytest

from homelab.k3s_manager.draining import blocking, not_drained

TRIED = 'error when evicting pods/"web-0" -n "shop"'
FORBIDDEN = "(will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget."
OVER = "global timeout reached: 5m0s"
UNABLE = 'error: unable to drain node "a" due to error:'
BUDGET = f"""\
{TRIED} {FORBIDDEN}
{TRIED} {FORBIDDEN}
There are pending pods in node "a" when an error occurred: {TRIED}: {OVER}
pod/web-0
{UNABLE} {TRIED}: {OVER}, continuing command...
"""
LONE = "cannot delete Pods that declare no controller (use --force to override): default/one, default/two"
ALONE = f"{UNABLE} {LONE}, continuing command...\nThere are pending nodes to be drained:\n a\n{LONE}\n"
ENDING = 'error when waiting for pod "db-0" in namespace "shop" to terminate'
SLOW = f"{UNABLE} {ENDING}: {OVER}, continuing command...\n"


@pytest.mark.parametrize(
    ("text", "pods"),
    [
        (BUDGET, ("shop/web-0",)),
        (ALONE, ("default/one", "default/two")),
        (SLOW, ("shop/db-0",)),
        ("error: boom", ()),
    ],
)
def test_pods_in_the_way_are_named_once_with_their_namespace(text: str, pods: tuple[str, ...]) -> None:
    assert blocking(text) == pods


@pytest.mark.parametrize(
    ("text", "why", "cure"),
    [
        (BUDGET, "a disruption budget keeps shop/web-0", "kubectl get pdb -A"),
        (ALONE, "nothing would start default/one, default/two elsewhere", "kubectl delete pod"),
        (SLOW, "shop/db-0 did not end within 300 s", "spec.nodeName=a"),
        ("warning\nerror: boom\n\n", "error: boom", "kubectl drain a"),
        ("", "gives no reason", "kubectl drain a"),
    ],
)
def test_drain_that_failed_says_why_and_what_to_do(text: str, why: str, cure: str) -> None:
    problem = not_drained("a", text).problem

    assert problem.what == "a cannot be drained"
    assert why in problem.why
    assert cure in problem.cure
