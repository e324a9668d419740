"""The lab's OpenPGP keys and signatures, read by gpgv, which is nobody's here; the others read them by a library."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from pvelab.openpgp import SigningKey

MADE_AT, SIGNED_AT = 1_253_059_109, 1_756_000_000
KEY = SigningKey("Images <images@lab>", MADE_AT)


def gpgv(folder: Path, key: SigningKey, content: bytes, signature: str) -> str:
    """What gpgv says of a signature over content."""
    lines = key.armored.splitlines()[2:-2]
    (folder / "key.gpg").write_bytes(base64.b64decode("".join(lines)))
    (folder / "content").write_bytes(content)
    (folder / "signature").write_text(signature)
    words = ["gpgv", "--status-fd", "1", "--keyring", str(folder / "key.gpg"), "signature", "content"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=20, check=False).stdout


@pytest.mark.skipif(shutil.which("gpgv") is None, reason="gpgv is not installed here")
def test_gpgv_finds_a_signature_good_for_its_content_and_key_only(tmp_path: Path) -> None:
    signature = KEY.sign(b"sums\n", SIGNED_AT)
    good = gpgv(tmp_path, KEY, b"sums\n", signature)
    assert f"VALIDSIG {KEY.fingerprint} 2025-08-24 {SIGNED_AT} 0 4 0 1 10 00 {KEY.fingerprint}" in good
    assert "BADSIG" in gpgv(tmp_path, KEY, b"other\n", signature)
    assert "NO_PUBKEY" in gpgv(tmp_path, SigningKey("x", MADE_AT), b"sums\n", signature)


@pytest.mark.skipif(shutil.which("gpgv") is None, reason="gpgv is not installed here")
def test_gpgv_sees_a_key_that_has_ended(tmp_path: Path) -> None:
    expired = SigningKey("x", MADE_AT, lasts_s=86_400)
    revoked = SigningKey("x", MADE_AT, revoked_at=MADE_AT + 86_400)
    assert f"KEYEXPIRED {MADE_AT + 86_400}" in gpgv(tmp_path, expired, b"sums\n", expired.sign(b"sums\n", SIGNED_AT))
    assert "REVKEYSIG" in gpgv(tmp_path, revoked, b"sums\n", revoked.sign(b"sums\n", SIGNED_AT))
