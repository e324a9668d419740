"""qm: virtual machines from a node's shell, each command being a call of the API as in the real one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pvelab.commands import qm_config, qm_console, qm_disk, qm_guest, qm_power, qm_service
from pvelab.commands.dispatch import Tool
from pvelab.commands.tool import Entry, Runner, call_api, tells_no_failure

VMS = "/nodes/{node}/qemu"
VM = VMS + "/{vmid}"
_VMID: Mapping[str, Mapping[str, Any]] = {
    "vmid": {
        "type": "integer",
        "format": "pve-vmid",
        "minimum": 100,
        "maximum": 999_999_999,
        "typetext": "<integer> (100 - 999999999)",
        "description": "The (unique) ID of the VM.",
    }
}
_VERBOSE: Mapping[str, Mapping[str, Any]] = {
    "verbose": {"type": "boolean", "optional": 1, "description": "Verbose output format"}
}
_OPTIONAL_VMID = {"vmid": {**_VMID["vmid"], "optional": 1}}
_DRY_RUN: Mapping[str, Mapping[str, Any]] = {"dryrun": {"type": "boolean", "optional": 1}}
_TIMEOUT: Mapping[str, Mapping[str, Any]] = {
    "timeout": {"type": "integer", "minimum": 1, "optional": 1, "description": "Timeout in seconds."}
}
_PASSWORD = frozenset({"cipassword"})


def _calls(usage: str, method: str, path: str, run: Runner = call_api) -> Entry:
    """A command that takes the parameters of an API method."""
    return Entry(f"qm {usage}", method, path, _arguments(usage), run, asked_later=_PASSWORD)


def _own(usage: str, run: Runner, options: Mapping[str, Mapping[str, Any]], description: str = "") -> Entry:
    """A command with options of its own, beside the VM's id."""
    own = {**_VMID, **options}
    return Entry(f"qm {usage}", arguments=_arguments(usage), run=run, own_options=own, description=description)


def _unknown(usage: str) -> Entry:
    """A command of the real tool that this one does not have."""
    return Entry(f"qm {usage}")


def _arguments(usage: str) -> tuple[str, ...]:
    positional = usage.partition(" --")[0].replace("[<extra-args>]", "")
    return tuple(f"[{optional}]" if optional else name for optional, name in _ARGUMENT.findall(positional))


_ARGUMENT = re.compile(r"\[<([\w-]+)>\]|<([\w-]+)>")


def _power(name: str, run: Runner = call_api) -> Entry:
    return _calls(f"{name} <vmid> [OPTIONS]", "POST", f"{VM}/status/{name}", run)


