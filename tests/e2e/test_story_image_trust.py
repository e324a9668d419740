"""Stories of whom the image is believed: a signed list of checksums, its key, and what is newer than before."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.conftest import Homelab
from e2e.world import NO_JOIN, ONLY_PVE3, nodes_with_running_vm, uuids, vm_on, work_on
from pvelab.lab import Lab

ONE_VM = {**ONLY_PVE3, **NO_JOIN}
TWO_VMS = {"NODE_ENABLED_1": "0", **NO_JOIN}
SUMS = "/images/SHA256SUMS"
FORGED = "the signature of the image's checksums is not good: "
KEY = "the key {} of the image's checksums: "


def source_requests(lab: Lab) -> list[tuple[str, int]]:
    """What the image server was asked, and its answers."""
    return [(one.path, one.status) for one in lab.requests if one.via == "http" and one.path.startswith("/images/")]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "/images/SHA256SUMS: the server answered 404"),
        ("unsigned", "/images/SHA256SUMS.gpg: the server answered 404"),
        ("web-page", "/images/SHA256SUMS.gpg: a web page came instead of the file"),
        ("altered", FORGED + "the list or the signature was altered after it was signed"),
        ("garbled", FORGED + "the list or the signature was altered after it was signed"),
        ("other-key", FORGED + "it is by the key "),
        ("expired-key", KEY + "it expired on 2009-09-16"),
        ("revoked-key", KEY + "it was revoked"),
        ("weak", FORGED),
        ("expired", FORGED + "it has expired"),
        ("unlisted", "no checksum for noble-server-cloudimg-amd64.img: it is not listed in "),
    ],
)
def test_a_list_of_checksums_that_cannot_be_believed_stops_what_needs_the_image_and_nothing_else(
    lab: Lab, homelab: Homelab, how: str, said: str
) -> None:
    lab.reset("healthy", without="pve3")
    lab.fault("sums-broken", how=how)
    before = lab.snapshot()

    run = homelab()

    assert run.exit_code == 3, run.text
    assert said.format(lab.env["IMAGE_SIGNING_FINGERPRINT"]) in run.err
    assert run.out.count("is healthy, skipping") == 2
    assert (lab.snapshot(), lab.writes) == (before, [])
    assert [path for path, _ in source_requests(lab) if path.endswith(".img")] == []


def test_a_forged_list_is_refused_on_either_wire_and_by_a_dry_run_and_the_true_one_is_taken(
    lab: Lab, homelab: Homelab, via: str
) -> None:
    lab.fault("sums-broken", how="altered")

    refused, planned = homelab("--via", via, **ONE_VM), homelab("--via", via, "--dry-run", **ONE_VM)

    assert (refused.exit_code, planned.exit_code) == (1, 1)
    assert FORGED in refused.err
    assert FORGED in planned.err
    assert work_on(lab) == []
    lab.clear_faults()
    assert homelab("--via", via, **ONE_VM).exit_code == 0
    assert nodes_with_running_vm(lab) == ["pve3"]


def test_without_a_key_of_its_own_only_ubuntu_s_is_believed(lab: Lab, homelab: Homelab) -> None:
    run = homelab(**ONE_VM, IMAGE_SIGNING_KEY=None, IMAGE_SIGNING_FINGERPRINT=None)

    assert run.exit_code == 1, run.text
    signer, ubuntu = lab.env["IMAGE_SIGNING_FINGERPRINT"], "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81"
    assert f"{FORGED}it is by the key {signer}, not by {ubuntu}" in run.err
    assert lab.writes == []


def test_a_key_whose_fingerprint_is_another_is_not_believed(lab: Lab, homelab: Homelab) -> None:
    run = homelab(**ONE_VM, IMAGE_SIGNING_FINGERPRINT="AB" * 20)

    assert run.exit_code == 1, run.text
    assert f"IMAGE_SIGNING_KEY holds another key: {lab.env['IMAGE_SIGNING_FINGERPRINT']}, not {'AB' * 20}" in run.err
    assert lab.writes == []


def test_files_that_are_being_replaced_are_looked_at_twice(lab: Lab, homelab: Homelab) -> None:
    sums = (lab.folder / "www" / "images" / "SHA256SUMS").read_bytes()
    lab.publish(SUMS, sums + b"0" * 64 + b" *another.img\n")
    lab.look(lambda world: world.clock.after(3.0, lambda: lab.publish(SUMS, sums)))

    run = homelab(**ONE_VM)

    assert run.exit_code == 0, run.text
    assert [path for path, _ in source_requests(lab)].count(SUMS) == 2


def test_a_list_at_another_address_is_believed_by_its_signature(lab: Lab, homelab: Homelab) -> None:
    folder = lab.folder / "www" / "images"
    for ending in ("", ".gpg"):
        lab.publish(f"/elsewhere/CHECKSUM{ending}", (folder / f"SHA256SUMS{ending}").read_bytes())
        lab.publish(f"{SUMS}{ending}", None)
    address = lab.env["ISO_URL"].partition("/images/")[0] + "/elsewhere/CHECKSUM"

    run = homelab(**ONE_VM, IMAGE_SHA256SUMS_URL=address)

    assert run.exit_code == 0, run.text
    assert nodes_with_running_vm(lab) == ["pve3"]


# --- a download that was cut off ---------------------------------------------------------------------------------


def ranges(lab: Lab) -> list[int]:
    """The answers to requests for the image, in their order."""
    asked = [one for one in lab.requests if one.via == "http" and one.what.endswith(".img")]
    return [one.status for one in asked if one.method == "GET"]


def test_what_was_cut_off_is_gone_on_with(lab: Lab, homelab: Homelab, via: str) -> None:
    lab.fault("task-fails", kind="download")
    lab.fault("image-broken", how="cut-once")

    run = homelab("--via", via, **ONE_VM)

    assert run.exit_code == 0, run.text
    assert ranges(lab) == [206, 200, 206], "a look, half of it, the other half"


def test_what_an_earlier_run_has_got_is_not_asked_for_again_unless_there_is_another_image_now(
    lab: Lab, homelab: Homelab
) -> None:
    lab.fault("image-broken", how="truncated")
    homelab("--via", "ssh", **ONE_VM)
    lab.clear_faults()
    lab.fault("task-fails", kind="download")
    before = len(ranges(lab))

    run = homelab("--via", "ssh", **ONE_VM)

    assert run.exit_code == 0, run.text
    assert ranges(lab)[before:] == [206, 206]


# --- an image that moves -----------------------------------------------------------------------------------------


def test_a_newer_image_is_told_by_runs_that_look_and_touches_no_vm(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, **ONE_VM)
    assert "homelab: image fd572cc57749 of 2025-" in vm_on(lab, "pve3")[1]["config"]["description"]
    lab.fault("image-renewed", days=30)
    before, asked = uuids(lab), len(source_requests(lab))

    nothing_to_do = homelab("--via", via, **ONE_VM)
    assert "newer" not in nothing_to_do.text
    assert len(source_requests(lab)) == asked

    looked = homelab("--via", via, "--dry-run", **ONE_VM)
    assert looked.exit_code == 0
    assert "(image 30 days newer at ISO_URL)" in looked.out

    another = homelab("--via", via, **TWO_VMS)
    assert another.exit_code == 0, another.text
    assert "is healthy, skipping. (image 30 days newer at ISO_URL)" in another.out
    assert {vmid: uuid for vmid, uuid in uuids(lab).items() if vmid in before} == before


def images_on(lab: Lab, node: str) -> list[str]:
    files: dict[str, dict[str, str]] = lab.snapshot()["files"]
    return [path for path in files[node] if "/noble-" in path]


def test_the_image_of_before_goes_when_a_newer_one_was_used(lab: Lab, homelab: Homelab, via: str) -> None:
    homelab("--via", via, **ONE_VM)
    (old,) = images_on(lab, "pve3")
    lab.fault("image-renewed", days=1)
    lab.shell("pve3", "qm stop 100 && qm destroy 100")

    run = homelab("--via", via, **ONE_VM)

    assert run.exit_code == 0, run.text
    assert "an image of before, is removed" in run.err
    (new,) = images_on(lab, "pve3")
    assert new != old
    assert "image " not in homelab("--via", via, "--dry-run", **ONE_VM).out


def test_the_image_of_before_stays_while_a_vm_names_it(lab: Lab, homelab: Homelab) -> None:
    homelab("--via", "ssh", **ONE_VM)
    (old,) = images_on(lab, "pve3")
    lab.shell("pve3", f"qm stop 100 && qm set 100 --ide3 local:iso/{Path(old).name},media=cdrom --name other")
    lab.fault("image-renewed", days=1)

    run = homelab("--via", "ssh", **ONE_VM)

    assert run.exit_code == 0, run.text
    assert len(images_on(lab, "pve3")) == 2


def test_without_a_way_to_the_source_a_dry_run_with_nothing_to_make_says_nothing_of_it(
    lab: Lab, homelab: Homelab
) -> None:
    homelab(**ONE_VM)
    lab.fault("sums-broken", how="missing")

    run = homelab("--dry-run", **ONE_VM)

    assert run.exit_code == 0, run.text
    assert "SHA256SUMS" not in run.text
