"""Signatures as their publishers make them: Ubuntu's own, and those of keys that gpg made, with subkeys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homelab.image_manager import signature
from homelab.image_manager.signature import BadSignature, check, ubuntu_key
from homelab.settings import SigningKey

HERE = Path(__file__).parent
UBUNTU = HERE / "ubuntu-cloud-image"
SUMS, SUMS_SIGNATURE = (UBUNTU / "SHA256SUMS").read_bytes(), (UBUNTU / "SHA256SUMS.gpg").read_bytes()
SIGNED_AT = 1_790_446_992
"""2026-09-26 18:23:12 UTC"""
OPENPGP = HERE / "openpgp"
CONTENT = (OPENPGP / "content").read_bytes()
IN_2020, MADE_AT, DAY_S = 1_578_182_400.0, 1_577_923_200, 86_400
FINGERPRINTS = {
    "good": "9C539E33E94BCB049D935233600E92778C303F8F",
    "expired": "FA03EDC596CA4ADC85D4BFFC0F9E1AC293374F62",
    "revoked": "7369D20771CCD0EF9210419EE323F2EB230F34F9",
}
EXPIRED_SUBKEY = "1853360F689150FAC0B32471998F128E8117F509"
REVOKED_SUBKEY = "A9A9CD84B076D143FEED97CCD17A32B4D628055E"


def key(name: str, file: str = "") -> SigningKey:
    return SigningKey((OPENPGP / f"{file or name}.asc").read_text(), FINGERPRINTS[name])


def signed(name: str) -> bytes:
    return (OPENPGP / f"{name}.sig").read_bytes()


def refusal(content: bytes, made: bytes, by: SigningKey, now: float = IN_2020) -> str:
    with pytest.raises(BadSignature) as refused:
        check(content, made, by, now)
    assert refused.value.cure
    return str(refused.value)


def test_ubuntu_s_list_is_believed_by_the_key_that_comes_with_homelab_though_it_certifies_itself_by_sha1() -> None:
    assert check(SUMS, SUMS_SIGNATURE, ubuntu_key(), SIGNED_AT + DAY_S) == SIGNED_AT
    assert ubuntu_key().fingerprint == "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81"


@pytest.mark.parametrize(
    ("content", "made", "said"),
    [
        (SUMS.replace(b"6a81c375", b"6a81c376"), SUMS_SIGNATURE, "was altered after it was signed"),
        (SUMS + b"\n", SUMS_SIGNATURE, "was altered after it was signed"),
        (SUMS, signed("good"), "it is by the key CFBB579EB12696057129227C5C9A5C5FEFDE65E7, not by D2EB4462"),
        (SUMS, b"", "that file holds no OpenPGP signature"),
        (SUMS, b"<p>404", "that file holds no OpenPGP signature"),
        (SUMS, SUMS_SIGNATURE[:300], "that file holds no OpenPGP signature"),
        (SUMS, b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n", "holds no OpenPGP signature"),
    ],
    ids=["other-sum", "longer", "other-key", "empty", "page", "half", "no-signature"],
)
def test_what_ubuntu_did_not_sign_is_not_believed(content: bytes, made: bytes, said: str) -> None:
    assert said in refusal(content, made, ubuntu_key(), SIGNED_AT)


@pytest.mark.parametrize("made", ["good", "good-binary"])
@pytest.mark.parametrize("file", ["good", "two"])
def test_a_signature_by_a_subkey_is_the_key_s_own_armored_or_not(file: str, made: str) -> None:
    assert check(CONTENT, signed(made), key("good", file), IN_2020) == MADE_AT


@pytest.mark.parametrize(
    ("by", "made", "said"),
    [
        (key("expired"), "expired", f"the key {EXPIRED_SUBKEY} of the image's checksums: it expired on 2020-01-08"),
        (key("revoked"), "revoked", f"the key {REVOKED_SUBKEY} of the image's checksums: it was revoked"),
        (key("good", "grafted"), "expired", "IMAGE_SIGNING_KEY cannot be believed: "),
        (key("good", "revoked"), "good", "IMAGE_SIGNING_KEY holds another key: 7369D207"),
        (key("good"), "text", "was altered after it was signed"),
        (SigningKey("-----BEGIN PGP PUBLIC KEY BLOCK-----", "AB" * 20), "good", "holds no OpenPGP public key"),
    ],
    ids=["expired", "revoked", "grafted", "another", "of-text", "no-key"],
)
def test_a_key_that_does_not_stand_for_its_signature_is_refused(by: SigningKey, made: str, said: str) -> None:
    assert said in refusal(CONTENT, signed(made), by, IN_2020 + 10 * DAY_S)


def test_a_subkey_is_good_until_it_expires() -> None:
    assert check(CONTENT, signed("expired"), key("expired"), IN_2020) == MADE_AT


def test_the_key_does_not_show_in_messages() -> None:
    assert "BEGIN PGP" not in repr(replace(ubuntu_key(), fingerprint="AB"))
    assert signature.STRONG_HASHES.isdisjoint({"md5", "sha1", "ripemd160"})
