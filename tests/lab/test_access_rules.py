"""What a token may not, it does not see, or is refused in Proxmox's words: privileges, paths, releases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from lab.lab_clients import api, ended, token_of
from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab
from pvelab.rules import permissions, roles
from pvelab.spec import LabSpec
from pvelab.state import Token, User
from support.clock import SteppingClock

OWNER, NAME = "svc@pve", "tool"


@pytest.fixture(scope="module", params=["9.2", "8.4"])
def of_release(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(LabSpec(pve_version=request.param), clock=SteppingClock()) as lab:
        yield lab


def grant(lab: Lab, path: str, role: str) -> None:
    """Give a role to the user and to its token."""
    lab.look(lambda world: permissions.grant(world, path, (OWNER, f"{OWNER}!{NAME}"), role))


def service(lab: Lab) -> ProxmoxAPI:
    """A user with a privilege-separated token, neither with any role yet."""
    lab.look(lambda world: world.users.setdefault(OWNER, User(OWNER)))
    token = Token(OWNER, NAME, "44444444-4444-4444-8444-444444444444")
    lab.look(lambda world: world.tokens.setdefault(token.tokenid, token))
    return token_of(lab, OWNER, NAME)


def refusal(call: object, *words: object, **params: object) -> str:
    """How a call is refused."""
    with pytest.raises(ResourceException) as refused:
        call(*words, **params)  # type: ignore[operator]
    return f"{refused.value.status_code} {refused.value.content}"


def test_lists_come_back_empty_without_vm_audit(lab: Lab) -> None:
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100, name="one"))
    lab.fault("token-lacks", privileges="VM.Audit")
    assert api(lab).nodes("pve1").qemu.get() == []
    assert api(lab).cluster.resources.get(type="vm") == []
    said = refusal(api(lab).nodes("pve1").qemu(100).config.get)
    assert said == "403 Permission check failed (/vms/100, VM.Audit)"
    lab.clear_faults()
    assert [vm["vmid"] for vm in api(lab).nodes("pve1").qemu.get()] == [100]


def test_nodes_lose_their_numbers_without_sys_audit(lab: Lab) -> None:
    assert all({"maxmem", "uptime", "cpu"} <= set(node) for node in api(lab).nodes.get())
    lab.fault("token-lacks", privileges="Sys.Audit")
    for node in api(lab).nodes.get():
        assert set(node) == {"id", "level", "node", "ssl_fingerprint", "status", "type"}
    assert refusal(api(lab).nodes("pve1").status.get) == "403 Permission check failed (/nodes/pve1, Sys.Audit)"


def test_bridges_vanish_without_sdn_privileges_and_cannot_be_used(lab: Lab) -> None:
    listed = api(lab).nodes("pve1").network
    assert [one["iface"] for one in listed.get(type="any_bridge")] == ["vmbr0", "vmbr1"]
    lab.fault("token-lacks", privileges="SDN.Use+SDN.Audit", path="/sdn/zones/localnetwork/vmbr1")
    assert [one["iface"] for one in api(lab).nodes("pve1").network.get(type="any_bridge")] == ["vmbr0"]
    said = refusal(api(lab).nodes("pve1").qemu.post, vmid=100, net0="virtio,bridge=vmbr1")
    assert said == "403 Permission check failed (/sdn/zones/localnetwork/vmbr1, SDN.Use)"
    assert ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100, net0="virtio,bridge=vmbr0")) == "OK"


def test_a_storage_that_may_only_be_used_is_not_among_the_resources(lab: Lab) -> None:
    lab.fault("token-lacks", privileges="Datastore.Audit", path="/storage/local-lvm")
    assert "local-lvm" in {one["storage"] for one in api(lab).nodes("pve1").storage.get()}
    assert "local-lvm" not in {one["storage"] for one in api(lab).cluster.resources.get(type="storage")}


@pytest.mark.parametrize(
    ("privilege", "said"),
    [
        ("VM.Allocate", "403 Permission check failed"),
        ("Datastore.AllocateSpace", "403 Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)"),
        ("SDN.Use", "403 Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)"),
    ],
)
def test_a_privilege_missing_for_a_create_is_named(lab: Lab, privilege: str, said: str) -> None:
    lab.fault("token-lacks", privileges=privilege)
    wanted = {"scsi0": "local-lvm:1", "net0": "virtio,bridge=vmbr0", "ciuser": "ubuntu"}
    assert refusal(api(lab).nodes("pve1").qemu.post, vmid=100, **wanted) == said
    assert lab.snapshot()["vms"] == {}


CHANGES = {
    "VM.Config.CPU": {"cores": "2"},
    "VM.Config.Memory": {"balloon": "64"},
    "VM.Config.HWType": {"serial1": "socket"},
    "VM.Config.Options": {"tags": "one"},
    "VM.PowerMgmt": {"freeze": "1"},
    "VM.Config.Network": {"net1": "virtio"},
    "VM.Config.Disk": {"scsi0": "local-lvm:1"},
    "VM.Config.CDROM": {"ide3": "none,media=cdrom"},
    "VM.Config.Cloudinit+VM.Config.Network": {"ciuser": "ubuntu"},
}


@pytest.mark.parametrize("privilege", CHANGES)
def test_a_privilege_missing_for_a_change_is_named(of_release: Lab, privilege: str) -> None:
    of_release.reset()
    ended(of_release, api(of_release).nodes("pve1").qemu.post(vmid=100))
    change = api(of_release).nodes("pve1").qemu(100).config.put
    of_release.fault("token-lacks", privileges=privilege)
    named = privilege.replace("+", "|")
    assert refusal(change, **CHANGES[privilege]) == f"403 Permission check failed (/vms/100, {named})"
    of_release.clear_faults()
    change(**CHANGES[privilege])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"delete": "serial0"}, ""),
        ({"delete": "serial1"}, "500 only root can delete 'serial1' config for real devices"),
        ({"serial0": "/dev/ttyS1"}, "500 only root can modify 'serial0' config for real devices"),
        ({"vmgenid": "1"}, "500 only root can set 'vmgenid' config"),
        ({"usb0": "spice"}, ""),
        ({"usb0": "host=1234:5678"}, "500 only root can set 'usb0' config for real devices"),
        ({"hostpci0": "host=00:02.0"}, "500 only root can set 'hostpci0' config for non-mapped devices"),
        ({"hostpci0": "mapping=gpu"}, ""),
        ({"usb0": "mapping=stick"}, ""),
        ({"startup": "order=1"}, ""),
        ({"balloon": "600"}, "500 balloon value too large (must be smaller than assigned memory)"),
        ({"memory": "1024", "balloon": "600"}, ""),
    ],
)
def test_what_a_roots_token_may_set(lab: Lab, values: dict[str, str], said: str) -> None:
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100, memory="512", serial0="socket"))
    lab.look(lambda world: world.vms[100].config.update(serial1="/dev/ttyS0"))
    change = api(lab).nodes("pve1").qemu(100).config.put
    if said:
        assert refusal(change, **values) == said
    else:
        change(**values)


def test_the_order_of_starting_is_the_hosts_matter(lab: Lab) -> None:
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100))
    lab.fault("token-lacks", privileges="Sys.Modify")
    said = refusal(api(lab).nodes("pve1").qemu(100).config.put, startup="order=1")
    assert said == "403 Permission check failed (/, Sys.Modify)"


def test_a_disk_grows_only_for_whoever_may_take_space_there(lab: Lab) -> None:
    vm = api(lab).nodes("pve1").qemu
    ended(lab, vm.post(vmid=100, scsi0="local-lvm:1"))
    lab.fault("token-lacks", privileges="Datastore.AllocateSpace", path="/storage/local-lvm")
    said = ended(lab, vm(100).resize.put(disk="scsi0", size="2G"))
    assert said == "403 Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)"


@pytest.mark.parametrize(
    ("privilege", "path", "said"),
    [
        ("Datastore.AllocateSpace", "/storage/local-lvm", "(/storage/local-lvm, Datastore.AllocateSpace)"),
        ("SDN.Use", "/sdn/zones/localnetwork/vmbr0", "(/sdn/zones/localnetwork/vmbr0, SDN.Use)"),
    ],
)
def test_a_clone_needs_what_making_its_disks_and_cards_does(lab: Lab, privilege: str, path: str, said: str) -> None:
    vm = api(lab).nodes("pve1").qemu
    ended(lab, vm.post(vmid=100, scsi0="local-lvm:1", net0="virtio,bridge=vmbr0", ide2="none,media=cdrom"))
    lab.fault("token-lacks", privileges=privilege, path=path)
    assert refusal(vm(100).clone.post, newid=101) == f"403 Permission check failed {said}"
    lab.clear_faults()
    assert ended(lab, vm(100).clone.post(newid=101)) == "OK"


def test_what_goes_into_a_pool_is_given_by_whoever_may_say_who_uses_it(lab: Lab) -> None:
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100))
    pve = service(lab)
    grant(lab, "/pool", "PVEPoolAdmin")
    pve.pools.post(poolid="own")
    assert refusal(pve.pools("own").put, vms="100") == (
        "403 Permission check failed (/vms/100, Permissions.Modify|VM.Allocate)"
    )
    assert refusal(pve.pools("own").put, storage="local") == (
        "403 Permission check failed (/storage/local, Permissions.Modify|Datastore.Allocate)"
    )
    grant(lab, "/vms", "PVEVMAdmin")
    pve.pools("own").put(vms="100")
    api(lab).pools.post(poolid="other")
    grant(lab, "/pool/other", "PVEPoolAdmin")
    grant(lab, "/pool/own", "PVEPoolUser")
    assert refusal(pve.pools("other").put, **{"vms": "100", "allow-move": "1"}) == (
        "403 Permission check failed (/pool/own, Pool.Allocate)"
    )


def test_a_backup_is_removed_by_whoever_may_back_up_its_vm(lab: Lab) -> None:
    pve = service(lab)
    volume = "local:backup/vzdump-qemu-100-2026_11_22-10_00_00.vma.zst"
    lab.look(lambda world: world.nodes["pve1"].files.write(f"/var/lib/vz/dump/{volume.partition('/')[2]}", b"x"))
    grant(lab, "/storage/local", "PVEDatastoreUser")
    backup = pve.nodes("pve1").storage("local").content(volume)
    assert refusal(backup.delete) == "403 Permission check failed (/vms/100, VM.Backup)"
    assert refusal(backup.get) == "403 Permission check failed (/vms/100, VM.Backup)"
    grant(lab, "/vms", "PVEVMUser")
    assert ended(lab, backup.delete()) == "OK"


def test_a_cpu_model_made_by_hand_is_for_whoever_may_use_it(of_release: Lab) -> None:
    of_release.reset()
    is_9 = of_release.spec.pve_version == "9.2"
    create = api(of_release).nodes("pve1").qemu.post
    of_release.fault("token-lacks", privileges="Mapping.Use" if is_9 else "Sys.Audit")
    said = refusal(create, vmid=100, cpu="custom-lab,flags=+aes")
    missing = "/mapping/cpu/lab, Mapping.Use" if is_9 else "/nodes, Sys.Audit"
    assert said == f"403 Permission check failed ({missing})"
    ended(of_release, create(vmid=100, cpu="host"))
    of_release.clear_faults()
    ended(of_release, create(vmid=101, cpu="custom-lab"))
    of_release.fault("token-lacks", privileges="Mapping.Use" if is_9 else "Sys.Audit")
    api(of_release).nodes("pve1").qemu(101).config.put(cpu="custom-lab,flags=+aes")


def test_a_disk_is_made_with_a_vm_by_whoever_may_make_both(lab: Lab) -> None:
    lab.fault("token-lacks", privileges="VM.Config.Disk+VM.Config.CDROM")
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100, scsi0="local-lvm:1", ide2="local-lvm:cloudinit"))
    said = refusal(api(lab).nodes("pve1").qemu(100).config.put, ide2="none,media=cdrom")
    assert said == "403 Permission check failed (/vms/100, VM.Config.CDROM)"


@pytest.mark.parametrize(
    ("params", "privilege", "said"),
    [
        ({"start": "1"}, "VM.PowerMgmt", "403 Permission check failed (/vms/100, VM.PowerMgmt)"),
        ({"ha-managed": "1"}, "Sys.Console", "403 Permission check failed (/, Sys.Console)"),
        ({"storage": "local"}, "Datastore.AllocateSpace",
         "403 Permission check failed (/storage/local, Datastore.AllocateSpace)"),
    ],
)  # fmt: skip
def test_what_is_wanted_beside_a_new_vm_needs_its_privilege(
    lab: Lab, params: dict[str, str], privilege: str, said: str
) -> None:
    lab.fault("token-lacks", privileges=privilege)
    assert refusal(api(lab).nodes("pve1").qemu.post, vmid=100, **params) == said


def test_a_change_that_contradicts_itself(lab: Lab) -> None:
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100))
    change = api(lab).nodes("pve1").qemu(100).config.put
    for values in ({"revert": "nosuch"}, {"revert": "memory", "memory": "64"}, {"revert": "cores", "delete": "cores"}):
        assert refusal(change, **values) == "400 Parameter verification failed."


def test_a_separated_token_has_what_both_it_and_its_user_have(lab: Lab) -> None:
    service(lab)
    lab.look(lambda world: permissions.grant(world, "/", [OWNER], "PVEAdmin"))
    assert token_of(lab, OWNER, NAME).access.permissions.get() == {}
    lab.look(lambda world: permissions.grant(world, "/vms", [f"{OWNER}!{NAME}"], "PVEAuditor"))
    audits = sorted(name for name in roles.privileges("9.2") if name.endswith(".Audit"))
    assert token_of(lab, OWNER, NAME).access.permissions.get() == {"/vms": dict.fromkeys(audits, 1)}


def test_a_role_on_a_path_below_takes_the_place_of_the_one_above(lab: Lab) -> None:
    pve = service(lab)
    grant(lab, "/vms", "PVEVMAdmin")
    grant(lab, "/vms/100", "NoAccess")
    held = pve.access.permissions.get()
    assert "/vms/100" not in held and held["/vms"]["VM.Allocate"] == 1


def test_a_pool_gives_its_privileges_on_its_members(lab: Lab) -> None:
    api(lab).pools.post(poolid="home")
    ended(lab, api(lab).nodes("pve1").qemu.post(vmid=100, pool="home"))
    api(lab).pools("home").put(storage="local-lvm")
    pve = service(lab)
    assert pve.nodes("pve1").qemu.get() == []
    grant(lab, "/pool/home", "PVEAdmin")
    [shown] = pve.cluster.resources.get(type="vm")
    assert (shown["vmid"], shown["pool"]) == (100, "home")
    assert {one["storage"] for one in pve.nodes("pve1").storage.get()} == {"local-lvm"}
    assert [one["id"] for one in pve.cluster.resources.get() if one["type"] == "pool"] == ["/pool/home"]


def test_pools_are_listed_by_pool_audit_alone(lab: Lab) -> None:
    pve = service(lab)
    lab.look(lambda world: world.roles.update(Maker=frozenset({"Pool.Allocate"})))
    grant(lab, "/pool", "Maker")
    pve.pools.post(poolid="mark")
    assert pve.pools.get() == []
    assert [one["poolid"] for one in pve.pools.get(poolid="mark")] == ["mark"]
    assert refusal(pve.pools("mark").get) == "403 Permission check failed (/pool/mark, Pool.Audit)"
    grant(lab, "/pool", "PVEPoolAdmin")
    assert [one["poolid"] for one in pve.pools.get()] == ["mark"]


def test_what_is_deleted_takes_the_permissions_on_it_along(lab: Lab) -> None:
    pve = api(lab)
    pve.pools.post(poolid="home")
    pve.pools.post(poolid="home/below")
    pve.storage.post(storage="far", type="dir", path="/srv/far", content="images")
    ended(lab, pve.nodes("pve1").qemu.post(vmid=100))
    for path in (
        "/pool/home",
        "/pool/home/below",
        "/storage/far",
        "/vms/100",
        "/pool",
        "/storage",
        "/vms",
        "/vms/1000",
    ):
        grant(lab, path, "PVEAuditor")

    ended(lab, pve.nodes("pve1").qemu(100).delete())
    pve.storage("far").delete()
    pve.pools.delete(poolid="home/below")
    assert {"/pool/home", "/pool/home/below"} <= {one["path"] for one in pve.access.acl.get()}
    pve.pools("home").delete()

    assert {one["path"] for one in pve.access.acl.get()} == {"/pool", "/storage", "/vms", "/vms/1000"}


def test_pool_that_holds_something_is_not_deleted(lab: Lab) -> None:
    pve = api(lab)
    pve.storage.post(storage="far", type="dir", path="/srv/far", content="images")
    ended(lab, pve.nodes("pve1").qemu.post(vmid=100))
    pve.pools.post(poolid="home")
    pve.pools("home").put(vms="100", storage="far")
    pve.pools.post(poolid="home/below")
    refused = "500 delete pool failed: pool 'home' is not empty (contains {})"

    assert refusal(pve.pools("home").delete) == refused.format("pool 'home/below'")
    pve.pools.delete(poolid="home/below")
    assert refusal(pve.pools("home").delete) == refused.format("VM 100")
    ended(lab, pve.nodes("pve1").qemu(100).delete())
    assert refusal(pve.pools("home").delete) == refused.format("storage 'far'")
    pve.storage("far").delete()
    pve.pools("home").delete()
    assert pve.pools.get() == []


def test_the_agents_privilege_is_vm_monitor_before_9_and_the_guest_agents_own_since(of_release: Lab) -> None:
    of_release.reset()
    release = of_release.spec.pve_version
    pve = service(of_release)
    grant(of_release, "/vms", "PVEAuditor")
    ended(of_release, api(of_release).nodes("pve1").qemu.post(vmid=100, agent="1"))
    ping, execute = pve.nodes("pve1").qemu(100).agent.ping.post, pve.nodes("pve1").qemu(100).agent("exec").post
    off = "500 VM 100 is not running"
    may_execute = "VM.Monitor" if release == "8.4" else "VM.GuestAgent.Unrestricted"
    assert refusal(execute, command="true").startswith(f"403 Permission check failed (/vms/100, {may_execute}")
    assert (refusal(ping) == off) == (release == "9.2")
    grant(of_release, "/vms", "PVEVMAdmin")
    assert (refusal(ping), refusal(execute, command="true")) == (off, off)
    held = pve.access.permissions.get(path="/vms/100")["/vms/100"]
    assert ("VM.Monitor" in held, "VM.GuestAgent.Audit" in held) == (release == "8.4", release == "9.2")


def test_a_users_role_reads_and_writes_files_in_guests_since_9_only() -> None:
    files = {"VM.GuestAgent.FileRead", "VM.GuestAgent.FileWrite", "VM.GuestAgent.FileSystemMgmt"}
    assert files <= roles.roles("9.2")["PVEVMUser"]
    assert files.isdisjoint(roles.privileges("8.4"))
    assert roles.roles("8.4")["PVESysAdmin"] == {"Sys.Audit", "Sys.Console", "Sys.Syslog"}
    assert "Mapping.Modify" not in roles.roles("9.2")["PVEAdmin"]


def test_a_privilege_that_there_is_not_is_refused(lab: Lab) -> None:
    with pytest.raises(UnknownChoice, match=r"no privilege 'VM.Monitor' in Proxmox VE 9\.2"):
        lab.fault("token-lacks", privileges="VM.Audit+VM.Monitor")
