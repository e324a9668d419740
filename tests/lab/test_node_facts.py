"""Services, name servers and certificates of a node, high availability, and a VM's firewall."""

from __future__ import annotations

import pytest

from lab.lab_clients import api
from pvelab.lab import Lab
from replay.stage import Stage

FIREWALL = "/nodes/pve1/qemu/100/firewall"
HA = "/cluster/ha"


@pytest.fixture
def stage(stage: Stage) -> Stage:
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "100", "memory": "64"})
    return stage


def test_name_servers_are_those_of_the_resolver(stage: Stage) -> None:
    assert stage.data("/nodes/pve1/dns") == {}
    text = b"search example.org\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    stage.look(lambda world: world.nodes["pve1"].files.provide("/etc/resolv.conf", text))
    assert stage.data("/nodes/pve1/dns") == {"dns1": "192.0.2.1", "dns2": "192.0.2.2", "search": "example.org"}


def test_services_of_a_node_that_is_alone(stage: Stage) -> None:
    states = {one["service"]: (one["state"], one["unit-state"]) for one in stage.data("/nodes/pve1/services")}
    assert states["pveproxy"] == ("running", "enabled")
    assert (states["corosync"], states["syslog"]) == (("dead", "enabled"), ("dead", "not-found"))
    shown = stage.data("/nodes/pve1/services/pvedaemon/state")
    assert (shown["desc"], shown["active-state"]) == ("PVE API Daemon", "active")
    assert stage.data("/nodes/pve1/services/pvedaemon")[0] == {"subdir": "state"}


def test_certificates_are_the_clusters_and_the_nodes_own(lab: Lab) -> None:
    names = [one["name"] for one in api(lab).nodes("pve1").certificates.get()]
    root, own = api(lab).nodes("pve1").certificates("info").get()
    assert (names, root["filename"], own["filename"]) == (["acme", "custom", "info"], "pve-root-ca.pem", "pve-ssl.pem")
    assert own["issuer"] == root["subject"]
    assert own["subject"].startswith("/OU=PVE Cluster Node/O=Proxmox Virtual Environment/CN=pve1.")
    assert ("pve1" in own["san"], root["san"], own["public-key-type"]) == (True, [], "id-ecPublicKey")
    (node,) = [one for one in api(lab).nodes.get() if one["node"] == "pve1"]
    assert own["fingerprint"] == node["ssl_fingerprint"]


def test_high_availability_that_nothing_uses_stands_by(stage: Stage) -> None:
    assert [one["id"] for one in stage.data(HA)] == ["status", "resources", "groups", "rules"]
    assert stage.data(f"{HA}/status")[0] == {"name": "current"}
    assert stage.data(f"{HA}/rules") == []
    quorum, fencing = stage.data(f"{HA}/status/current")
    assert (quorum["status"], quorum["quorate"]) == ("OK", 1)
    assert (fencing["status"], fencing["armed-state"]) == ("standby (CRM watchdog standby)", "standby")
    groups = stage.ask("GET", f"{HA}/groups")
    assert groups.reason == "cannot index groups: ha groups have been migrated to rules"
    assert stage.ask("GET", f"{HA}/resources/100").reason == "no such resource 'vm:100'"


def test_vm_under_high_availability_is_shown_with_its_managers(stage: Stage) -> None:
    for sid in ("100", "vm:999"):
        assert stage.ask("POST", f"{HA}/resources", params={"sid": sid}).status == 200
    assert stage.data(f"{HA}/resources/vm:100") == {"sid": "vm:100", "type": "vm", "state": "started"}
    shown = {one["id"]: one["status"] for one in stage.data(f"{HA}/status/current")}
    assert shown["master"].startswith("pve1 (active, ")
    assert shown["lrm:pve1"].startswith("pve1 (active, watchdog active, ")
    assert shown["fencing"] == "armed (CRM watchdog active)"
    assert (shown["service:vm:100"], shown["service:vm:999"]) == (
        "vm:100 (pve1, started)",
        "vm:999 (---, not found)",
    )


