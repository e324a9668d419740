"""k3s puts its settings together from flags, environment and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pvelab.guest.k3s_settings import Settings, SettingsProblem, read_settings
from pvelab.shell.files import FileSystem

FOLDER = "/etc/rancher/k3s"


@pytest.fixture
def files(tmp_path: Path) -> FileSystem:
    return FileSystem(tmp_path, lambda: 0.0)


def read(files: FileSystem, *argv: str, env: Mapping[str, str] | None = None) -> Settings:
    return read_settings(files, "K3S-VM-pve1", argv, env or {})


def test_flags_win_over_files_and_these_over_the_environment(files: FileSystem) -> None:
    files.provide(f"{FOLDER}/config.yaml", b"token: from-file\nnode-name: file\n")
    found = read(files, "--node-name=flag", env={"K3S_TOKEN": "from-environment", "K3S_URL": "https://env:6443"})
    assert (found.server, found.token, found.node_name) == ("https://env:6443", "from-file", "flag")


def test_token_file_wins_over_a_token_wherever_it_is_named(files: FileSystem) -> None:
    files.provide(f"{FOLDER}/config.yaml", b"token: from-file\n")
    files.provide("/root/token", b"from-token-file\n")
    assert read(files, env={"K3S_TOKEN_FILE": "/root/token"}).token == "from-token-file"


def test_drop_ins_replace_in_order_and_a_plus_appends(files: FileSystem) -> None:
    files.provide(f"{FOLDER}/config.yaml", b"node-label: [a=1]\ntls-san: [one]\n")
    files.provide(f"{FOLDER}/config.yaml.d/10-first.yaml", b"node-label+: [b=2]\n")
    files.provide(f"{FOLDER}/config.yaml.d/20-second.yaml", b"tls-san: two\n")
    files.provide(f"{FOLDER}/config.yaml.d/README", b"not: read\n")
    found = read(files)
    assert found.labels == {"a": "1", "b": "2"}
    assert found.tls_sans == ("two",)


def test_node_name_is_the_lower_case_hostname_by_default(files: FileSystem) -> None:
    assert read(files).node_name == "k3s-vm-pve1"


def test_unknown_key_in_a_file_is_skipped_and_an_unknown_flag_is_not(files: FileSystem) -> None:
    files.provide(f"{FOLDER}/config.yaml", b"nonsense: true\n")
    assert read(files).server == ""
    with pytest.raises(SettingsProblem, match="flag provided but not defined: -nonsense"):
        read(files, "--nonsense")
    with pytest.raises(SettingsProblem, match="flag needs an argument: -server"):
        read(files, "--server")


def test_only_critical_settings_are_compared_between_servers(files: FileSystem) -> None:
    files.provide(f"{FOLDER}/config.yaml", b"flannel-backend: none\ndisable-kube-proxy: false\ntls-san: [x]\n")
    assert read(files).critical == {"flannel-backend": "none"}


@pytest.mark.parametrize("label", ["topology.kubernetes.io/zone=pve1", "node.kubernetes.io/pool=a", "homelab/role=x"])
def test_labels_that_a_kubelet_may_set_pass(files: FileSystem, label: str) -> None:
    assert read(files, "--node-label", label).labels


def test_file_that_is_not_a_mapping_is_refused(files: FileSystem) -> None:
    files.provide(f"{FOLDER}/config.yaml", b"- server\n")
    with pytest.raises(SettingsProblem, match="yaml: unmarshal errors"):
        read(files)
