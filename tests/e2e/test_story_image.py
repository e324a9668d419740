"""Stories of the cloud image: known by its checksum, brought once, and never half of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from e2e.conftest import Homelab
from e2e.world import NO_JOIN, ONLY_PVE3, nodes_with_running_vm, ready_members, work_on
from pvelab.lab import Lab
from pvelab.shell.contents import Memory

ONE_VM = {**ONLY_PVE3, **NO_JOIN}
SUMS = "/images/SHA256SUMS"
HALF = [
    ".fd572cc57749-noble-server-cloudimg-amd64.img.part",
    ".fd572cc57749-noble-server-cloudimg-amd64.img.version",
]
"""A download that was cut off, for the next run to go on with."""
CONTENT = "iso,vztmpl,backup,snippets,images"


def image_requests(lab: Lab) -> list[str]:
    """How often the image itself was asked for as a whole, by us or by a node."""
    asked = [one for one in lab.requests if one.via == "http" and one.what.endswith(".img") and one.method == "GET"]
    return [one.what for one in asked if one.status == 200]


def no_node_downloads(lab: Lab) -> None:
    """The nodes reach no mirror."""
    lab.fault("task-fails", kind="download")


def image_files(lab: Lab) -> dict[str, set[str]]:
    """Files by node that are no snippets: the image, whole or in parts."""
    files: dict[str, dict[str, str]] = lab.snapshot()["files"]
    return {node: {path for path in found if "/snippets/" not in path} for node, found in files.items()}


def cached(homelab: Homelab) -> list[str]:
    """What is left of downloads on this machine."""
    folder = homelab.home / ".cache" / "homelab"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def delete_vm(lab: Lab, vmid: int = 100, node: str = "pve3") -> None:
    lab.shell(node, f"qm stop {vmid} && qm destroy {vmid}")


# --- once --------------------------------------------------------------------------------------------------------


def test_image_that_is_there_already_is_not_brought_again(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, **ONE_VM)
    delete_vm(lab)
    before, asked = lab.snapshot()["files"], len(image_requests(lab))
    assert asked == 1

    run = homelab("--via", via, **ONE_VM)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert len(image_requests(lab)) == asked
    assert lab.snapshot()["files"] == before
    assert "image" not in run.err


def test_damaged_image_on_a_node_is_replaced_before_it_is_used(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, **ONE_VM)
    delete_vm(lab)
    whole = lab.snapshot()["files"]["pve3"]
    (path,) = image_files(lab)["pve3"]
    lab.look(lambda world: world.nodes["pve3"].files.write(path, Memory(b"QFI\xfb half an image")))

    run = homelab("--via", via, **ONE_VM)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert lab.snapshot()["files"]["pve3"] == whole


def test_shared_storage_is_filled_once(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve1", f"pvesm add nfs nas --server 192.0.2.9 --export /images --content {CONTENT},import")
    everywhere = {f"ISO_STORAGE_{n}": "nas" for n in (1, 2, 3)}

    run = homelab("--via", via, K3S_EXISTING_NODE_IP=None, **everywhere)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert len(image_requests(lab)) == 1
    assert run.err.count(" to nas:") == 1


def test_each_node_with_a_storage_of_its_own_gets_one_but_we_fetch_it_once(lab: Lab, homelab: Homelab) -> None:
    no_node_downloads(lab)

    run = homelab("--via", "ssh", K3S_EXISTING_NODE_IP=None)

    assert run.exit_code == 0, run.text
    assert len(image_requests(lab)) == 1
    assert {node: len(paths) for node, paths in image_files(lab).items()} == {"pve1": 1, "pve2": 1, "pve3": 1}


# --- known by its checksum ---------------------------------------------------------------------------------------


def without_sums(lab: Lab) -> None:
    lab.publish(SUMS, None)


def sums_of_others(lab: Lab) -> None:
    lab.fault("sums-broken", how="unlisted")


def checksum(lab: Lab) -> str:
    return requests.get(lab.env["ISO_URL"].rpartition("/images")[0] + SUMS, timeout=5).text.split()[0]


def test_checksum_of_ones_own_needs_no_list_beside_the_image(lab: Lab, homelab: Homelab, via: str) -> None:
    wanted = checksum(lab)
    without_sums(lab)

    run = homelab("--via", via, IMAGE_SHA256=wanted, **ONE_VM)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    (path,) = image_files(lab)["pve3"]
    assert wanted[:12] in path


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (without_sums, "/images/SHA256SUMS: the server answered 404"),
        (sums_of_others, "no checksum for noble-server-cloudimg-amd64.img: it is not listed in"),
    ],
)
def test_image_that_nobody_vouches_for_is_not_used_unless_that_is_allowed(
    lab: Lab, homelab: Homelab, via: str, breaks: Callable[[Lab], None], said: str
) -> None:
    breaks(lab)

    refused = homelab("--via", via, K3S_EXISTING_NODE_IP=None)

    assert refused.exit_code == 1, refused.text
    assert said in refused.err
    assert "IMAGE_SHA256" in refused.err
    assert "IMAGE_UNVERIFIED=1" in refused.err
    assert work_on(lab) == []
    assert image_requests(lab) == []

    allowed = homelab("--via", via, IMAGE_UNVERIFIED="1", **ONE_VM)
    assert allowed.exit_code == 0, allowed.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert len(image_requests(lab)) == 1


@pytest.mark.parametrize(
    ("how", "settings", "said", "cure"),
    [
        ("", {"IMAGE_SHA256": "0" * 64}, f"wanted {'0' * 64}", "IMAGE_SHA256"),
        ("wrong-checksum", {}, "its sha256 is ", "ISO_URL"),
        ("truncated", {}, "cut off after ", "ISO_URL"),
        ("missing", {}, "the server answered 404", "ISO_URL"),
        ("web-page", {}, "a web page came instead of the file", "ISO_URL"),
        ("installer", {}, "is no usable image: it is an installer or another CD", "ISO_URL"),
    ],
    ids=["wrong-setting", "wrong-checksum", "truncated", "missing", "web-page", "installer"],
)
def test_image_that_is_not_what_it_should_be_is_left_nowhere(
    lab: Lab, homelab: Homelab, via: str, how: str, settings: dict[str, str], said: str, cure: str
) -> None:
    if how:
        lab.fault("image-broken", how=how)
    before = lab.snapshot()

    run = homelab("--via", via, K3S_EXISTING_NODE_IP=None, **settings)

    assert run.exit_code == 1, run.text
    assert said in run.err
    assert cure in run.err
    assert lab.snapshot() == before
    assert cached(homelab) == (HALF if how == "truncated" else [])
    assert [lab.shell(node, "ls /var/tmp /tmp") for node in before["files"]] == 3 * ["/tmp:\n\n/var/tmp:\n"]


def test_source_that_is_broken_is_tried_a_few_times_not_a_few_times_for_each_node(lab: Lab, homelab: Homelab) -> None:
    lab.fault("image-broken", how="truncated")

    run = homelab("--via", "ssh", K3S_EXISTING_NODE_IP=None)

    assert run.exit_code == 1
    parts = [one for one in lab.requests if one.what.endswith(".img") and one.status == 206]
    assert (len(image_requests(lab)), len(parts)) == (3 + 1, 1 + 3), "each node once; here a look, and four tries"


# --- where it goes and how ---------------------------------------------------------------------------------------


def test_where_a_node_cannot_download_it_is_uploaded(lab: Lab, homelab: Homelab, via: str) -> None:
    no_node_downloads(lab)

    run = homelab("--via", via, **ONE_VM)

    assert run.exit_code == 0, run.text
    content = "import" if via == "api" else "iso"
    assert f"pve3: image uploaded to local:{content}/noble-server-cloudimg-amd64-" in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]


def test_a_node_that_gets_no_answer_from_the_mirror_does_not_wait_for_one(lab: Lab, homelab: Homelab) -> None:
    lab.fault("on", do="error", command="pvesh get /nodes/pve3/query-url-metadata", status=1, text="500 read timeout")

    run = homelab("--via", "ssh", **ONE_VM)

    assert run.exit_code == 0, run.text
    assert "pve3: image uploaded to " in run.err
    assert [one for one in lab.writes if "download-url" in one.what] == []


UPLOAD = "/nodes/*/storage/*/upload"


def test_where_an_upload_is_refused_too_it_is_copied_over_ssh(lab: Lab, homelab: Homelab) -> None:
    no_node_downloads(lab)
    lab.fault("on", do="error", method="POST", path=UPLOAD, status=500, text="no space left in /var/tmp")

    run = homelab("--via", "api", **ONE_VM)

    assert run.exit_code == 0, run.text
    assert "pve3: image uploaded to local:import/noble-server-cloudimg-amd64-" in run.err
    assert nodes_with_running_vm(lab) == ["pve3"]


@pytest.mark.parametrize(
    ("do", "said"), [("error", "no space left in /var/tmp"), ("reset", "the connection was cut off")]
)
def test_where_nothing_brings_it_the_upload_s_own_trouble_is_told(
    lab: Lab, homelab: Homelab, do: str, said: str
) -> None:
    no_node_downloads(lab)
    lab.fault("ssh-refused")
    lab.fault("on", do=do, method="POST", path=UPLOAD, text="no space left in /var/tmp", status=500)

    run = homelab("--via", "api", **ONE_VM)

    assert run.exit_code == 1, run.text
    assert said in run.err


def test_download_of_a_node_that_does_not_end_is_not_begun_a_second_time(lab: Lab, homelab: Homelab) -> None:
    lab.look(lambda world: setattr(world.timings, "download_s", 4000.0))

    run = homelab("--via", "api", **ONE_VM)

    assert run.exit_code == 1, run.text
    assert "task download of noble-server-cloudimg-amd64-" in run.err
    assert "it may go on by itself" in run.err
    assert image_requests(lab) == []


def test_storage_for_the_image_is_as_configured(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve3", f"mkdir -p /srv/images && pvesm add dir images --path /srv/images --content {CONTENT},import")

    run = homelab("--via", via, ISO_STORAGE_3="images", **ONE_VM)

    assert run.exit_code == 0, run.text
    (path,) = image_files(lab)["pve3"]
    assert path.startswith("/srv/images/")


def no_image_content(lab: Lab) -> None:
    lab.shell("pve3", "pvesm set local --content snippets,images")


def nothing(_lab: Lab) -> None:
    """The storages are as they should be; the setting is not."""


@pytest.mark.parametrize(
    ("breaks", "settings", "there", "cure"),
    [
        (no_image_content, {}, "none", "allow it: pvesm set local --content images,import,snippets "),
        (nothing, {"ISO_STORAGE_3": "tank"}, "local", "set ISO_STORAGE_3 to one of them"),
    ],
)
def test_where_no_storage_takes_images_what_helps_is_named(
    lab: Lab, homelab: Homelab, via: str, breaks: Callable[[Lab], None], settings: dict[str, Any], there: str, cure: str
) -> None:
    breaks(lab)

    run = homelab("--via", via, **ONE_VM, **settings)

    assert run.exit_code == 1, run.text
    assert f"pve3: no storage takes the image: storages with content iso or import: {there}" in run.err
    assert f"  try: {cure}" in run.err
    assert work_on(lab) == []


def test_without_import_content_root_imports_the_image_by_its_path(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.shell("pve1", f"pvesm set local --content {CONTENT}")

    run = homelab("--via", via)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert len(ready_members(lab)) == 4


def test_without_import_content_and_ssh_nothing_is_brought_in_vain(lab: Lab, homelab: Homelab) -> None:
    lab.shell("pve1", f"pvesm set local --content {CONTENT}")
    lab.fault("ssh-refused")

    run = homelab("--via", "api", **ONE_VM)

    assert run.exit_code == 1, run.text
    assert "pve3: the image cannot be imported: no storage has content import, which the API needs for that" in run.err
    assert "pvesm set local --content iso,vztmpl,backup,snippets,import" in run.err
    assert image_requests(lab) == []
    assert work_on(lab) == []


def test_by_the_api_alone_the_vm_is_made_and_the_lost_agent_is_named(lab: Lab, homelab: Homelab) -> None:
    lab.fault("ssh-refused")

    run = homelab("--via", "api", **ONE_VM)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve3"]
    assert "is made without the guest agent" in run.err

    delete_vm(lab)
    again = homelab("--via", "api", **ONE_VM)
    assert again.exit_code == 0, again.text
    assert len(image_requests(lab)) == 1
