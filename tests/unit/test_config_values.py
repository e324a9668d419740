"""One text -> one value: what is taken, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from homelab.config import vm_name
from homelab.config.addresses import (
    domain,
    host,
    host_and_port,
    hosts,
    ip_config,
    k3s_url,
    nameservers,
    static_addresses,
)
from homelab.config.values import (
    BadValue,
    api_token,
    boolean,
    bridges,
    disk_size,
    file_path,
    fingerprint,
    image_name,
    image_url,
    one_of,
    port,
    ratio,
    seconds,
    sha256,
    storage,
    web_url,
    whole_number,
)
from homelab.settings import Role

GIB = 1024**3
HEX_64 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (boolean, "1", True),
        (boolean, "Yes", True),
        (boolean, "off", False),
        (ratio, "0.5", 0.5),
        (ratio, "1", 1.0),
        (ratio, ".25", 0.25),
        (ratio, "5e-1", 0.5),
        (seconds, "180", 180.0),
        (seconds, "2.5 s", 2.5),
        (port, "8006", 8006),
        (whole_number(0, 5), "0", 0),
        (one_of(Role), "Server", Role.SERVER),
        (disk_size, "200G", 200 * GIB),
        (disk_size, "1.5T", 1536 * GIB),
        (disk_size, "4096M", 4 * GIB),
        (disk_size, "4194305K", 4 * GIB),
        (disk_size, "32g", 32 * GIB),
        (storage, "local-2TB-zfs", "local-2TB-zfs"),
        (bridges, "vmbr0, vmbr1", ("vmbr0", "vmbr1")),
        (bridges, "vmbr25gbe,", ("vmbr25gbe",)),
        (fingerprint, HEX_64, ":".join(["01", "23", "45", "67", "89", "AB", "CD", "EF"] * 4)),
        (sha256, HEX_64.upper(), HEX_64),
        (web_url, "http://127.30.4.1:8080/k3s/", "http://127.30.4.1:8080/k3s"),
        (image_name, "debian-13-generic-amd64.qcow2", "debian-13-generic-amd64.qcow2"),
        (image_url, "https://example.org/a.img", "https://example.org/a.img"),
        (host, "192.168.4.11", "192.168.4.11"),
        (host, "fd00::11", "fd00::11"),
        (host, "pve.maas", "pve.maas"),
        (domain, ".home.arpa.", "home.arpa"),
        (host_and_port, "pve.maas", ("pve.maas", None)),
        (host_and_port, "192.168.4.11:443", ("192.168.4.11", 443)),
        (host_and_port, "fd00::11", ("fd00::11", None)),
        (host_and_port, "[fd00::11]", ("fd00::11", None)),
        (host_and_port, "[fd00::11]:8443", ("fd00::11", 8443)),
        (hosts, "k3s-vm-still-fawn.maas", ("k3s-vm-still-fawn.maas",)),
        (hosts, "10.0.0.1, 10.0.0.2;fd00::1 10.0.0.1", ("10.0.0.1", "10.0.0.2", "fd00::1")),
        (k3s_url, "192.168.4.200", "https://192.168.4.200:6443"),
        (k3s_url, "https://k3s.maas:443/", "https://k3s.maas:443"),
        (k3s_url, "fd00::1", "https://[fd00::1]:6443"),
        (nameservers, "192.168.4.1, fd00::1", "192.168.4.1 fd00::1"),
        (ip_config, "dhcp", "ip=dhcp"),
        (ip_config, "ip=dhcp", "ip=dhcp"),
        (ip_config, "ip=dhcp,ip6=auto", "ip=dhcp,ip6=auto"),
        (ip_config, "ip=10.0.0.5/24, gw=10.0.0.1", "ip=10.0.0.5/24,gw=10.0.0.1"),
        (ip_config, "ip=10.0.0.5/32,gw=10.9.9.9", "ip=10.0.0.5/32,gw=10.9.9.9"),
        (ip_config, "ip6=fd00::5/64,gw6=fe80::1", "ip6=fd00::5/64,gw6=fe80::1"),
    ],
)
def test_value_that_can_be_used_is_taken(convert: Callable[[str], object], text: str, value: object) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "why"),
    [
        (boolean, "2", "neither yes nor no"),
        (ratio, "0", "greater than 0"),
        (ratio, "1.01", "at most 1"),
        (ratio, "-0.5", "not a plain number"),
        (ratio, "nan", "not a plain number"),
        (ratio, "inf", "not a plain number"),
        (ratio, "9e999", "at most 1"),
        (ratio, "0,5", "not a plain number"),
        (ratio, "half", "not a plain number"),
        (seconds, "0", "greater than 0"),
        (seconds, "100000", "at most 86400"),
        (seconds, "soon", "not a number of seconds"),
        (port, "0", "not between 1 and 65535"),
        (port, "65536", "not between 1 and 65535"),
        (port, "٨٠", "not a whole number"),
        (one_of(Role), "worker", "no such choice"),
        (disk_size, "200", "unit is missing"),
        (disk_size, "+200G", "not a disk size"),
        (disk_size, "200GB", "not a disk size"),
        (disk_size, "3.9G", "less than 4G"),
        (storage, "local:zfs", "not a storage name"),
        (storage, "9zfs", "not a storage name"),
        (bridges, ",", "names no bridge"),
        (bridges, "vmbr0 vmbr1", "not every part"),
        (bridges, ",".join(["vmbr0"] * 33), "at most 32"),
        (api_token, "root@pam!homelab", "form user@realm"),
        (api_token, "root!homelab=s", "form user@realm"),
        (api_token, "root@pam!homelab=a b", "form user@realm"),
        (fingerprint, HEX_64[:-2], "not a SHA-256 fingerprint"),
        (sha256, HEX_64[1:], "not a SHA-256 checksum"),
        (web_url, "get.k3s.io", "not a web address"),
        (web_url, "https://", "not a web address"),
        (web_url, "https://[::1", "not a web address"),
        (web_url, "https://host:99999/", "not a web address"),
        (web_url, "https://host/a b", "not a web address"),
        (web_url, "https://höst/", "not a web address"),
        (web_url, "https://me:pass@host/", "user name or password"),
        (image_name, "ubuntu-24.04.2-desktop-amd64.iso", "installer"),
        (image_name, "ubuntu-24.04-live-server-amd64.img", "installer"),
        (image_name, "iso/noble.img", "a path"),
        (image_name, "..\\noble.img", "a path"),
        (image_name, "noble; reboot.img", "not a file name"),
        (image_name, "noble.tar.gz", "not a file name"),
        (image_url, "https://example.org/ubuntu-desktop.iso", "installer"),
        (host, "192.168.4.300", "neither an address"),
        (host, "a..b", "neither an address"),
        (host, "x" * 64, "neither an address"),
        (host, ".".join(["abcdefgh"] * 30), "neither an address"),
        (domain, "home lan", "not a domain"),
        (host_and_port, "pve:", "not a whole number"),
        (host_and_port, "https://pve", "not a whole number"),
        (host_and_port, "a b:8006", "neither an address"),
        (hosts, "10.0.0.1,https://10.0.0.1:6443", "neither an address"),
        (hosts, " , ", "names no server"),
        (k3s_url, "http://10.0.0.1:6443", "over https only"),
        (k3s_url, "https://10.0.0.1:6443/v1", "not a whole number"),
        (nameservers, ",", "not every part"),
        (nameservers, "192.168.4.1 router", "not every part"),
        (ip_config, "192.168.4.5/24", "made of ip="),
        (ip_config, "ip=dhcp,ip=dhcp", "at most once"),
        (ip_config, "ip=dhcp,gw=10.0.0.1", "needs a fixed address"),
        (ip_config, "gw6=fd00::1", "needs a fixed address"),
        (ip_config, "ip=10.0.0.5", "lacks its /prefix"),
        (ip_config, "ip=10.0.0.5/255.255.255.0", "lacks its /prefix"),
        (ip_config, "ip=fd00::5/64", "other IP version"),
        (ip_config, "ip=10.0.0.555/24", "cannot be read"),
        (ip_config, "ip=10.0.0.5/24,gw=router", "cannot be read"),
        (ip_config, "ip=10.0.0.0/24", "the network itself"),
        (ip_config, "ip=10.0.0.255/24", "the network itself"),
        (ip_config, "ip=10.0.0.5/24,gw=10.0.1.1", "not another host"),
        (ip_config, "ip=10.0.0.5/24,gw=10.0.0.5", "not another host"),
        (ip_config, "ip=10.0.0.5/24,gw=fd00::1", "not another host"),
    ],
)
def test_value_that_cannot_be_used_is_refused_with_the_reason_and_without_the_value(
    convert: Callable[[str], object], text: str, why: str
) -> None:
    with pytest.raises(BadValue) as refused:
        convert(text)
    assert why in refused.value.why
    assert refused.value.wanted
    assert len(text) < 6 or text not in refused.value.why


def test_token_is_split_at_the_first_mark_after_the_realm_and_the_first_equals_sign() -> None:
    token = api_token("we!rd@pve!homelab=a=b!c=")
    assert (token.user, token.token_id, token.secret.reveal()) == ("we!rd@pve", "homelab", "a=b!c=")


def test_smallest_ratio_stays_above_zero() -> None:
    assert 0 < ratio("1e-300") < math.inf


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", Path("/home/me")),
        ("~/.ssh/id_rsa", Path("/home/me/.ssh/id_rsa")),
        ("/etc/key", Path("/etc/key")),
        ("key", Path("key")),
    ],
)
def test_tilde_is_the_home_directory(text: str, path: Path) -> None:
    assert file_path(Path("/home/me"))(text) == path


def test_home_of_another_user_is_refused() -> None:
    with pytest.raises(BadValue, match="only ~/"):
        file_path(Path("/home/me"))("~you/key")


def test_static_addresses_are_those_not_given_by_a_server() -> None:
    addresses = static_addresses(ip_config("ip=10.0.0.5/24,gw=10.0.0.1,ip6=fd00::5/64"))
    assert [str(address) for address in addresses] == ["10.0.0.5", "fd00::5"]
    assert static_addresses("ip=dhcp,ip6=auto") == ()


@pytest.mark.parametrize(
    ("template", "node", "name"),
    [
        ("k3s-vm-{node}", "fun-bedbug", "k3s-vm-fun-bedbug"),
        ("k3s_vm_{node}", "My_Node", "k3s-vm-my-node"),
        ("k3s-vm-{node}", "pve.maas", "k3s-vm-pve"),
        ("k3s-vm-{node}", "192.168.4.11", "k3s-vm-192-168-4-11"),
        ("{node}-k3s", "fd00::11", "fd00--11-k3s"),
        ("gpu", "pve", "gpu"),
    ],
)
def test_vm_name_is_a_dns_label(template: str, node: str, name: str) -> None:
    assert vm_name(template, node) == name


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("k3s-{host}", "only placeholder"),
        ("k3s-{}", "only placeholder"),
        ("k3s-{node.__class__}", "only placeholder"),
        ("k3s-{node!r}", "only placeholder"),
        ("k3s-{node:>99}", "only placeholder"),
        ("k3s-{node", "braces"),
        ("k3s.vm.{node}", "no DNS label"),
        ("-{node}", "no DNS label"),
        ("k" * 61 + "{node}", "no DNS label"),
        ("k3s vm {node}", "no DNS label"),
    ],
)
def test_vm_name_that_cannot_be_made_is_refused(template: str, why: str) -> None:
    with pytest.raises(BadValue, match=why):
        vm_name(template, "pve")
