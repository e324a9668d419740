"""The files of a lab machine behave as Linux files do."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from pvelab.shell.files import FileSystem, Mounted


@pytest.fixture
def files(tmp_path: Path) -> FileSystem:
    made = FileSystem(tmp_path, lambda: 1000.0)
    for folder in ("/etc", "/root", "/var/lib", "/home/ubuntu"):
        made.make_folder(folder, parents=True)
    made.change("/root", mode=0o700)
    made.change("/home/ubuntu", owner="ubuntu")
    return made


def test_written_file_is_read_back_with_its_mode(files: FileSystem) -> None:
    files.write("/etc/a", b"one", mode=0o600)
    assert files.read("/etc/a") == b"one"
    assert files.entry("/etc/a").mode == 0o600
    assert files.names("/etc") == ["a"]


def test_rewriting_keeps_mode_and_owner(files: FileSystem) -> None:
    files.provide("/etc/a", b"one", mode=0o640, owner="ubuntu")
    files.write("/etc/a", b"two", mode=0o600)
    assert (files.entry("/etc/a").mode, files.entry("/etc/a").owner) == (0o640, "ubuntu")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/no", errno.ENOENT),
        ("/etc/no/deeper", errno.ENOENT),
        ("/etc", errno.EISDIR),
        ("/etc/a/b", errno.ENOTDIR),
        ("/loop", errno.ELOOP),
    ],
)
def test_reading_what_is_not_a_file_fails_as_linux_does(files: FileSystem, path: str, number: int) -> None:
    files.write("/etc/a", b"")
    files.make_link("/loop", "/loop")
    with pytest.raises(OSError) as failed:
        files.read(path)
    assert failed.value.errno == number


def test_other_user_is_kept_out(files: FileSystem) -> None:
    files.provide("/root/secret", b"x", mode=0o644)
    files.provide("/etc/token", b"x", mode=0o600)
    for path in ("/root/secret", "/etc/token"):
        with pytest.raises(PermissionError):
            files.read(path, "ubuntu")
    with pytest.raises(PermissionError):
        files.write("/etc/new", b"x", "ubuntu")
    files.write("/home/ubuntu/new", b"x", "ubuntu")
    assert files.entry("/home/ubuntu/new").owner == "ubuntu"


def test_sticky_folder_protects_the_files_of_others(files: FileSystem) -> None:
    files.make_folder("/tmp", mode=0o1777)
    files.write("/tmp/a", b"")
    with pytest.raises(PermissionError):
        files.remove("/tmp/a", "ubuntu")
    files.write("/tmp/b", b"", "ubuntu")
    files.remove("/tmp/b", "ubuntu")


def test_links_are_followed_and_parents_resolved(files: FileSystem) -> None:
    files.provide("/var/lib/real/a", b"one")
    files.make_link("/etc/link", "../var/lib/real")
    assert files.read("/etc/link/a") == b"one"
    assert files.read("/var/../var/lib/./real/a") == b"one"
    assert files.names("/etc/link/..") == ["real"]


def test_rename_replaces_and_refuses_a_folder_into_itself(files: FileSystem) -> None:
    files.write("/etc/a", b"one")
    files.write("/etc/b", b"two")
    files.rename("/etc/a", "/etc/b")
    assert files.names("/etc") == ["b"] and files.read("/etc/b") == b"one"
    with pytest.raises(OSError, match="Invalid argument"):
        files.rename("/var", "/var/lib/var")


def test_folder_with_content_is_removed_only_as_a_tree(files: FileSystem) -> None:
    files.provide("/var/lib/x/y", b"")
    with pytest.raises(OSError, match="Directory not empty"):
        files.remove_folder("/var/lib/x")
    files.remove_folder("/var/lib/x", tree=True)
    assert not files.exists("/var/lib/x")


def test_big_content_lies_on_disk_until_the_last_copy_is_gone(files: FileSystem, tmp_path: Path) -> None:
    writer = files.open_writer("/etc/big")
    for _ in range(5):
        writer.write(b"x" * 500_000)
    assert files.content("/etc/big").size_bytes == 0
    writer.close()
    del writer
    assert files.content("/etc/big").size_bytes == 2_500_000
    assert files.content("/etc/big").digest() == hashlib.sha256(b"x" * 2_500_000).hexdigest()
    files.write("/etc/copy", files.content("/etc/big"))
    files.remove("/etc/big")
    assert len(list(tmp_path.iterdir())) == 1
    files.remove("/etc/copy")
    assert list(tmp_path.iterdir()) == []


def test_appending_keeps_what_is_there(files: FileSystem) -> None:
    files.write("/etc/a", b"one")
    writer = files.open_writer("/etc/a", append=True)
    writer.write(b" two")
    writer.close()
    assert files.read("/etc/a") == b"one two"


def test_full_file_system_refuses_and_keeps_what_fitted(files: FileSystem) -> None:
    files.mounted.append(Mounted("/dev/small", "ext4", "/var/lib", total_bytes=100))
    writer = files.open_writer("/var/lib/a")
    writer.write(b"x" * 60)
    with pytest.raises(OSError, match="No space left on device"):
        writer.write(b"x" * 60)
    assert files.content("/var/lib/a").size_bytes == 60
    assert files.usage("/var/lib/a").available_bytes == 40
    assert files.usage("/etc").used_bytes == 0


def test_sparse_file_has_size_but_takes_no_space(files: FileSystem) -> None:
    files.allocate("/var/lib/disk.raw", 20 << 30)
    assert files.content("/var/lib/disk.raw").size_bytes == 20 << 30
    assert files.usage("/var").used_bytes == 0


def test_computed_folder_is_fresh_at_every_look_and_read_only(files: FileSystem) -> None:
    count = iter(range(10))
    files.mount("/proc", lambda: {"uptime": lambda: b"%d" % next(count), "sys/kernel/host": b"x", "empty/": b""})
    assert (files.read("/proc/uptime"), files.read("/proc/uptime")) == (b"0", b"1")
    assert files.names("/proc") == ["empty", "sys", "uptime"]
    assert files.names("/proc/empty") == []
    assert files.read("/proc/sys/kernel/../kernel/host") == b"x"
    with pytest.raises(OSError, match="Read-only file system"):
        files.write("/proc/new", b"")
    with pytest.raises(OSError, match="Read-only file system"):
        files.remove("/proc/uptime")
