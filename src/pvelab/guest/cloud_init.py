"""cloud-init's work in a guest: identity and users early, packages and commands at the end; `cloud-init status`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import yaml

from pvelab.guest import ubuntu
from pvelab.guest.ailments import Ailment
from pvelab.guest.apt import PACKAGES, install_agent
from pvelab.guest.options import BadOption, Grammar
from pvelab.guest.timestamps import timestamp
from pvelab.shell.run import run

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.guest.seed import Seed
    from pvelab.machine import Process

PACKAGE_S = 8.0
UPGRADE_S = 60.0
LAST_S = 2.0
_DEFAULT_USER = "ubuntu"
_VERSION = "25.2-0ubuntu1~24.04.1"
_OUTPUT_LOG = "/var/log/cloud-init-output.log"
_STATUS = Grammar(flags={"wait", "long"}, values={"format"}, short={"w": "wait", "l": "long"})
_POLL_S = 0.5
_PATIENCE_S = 3600.0
_RUNNING = ("not started", "running")


def begin(guest: GuestMachine, seed: Seed) -> bool:
    """The early stages; True when this instance is new to the disk, so that everything is done."""
    state = guest.cloud_init
    state.status, state.detail = "running", "Running in stage: init"
    state.warnings += seed.warnings
    is_new = guest.disk.instance_id != seed.instance_id
    hostname = str(seed.config.get("hostname") or "").partition(".")[0]
    held = guest.ails(Ailment.HOSTNAME)
    hostname = str(held[-1]) if held else hostname
    if hostname and not seed.config.get("preserve_hostname"):
        ubuntu.set_hostname(guest.disk, hostname)
        guest.hostname = hostname
    if is_new:
        guest.disk.instance_id = seed.instance_id
        _create_users(guest, seed.config)
        ubuntu.keep_host_key(guest.disk)
        _write_files(guest, seed.config)
    return is_new


def finish(guest: GuestMachine, seed: Seed, *, is_new: bool) -> None:
    """The final stage: packages and commands of a new instance, then the status."""
    config = seed.config if is_new else {}
    guest.cloud_init.detail = "Running in stage: modules-final"
    if "hang" in guest.ails(Ailment.CLOUD_INIT):
        return
    upgrade_s = UPGRADE_S if config.get("package_upgrade") else 0.0
    packages_s = PACKAGE_S if config.get("packages") else 0.0

    def last() -> None:
        _install_packages(guest, config)
        if config.get("runcmd"):
            guest.background(_run_commands(guest, config["runcmd"]))
        else:
            guest.after(LAST_S, lambda: _end(guest))

    guest.after(upgrade_s + packages_s, last)


def _end(guest: GuestMachine) -> None:
    state = guest.cloud_init
    if "error" in guest.ails(Ailment.CLOUD_INIT):
        state.errors.append("('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))")
    if "degraded" in guest.ails(Ailment.CLOUD_INIT):
        state.warnings.append("Could not match supplied host pattern, ignoring: all")
    state.status = "error" if state.errors else "done"
    state.detail = state.errors[0] if state.errors else "DataSourceNoCloud [seed=/dev/sr0]"
    version = f"Cloud-init v. {_VERSION} finished"
    _say(guest, f"{version} at {timestamp(guest.clock.now())}. Datasource DataSourceNoCloud [seed=/dev/sr0].")
    guest.files.provide("/var/lib/cloud/instance/boot-finished", f"{guest.clock.now():.2f}\n".encode())
    result = {"v1": {"datasource": state.detail, "errors": state.errors}}
    guest.files.provide("/run/cloud-init/result.json", json.dumps(result, indent=1).encode())


def _say(guest: GuestMachine, line: str) -> None:
    """Write to the journal and to cloud-init's own log of output."""
    guest.journal.write(guest.boot_id, "cloud-final.service", "cloud-init", line)
    said = guest.files.read(_OUTPUT_LOG) if guest.files.is_file(_OUTPUT_LOG) else b""
    guest.files.provide(_OUTPUT_LOG, said + f"{line}\n".encode())


def _create_users(guest: GuestMachine, config: dict[str, Any]) -> None:
    keys = [str(key) for key in config.get("ssh_authorized_keys", [])]
    default = str(config.get("user") or _DEFAULT_USER)
    users = config.get("users", ["default"])
    if default == "root" or "default" in users:
        ubuntu.add_account(guest.disk, default, keys, sudo=True)
    for user in users:
        if isinstance(user, dict) and user.get("name"):
            own = [str(key) for key in user.get("ssh_authorized_keys", [])]
            ubuntu.add_account(guest.disk, str(user["name"]), own, sudo=bool(user.get("sudo")))


