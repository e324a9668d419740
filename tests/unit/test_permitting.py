"""What the API token has to be allowed before a VM is made, told before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import pytest

from homelab.errors import HomelabError, NodeFailed, Unreachable
from homelab.models import CarriedOver, Wire
from homelab.proxmox.client import Proxmox
from homelab.vm_manager.permitting import VM_PRIVILEGES, check_permissions
from unit.builders import SPEC

ENOUGH = VM_PRIVILEGES | {"Datastore.AllocateSpace", "SDN.Use"}
NO_ANSWER = Unreachable("GET /access/permissions", "no answer")


@dataclass
class Token:
    """What Proxmox says of a token: the same privileges on every path."""

    privileges: frozenset[str] | HomelabError = ENOUGH
    via: Wire = Wire.API

    def wire(self, node: str) -> Wire:
        assert node == "pve1"
        return self.via

    def permissions(self, path: str) -> frozenset[str]:
        assert path.startswith(("/vms", "/storage/local-zfs", "/sdn/zones/localnetwork/vmbr"))
        if isinstance(self.privileges, HomelabError):
            raise self.privileges
        return self.privileges


def check(token: Token, *, vmid: int = 107, is_replacement: bool = True) -> None:
    spec = replace(SPEC, vmid=vmid, carried=CarriedOver(vmid) if is_replacement else None)
    check_permissions(cast(Proxmox, token), spec)


def test_token_with_every_privilege_may_make_the_vm() -> None:
    check(Token())


@pytest.mark.parametrize("is_replacement", [True, False])
@pytest.mark.parametrize(
    ("privilege", "vmid", "said", "cure"),
    [
        ("VM.Config.Disk", 107, "it lacks VM.Config.Disk on /vms/107", "modify /vms --tokens 'USER@REALM!ID'"),
        ("VM.Allocate", 0, "it lacks VM.Allocate on /vms", "--roles PVEVMAdmin"),
        ("Datastore.AllocateSpace", 107, "on /storage/local-zfs", "--roles PVEDatastoreUser"),
        ("SDN.Use", 107, "vmbr0; SDN.Use on /sdn/zones/localnetwork/vmbr1", "--roles PVESDNUser"),
    ],
)
def test_every_privilege_that_is_missing_is_named_with_its_path_and_a_role(
    privilege: str, vmid: int, said: str, cure: str, is_replacement: bool
) -> None:
    with pytest.raises(NodeFailed, match="the API token may not make VM k3s-vm-pve1") as refused:
        check(Token(ENOUGH - {privilege}), vmid=vmid, is_replacement=is_replacement)

    assert said in refused.value.why
    assert cure in refused.value.cure


def test_root_over_ssh_is_not_asked_for_privileges() -> None:
    check(Token(NO_ANSWER, Wire.SSH))


def test_privileges_that_cannot_be_read_forbid_a_replacement_and_not_a_first_vm() -> None:
    check(Token(NO_ANSWER), is_replacement=False)
    with pytest.raises(Unreachable):
        check(Token(NO_ANSWER))