def test_firewall_options_are_kept_and_taken_away(stage: Stage) -> None:
    path = f"{FIREWALL}/options"
    assert stage.data(path) == {"digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}
    assert stage.ask("PUT", path, params={"enable": "1", "policy_in": "DROP"}).status == 200
    shown = stage.data(path)
    assert (shown["enable"], shown["policy_in"]) == (1, "DROP")
    stale = stage.ask("PUT", path, params={"enable": "0", "digest": "0" * 40})
    assert stale.reason == "detected modified configuration - file changed by other user? Try again."
    unknown = stage.ask("PUT", path, params={"delete": "sing"})
    assert unknown.json["errors"] == {"delete": "no such option 'sing'"}
    assert stage.ask("PUT", path, params={"delete": "enable,policy_in"}).status == 200
    assert list(stage.data(path)) == ["digest"]


def test_firewall_rules_are_changed_moved_and_removed(stage: Stage) -> None:
    rules = f"{FIREWALL}/rules"
    for action in ("ACCEPT", "DROP"):
        assert stage.ask("POST", rules, params={"type": "in", "action": action}).status == 200
    assert stage.ask("PUT", f"{rules}/0", params={"moveto": "1"}).status == 200
    assert stage.ask("PUT", f"{rules}/0", params={"comment": "said"}).status == 200
    assert stage.ask("PUT", f"{rules}/0", params={"delete": "comment"}).status == 200
    shown = stage.data(f"{rules}/0")
    assert (shown["action"], shown["pos"], "comment" in shown) == ("ACCEPT", 0, False)
    stale = stage.ask("DELETE", f"{rules}/0", params={"digest": "0" * 40})
    assert stale.reason == "detected modified configuration - file changed by other user? Try again."
    assert stage.ask("DELETE", f"{rules}/0", params={"digest": shown["digest"]}).status == 200
    assert [one["action"] for one in stage.data(rules)] == ["DROP"]
    assert stage.ask("DELETE", f"{rules}/1").reason == "no rule at position 1"
    assert stage.data(FIREWALL)[0] == {"name": "rules"}


def test_firewall_aliases_are_known_by_name_whatever_its_case(stage: Stage) -> None:
    aliases = f"{FIREWALL}/aliases"
    assert stage.data(aliases) == []
    assert stage.ask("POST", aliases, params={"name": "Desk", "cidr": "192.0.2.1"}).status == 200
    again = stage.ask("POST", aliases, params={"name": "desk", "cidr": "192.0.2.2"})
    assert again.json["errors"] == {"name": "alias 'desk' already exists"}
    assert stage.data(f"{aliases}/desk") == {"name": "Desk", "cidr": "192.0.2.1"}
    assert stage.ask("GET", f"{aliases}/shelf").json["errors"] == {"name": "no such alias"}
    assert stage.ask("POST", aliases, params={"name": "shelf", "cidr": "192.0.2.3", "comment": "x"}).status == 200
    taken = stage.ask("PUT", f"{aliases}/desk", params={"cidr": "192.0.2.1", "rename": "shelf"})
    assert taken.json["errors"] == {"name": "alias 'shelf' already exists"}
    assert stage.ask("PUT", f"{aliases}/desk", params={"cidr": "192.0.2.4", "rename": "board"}).status == 200
    stale = stage.ask("DELETE", f"{aliases}/shelf", params={"digest": "0" * 40})
    assert stale.reason == "detected modified configuration - file changed by other user? Try again."
    assert stage.ask("DELETE", f"{aliases}/shelf").status == 200
    assert [(one["name"], one["cidr"]) for one in stage.data(aliases)] == [("board", "192.0.2.4")]


def test_firewall_sets_hold_addresses_and_are_removed_when_empty(stage: Stage) -> None:
    sets = f"{FIREWALL}/ipset"
    assert stage.data(sets) == []
    assert stage.ask("POST", sets, params={"name": "trusted", "comment": "mine"}).status == 200
    again = stage.ask("POST", sets, params={"name": "trusted"})
    assert again.json["errors"] == {"name": "IPSet 'trusted' already exists"}
    unknown = stage.ask("POST", sets, params={"name": "x1", "rename": "y1"})
    assert unknown.json["errors"] == {"name": "IPSet 'y1' does not exists"}
    assert stage.ask("POST", sets, params={"name": "others"}).status == 200
    taken = stage.ask("POST", sets, params={"name": "others", "rename": "trusted"})
    assert taken.json["errors"] == {"name": "IPSet 'others' does already exist"}
    assert stage.ask("POST", sets, params={"name": "friends", "rename": "trusted"}).status == 200
    assert [(one["name"], one.get("comment")) for one in stage.data(sets)] == [("friends", "mine"), ("others", None)]
    assert stage.ask("POST", f"{sets}/friends", params={"cidr": "192.0.2.0/24"}).status == 200
    twice = stage.ask("POST", f"{sets}/friends", params={"cidr": "192.0.2.0/24"})
    assert twice.json["errors"] == {"cidr": "address '192.0.2.0/24' already exists"}
    assert [one["cidr"] for one in stage.data(f"{sets}/friends")] == ["192.0.2.0/24"]
    assert stage.ask("DELETE", f"{sets}/friends").reason == "IPSet 'friends' is not empty"
    assert stage.ask("DELETE", f"{sets}/friends", params={"force": "1"}).status == 200
    assert stage.ask("GET", f"{sets}/friends").reason == "no such IPSet 'friends'"