def _write_files(guest: GuestMachine, config: dict[str, Any]) -> None:
    for entry in config.get("write_files", []):
        mode = int(str(entry.get("permissions", "0644")), 8)
        owner = str(entry.get("owner", "root")).partition(":")[0]
        guest.files.provide(str(entry["path"]), str(entry.get("content", "")).encode(), mode=mode, owner=owner)


def _install_packages(guest: GuestMachine, config: dict[str, Any]) -> None:
    names = [str(name[0] if isinstance(name, list) else name) for name in config.get("packages", [])]
    unknown = [name for name in names if name not in PACKAGES]
    if names and guest.ails(Ailment.APT_LOCK):
        error = "('package_update_upgrade_install', TimeoutError('Could not get apt lock'))"
        guest.cloud_init.errors.append(error)
        return
    if unknown:
        _say(guest, f"E: Unable to locate package {unknown[0]}")
        guest.cloud_init.errors.append(
            "('package_update_upgrade_install', ProcessExecutionError(\"Unexpected error while running command."
            f' Exit code: 100 Reason: E: Unable to locate package {unknown[0]}"))'
        )
        return
    if "qemu-guest-agent" in names:
        install_agent(guest)


async def _run_commands(guest: GuestMachine, commands: list[Any]) -> None:
    lines = [shlex.join(str(word) for word in one) if isinstance(one, list) else str(one) for one in commands]
    result = await run(guest, "root", "\n".join(lines))
    for line in (result.out + result.err).decode(errors="replace").splitlines():
        _say(guest, line)
    if result.exit_code:
        text = "Runparts: 1 failures (runcmd) in 1 attempted commands"
        guest.cloud_init.errors.append(f"('scripts_user', RuntimeError('{text}'))")
    guest.after(LAST_S, lambda: _end(guest))


async def cloud_init(guest: GuestMachine, process: Process) -> int:
    """`cloud-init status [--wait] [--long] [--format json|yaml]` and `cloud-init --version`."""
    words = process.argv[1:]
    if words[:1] in (["--version"], ["-v"]):
        process.print(f"/usr/bin/cloud-init {_VERSION}")
        return 0
    if words[:1] != ["status"]:
        process.complain(f"cloud-init: error: argument subcommand: invalid choice: '{' '.join(words[:1])}'")
        return 2
    try:
        options = _STATUS.parse(words[1:])
    except BadOption as problem:
        process.complain(f"usage: cloud-init [-h]\ncloud-init: error: unrecognized arguments: {problem}")
        return 2
    if "wait" in options:
        await _wait(guest, process, shows_dots=not options.value("format"))
    _show(guest, process, options.value("format"), is_long="long" in options)
    state = guest.cloud_init
    return 1 if state.errors else 2 if state.warnings and state.status not in _RUNNING else 0


async def _wait(guest: GuestMachine, process: Process, *, shows_dots: bool) -> None:
    waited_s = 0.0
    while guest.cloud_init.status in _RUNNING:
        if waited_s >= _PATIENCE_S:
            await guest.is_off.wait()
            return
        await guest.clock.sleep(_POLL_S)
        waited_s += _POLL_S
        if shows_dots:
            process.out += b"."
    if shows_dots and waited_s:
        process.print("")


def _show(guest: GuestMachine, process: Process, form: str, *, is_long: bool) -> None:
    state = guest.cloud_init
    is_degraded = bool(state.warnings or state.errors) and state.status not in _RUNNING
    extended = f"degraded {state.status}" if is_degraded and state.status == "done" else state.status
    document = {
        "boot_status_code": "enabled-by-generator",
        "datasource": state.datasource,
        "detail": state.detail,
        "errors": state.errors,
        "extended_status": extended,
        "last_update": "",
        "recoverable_errors": {"WARNING": state.warnings} if state.warnings else {},
        "status": state.status,
    }
    if form == "json":
        process.print(json.dumps(document, indent=2))
    elif form == "yaml":
        process.out += f"---\n{yaml.safe_dump(document)}...\n\n".encode()
    else:
        process.print(f"status: {state.status}")
        if is_long:
            process.print(f"extended_status: {extended}\nboot_status_code: enabled-by-generator")
            process.print(
                f"detail: {state.detail}\nerrors: {state.errors}\nrecoverable_errors: {document['recoverable_errors']}"
            )