GROUPS: tuple[tuple[Entry, ...], ...] = (
    (
        _calls("cloudinit dump <vmid> <type>", "GET", f"{VM}/cloudinit/dump", qm_config.cloudinit_dump),
        _calls("cloudinit pending <vmid>", "GET", f"{VM}/cloudinit", qm_config.cloudinit_pending),
        _calls("cloudinit update <vmid>", "PUT", f"{VM}/cloudinit"),
    ),
    (
        _calls("disk move <vmid> <disk> [<storage>] [OPTIONS]", "POST", f"{VM}/move_disk"),
        _calls("disk resize <vmid> <disk> <size> [OPTIONS]", "PUT", f"{VM}/resize", tells_no_failure),
        _calls("disk unlink <vmid> --idlist <string> [OPTIONS]", "PUT", f"{VM}/unlink"),
        _own("disk import <vmid> <source> <storage> [OPTIONS]", qm_disk.import_disk, qm_disk.IMPORT_OPTIONS),
        Entry("qm disk rescan  [OPTIONS]", run=qm_disk.rescan, own_options={**_OPTIONAL_VMID, **_DRY_RUN}),
    ),
    (
        _calls("guest cmd <vmid> <command>", "POST", f"{VM}/agent", qm_guest.command),
        _calls("guest exec-status <vmid> <pid>", "GET", f"{VM}/agent/exec-status", qm_guest.exec_status),
        Entry(
            "qm guest passwd <vmid> <username> [OPTIONS]",
            "POST",
            f"{VM}/agent/set-user-password",
            ("vmid", "username"),
            qm_guest.password,
            asked_later=frozenset({"password"}),
        ),
        _own("guest exec <vmid> [<extra-args>] [OPTIONS]", qm_guest.execute, qm_guest.EXEC_OPTIONS),
    ),
    (
        _calls("clone <vmid> <newid> [OPTIONS]", "POST", f"{VM}/clone"),
        _calls("config <vmid> [OPTIONS]", "GET", f"{VM}/config", qm_config.config),
        _calls("create <vmid> [OPTIONS]", "POST", VMS, qm_config.write),
        _calls("delsnapshot <vmid> <snapname> [OPTIONS]", "DELETE", VM + "/snapshot/{snapname}"),
        _calls("destroy <vmid> [OPTIONS]", "DELETE", VM),
        _calls("list  [OPTIONS]", "GET", VMS, qm_config.list_vms),
        _calls("listsnapshot <vmid>", "GET", f"{VM}/snapshot", qm_console.list_snapshots),
        _calls("migrate <vmid> <target> [OPTIONS]", "POST", f"{VM}/migrate"),
        _calls("pending <vmid>", "GET", f"{VM}/pending", qm_config.pending),
        _power("reboot", qm_power.reboot),
        _power("reset"),
        _power("resume"),
        _calls("rollback <vmid> <snapname> [OPTIONS]", "POST", VM + "/snapshot/{snapname}/rollback"),
        _calls("sendkey <vmid> <key> [OPTIONS]", "PUT", f"{VM}/sendkey"),
        _calls("set <vmid> [OPTIONS]", "PUT", f"{VM}/config", qm_config.write),
        _power("shutdown", qm_power.shutdown),
        _calls("snapshot <vmid> <snapname> [OPTIONS]", "POST", f"{VM}/snapshot"),
        _power("start"),
        _power("stop"),
        _power("suspend"),
        _calls("template <vmid> [OPTIONS]", "POST", f"{VM}/template", tells_no_failure),
    ),
    (
        _own("cleanup <vmid> <clean-shutdown> <guest-requested>", qm_service.cleanup, qm_service.CLEANUP_OPTIONS),
        _own("enroll-efi-keys <vmid>", qm_service.enroll_efi_keys, {}),
        _unknown("import <vmid> <source> --storage <string> [OPTIONS]"),
        _own("importovf <vmid> <manifest> <storage> [OPTIONS]", qm_service.import_ovf, qm_service.OVF_OPTIONS),
        _own("monitor <vmid>", qm_service.monitor, {}),
        Entry("qm mtunnel ", run=qm_service.migration_tunnel),
        _own("nbdstop <vmid>", qm_service.nbdstop, {}),
        _unknown(
            "remote-migrate <vmid> [<target-vmid>] <target-endpoint> --target-bridge <string>"
            " --target-storage <string> [OPTIONS]"
        ),
        _unknown("showcmd <vmid> [OPTIONS]"),
        _own("status <vmid> [OPTIONS]", qm_config.status, _VERBOSE, "Show VM status."),
        _own("terminal <vmid> [OPTIONS]", qm_console.terminal, qm_console.TERMINAL_OPTIONS),
        _own("unlock <vmid>", qm_power.unlock, {}),
        _own("vncproxy <vmid>", qm_service.vncproxy, {}),
        _own("wait <vmid> [OPTIONS]", qm_power.wait, _TIMEOUT),
    ),
)
ALIASES: Mapping[str, str] = {
    "agent": "guest cmd",
    "importdisk": "disk import",
    "move-disk": "disk move",
    "move_disk": "disk move",
    "rescan": "disk rescan",
    "resize": "disk resize",
    "unlink": "disk unlink",
}
QM = Tool("qm", GROUPS, ALIASES)
