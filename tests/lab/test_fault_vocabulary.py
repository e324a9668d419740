"""Any request can go wrong in any way: by number or by kind, on either wire, seen by clients of other hands."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest
import requests
from proxmoxer import ResourceException

from lab.lab_clients import PATIENCE_S, address, api, knock, ssh, version
from pvelab.__main__ import main
from pvelab.catalogue import UnknownChoice
from pvelab.lab import Lab

NODES = ("pve1", "pve2", "pve3")
HASTE_S = 0.15


@pytest.fixture(autouse=True)
def nothing_stays_broken(lab: Lab) -> Iterator[None]:
    yield
    lab.clear_faults()
    assert [version(lab, node).status_code for node in NODES] == [200, 200, 200]
    assert [knock(address(lab, node), 2222) for node in NODES] == ["open"] * 3


def post(lab: Lab, path: str, timeout_s: float = PATIENCE_S, **params: str) -> requests.Response:
    """POST to the first node by requests. Raises its exceptions."""
    return requests.post(
        f"https://{address(lab)}:{lab.env['PROXMOX_PORT']}/api2/json{path}",
        data=params,
        headers={"Authorization": f"PVEAPIToken={lab.env['API_TOKEN']}"},
        verify=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=timeout_s,
    )


def upload(lab: Lab, data: bytes) -> requests.Response:
    """Upload an ISO image to the first node by requests. Raises its exceptions."""
    return requests.post(
        f"https://{address(lab)}:{lab.env['PROXMOX_PORT']}/api2/json/nodes/pve1/storage/local/upload",
        data={"content": "iso"},
        files={"filename": ("a.iso", data)},
        headers={"Authorization": f"PVEAPIToken={lab.env['API_TOKEN']}"},
        verify=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=PATIENCE_S,
    )


def on_node(lab: Lab, command: str, node: str = "pve1") -> subprocess.CompletedProcess[str]:
    """Run a command on a node by OpenSSH."""
    return ssh(lab, f"root@{address(lab, node)}", command)


def create(lab: Lab, vmid: int = 100) -> requests.Response:
    return post(lab, "/nodes/pve1/qemu", vmid=str(vmid), name="one")


def vmids(lab: Lab) -> list[int]:
    return lab.look(lambda world: sorted(world.vms))


def finished(lab: Lab, upid: str) -> str:
    lab.wait_until(lambda world: not world.tasks[upid].is_running)
    return lab.look(lambda world: world.tasks[upid].exitstatus or "")


def now(lab: Lab) -> float:
    return lab.look(lambda world: world.clock.now())


# --- what can happen to a request to the API ---


def test_refused_the_request_is_cut_and_nothing_listens_from_then_on(lab: Lab) -> None:
    lab.fault("on", do="refuse", method="POST", path="/nodes/*/qemu")
    assert version(lab).ok
    with pytest.raises(requests.ConnectionError):
        create(lab)
    assert vmids(lab) == []
    assert (knock(address(lab), 8006), knock(address(lab), 2222)) == ("refused", "open")
    assert version(lab, "pve2").ok


def test_hanging_no_answer_comes_and_nothing_is_carried_out(lab: Lab) -> None:
    lab.fault("on", do="hang", method="POST")
    with pytest.raises(requests.ReadTimeout):
        post(lab, "/nodes/pve1/qemu", timeout_s=HASTE_S, vmid="100")
    assert vmids(lab) == []


@pytest.mark.parametrize(("do", "left"), [("reset", []), ("reset-after", [100])])
def test_reset_the_connection_is_cut_before_or_after_the_work(lab: Lab, do: str, left: list[int]) -> None:
    lab.fault("on", do=do, method="POST", path="/nodes/pve1/qemu")
    with pytest.raises(requests.ConnectionError):
        create(lab)
    assert vmids(lab) == left


def test_slow_the_answer_takes_that_much_of_the_labs_time(lab: Lab) -> None:
    lab.fault("on", do="slow", path="/version", seconds=40)
    before = now(lab)
    assert version(lab).ok
    assert now(lab) - before >= 40


def test_an_error_has_its_status_and_text(lab: Lab) -> None:
    lab.fault("on", do="error", status=503, text="upstream is away", path="/version")
    answer = version(lab)
    assert (answer.status_code, answer.reason) == (503, "upstream is away")
    lab.clear_faults()
    lab.fault("on", do="error", path="/nodes")
    with pytest.raises(ResourceException, match="500 Internal Server Error: broken by the lab"):
        api(lab).nodes.get()


def test_tls_the_next_connection_meets_a_foreign_certificate(lab: Lab) -> None:
    lab.fault("on", do="tls", path="/version", node="pve1")
    with pytest.raises(requests.ConnectionError):
        version(lab)
    with pytest.raises(requests.exceptions.SSLError):
        version(lab)
    assert version(lab, "pve2").ok


def test_half_a_json_is_all_that_comes_of_work_that_was_done(lab: Lab) -> None:
    lab.fault("on", do="half-json", method="POST")
    answer = create(lab)
    assert (answer.status_code, answer.text[:14]) == (200, '{"data":"UPID:')
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert vmids(lab) == [100]


def test_a_task_fails_only_where_the_request_was_hit(lab: Lab) -> None:
    lab.fault("on", do="task-error", text="no luck", method="POST", path="/nodes/pve1/qemu", times=1)
    assert finished(lab, create(lab, 100).json()["data"]) == "unable to create VM 100 - no luck"
    assert finished(lab, create(lab, 101).json()["data"]) == "OK"
    assert vmids(lab) == [101]


def test_a_task_that_never_ends_holds_the_vm_until_it_is_stopped(lab: Lab) -> None:
    lab.fault("on", do="task-never-ends", method="POST", path="/nodes/*/qemu")
    upid = create(lab).json()["data"]
    due = now(lab) + 3600
    lab.wait_until(lambda world: world.clock.now() >= due, timeout_s=3700)
    assert api(lab).nodes("pve1").tasks(upid).status.get()["status"] == "running"
    assert api(lab).nodes("pve1").qemu(100).status.current.get()["lock"] == "create"
    api(lab).nodes("pve1").tasks(upid).delete()
    assert finished(lab, upid) == "unable to create VM 100 - received interrupt"


def test_an_upload_is_cut_in_the_middle(lab: Lab) -> None:
    lab.fault("on", do="upload-drop", path="/nodes/*/storage/*/upload")
    with pytest.raises(requests.ConnectionError):
        upload(lab, bytes(8 << 20))
    assert api(lab).nodes("pve1").storage("local").content.get(content="iso") == []


def test_a_disk_that_gets_full_refuses_what_comes_on_either_wire(lab: Lab) -> None:
    lab.fault("at", number=1, do="disk-full", node="pve1")
    answer = upload(lab, bytes(1 << 20))
    assert (answer.status_code, answer.reason) == (500, "write to temporary file failed - No space left on device")
    written = on_node(lab, "head -c 100000 /dev/zero > /root/zeros")
    assert (written.returncode, written.stderr.rpartition(": ")[2]) == (1, "No space left on device\n")
    room = {one["storage"]: one["avail"] for one in api(lab).nodes("pve1").storage.get()}
    assert max(room.values()) <= 4096
    assert on_node(lab, "head -c 100000 /dev/zero > /root/zeros", "pve2").returncode == 0


# --- what can happen to a command over SSH ---


def test_refused_over_ssh_the_command_is_cut_and_nothing_listens_from_then_on(lab: Lab) -> None:
    lab.fault("on", do="refuse", command="qm create")
    assert on_node(lab, "qm create 100 --name one").returncode == 255
    assert vmids(lab) == []
    assert (knock(address(lab), 8006), knock(address(lab), 2222)) == ("open", "refused")


def test_hanging_over_ssh_no_output_comes(lab: Lab) -> None:
    lab.fault("on", do="hang", command="pvesh get")
    with by_paramiko(lab) as client:
        _, out, _ = client.exec_command("pvesh get /version", timeout=HASTE_S)
        with pytest.raises(TimeoutError):
            out.read()


@pytest.mark.parametrize(("do", "left"), [("reset", []), ("reset-after", [100])])
def test_reset_over_ssh_the_exit_status_is_never_learned(lab: Lab, do: str, left: list[int]) -> None:
    lab.fault("on", do=do, command="qm")
    with by_paramiko(lab) as client:
        _, out, _ = client.exec_command("sudo -n qm create 100 --name one", timeout=PATIENCE_S)
        assert out.channel.recv_exit_status() == -1
    assert vmids(lab) == left


def test_slow_and_error_and_half_a_json_over_ssh(lab: Lab) -> None:
    lab.fault("on", do="slow", command="hostname", seconds=40)
    lab.fault("on", do="error", command="pvesh get /nodes", status=5, text="ipcc_send_rec failed")
    lab.fault("on", do="half-json", command="pvesh get /version")
    before = now(lab)
    assert on_node(lab, "hostname").stdout == "pve1\n"
    assert now(lab) - before >= 40
    failed = on_node(lab, "pvesh get /nodes --output-format json")
    assert (failed.returncode, failed.stdout, failed.stderr) == (5, "", "ipcc_send_rec failed\n")
    half = on_node(lab, "pvesh get /version --output-format json")
    lab.clear_faults()
    whole = on_node(lab, "pvesh get /version --output-format json").stdout
    assert (half.returncode, half.stdout) == (0, whole[: len(whole) // 2])


def test_a_task_of_a_command_fails_or_never_ends(lab: Lab) -> None:
    lab.fault("on", do="task-error", text="no luck", command="qm create")
    failed = on_node(lab, "qm create 100 --name one")
    assert (failed.returncode, failed.stderr) == (255, "unable to create VM 100 - no luck\n")
    lab.clear_faults()
    lab.fault("on", do="task-never-ends", command="qm create")
    with by_paramiko(lab) as client:
        _, out, _ = client.exec_command("qm create 100 --name one", timeout=HASTE_S)
        with pytest.raises(TimeoutError):
            out.read()
    assert lab.look(lambda world: world.vms[100].config["lock"]) == "create"


def test_a_dropped_copy_leaves_a_part_of_the_file(lab: Lab) -> None:
    lab.fault("on", do="ssh-drop", command="cat")
    with by_paramiko(lab) as client:
        given, out, _ = client.exec_command("cat > /root/copy", timeout=PATIENCE_S)
        with pytest.raises((OSError, EOFError)):
            while True:
                given.write(bytes(1 << 16))
        assert out.channel.recv_exit_status() == -1
    files = lab.look(lambda world: world.nodes["pve1"].files)
    lab.wait_until(lambda _: files.is_file("/root/copy"))
    assert 0 < len(files.read("/root/copy")) < 1 << 20


def test_a_dropped_command_goes_on_without_its_client(lab: Lab) -> None:
    lab.fault("on", do="ssh-drop", command="qm create")
    assert on_node(lab, "qm create 100 --name one --scsi0 local-lvm:1").returncode == 255
    lab.wait_until(lambda world: 100 in world.vms and "scsi0" in world.vms[100].config)


# --- which requests are hit ---


def test_only_the_request_with_the_number_is_hit_whatever_its_wire(lab: Lab) -> None:
    lab.fault("at", number=3, do="error", text="third")
    assert version(lab).ok
    assert on_node(lab, "hostname").returncode == 0
    assert version(lab, "pve2").reason == "third"
    assert version(lab).ok
    lab.clear_faults()
    lab.fault("at", number=2, do="error", text="second", wire="ssh")
    assert [on_node(lab, "true").returncode, version(lab).status_code, on_node(lab, "true").returncode] == [0, 200, 255]


def test_only_writes_are_counted_where_only_writes_are_asked_for(lab: Lab) -> None:
    lab.fault("at", number=2, do="reset", only="writes")
    assert create(lab, 100).ok
    assert version(lab).ok
    assert on_node(lab, "qm status 100").returncode == 0
    assert on_node(lab, "qm create 101").returncode == 255
    assert create(lab, 102).ok
    assert vmids(lab) == [100, 102]


def test_a_kind_is_hit_as_often_as_asked_for_and_on_its_node_only(lab: Lab) -> None:
    lab.fault("on", do="error", path="/nodes/*/storage/**", node="pve2", times=2)

    def read(node: str) -> bool:
        try:
            return bool(api(lab, node).nodes(node).storage("local").status.get())
        except ResourceException:
            return False

    assert [read("pve1"), read("pve2"), read("pve2"), read("pve2")] == [True, False, False, True]
    assert api(lab, "pve2").nodes("pve2").storage.get()


def test_a_star_stands_for_one_part_of_a_path(lab: Lab) -> None:
    lab.fault("on", do="error", method="get", path="/nodes/*")
    assert version(lab).ok
    assert api(lab).nodes("pve1").qemu.get() == []
    with pytest.raises(ResourceException):
        api(lab).nodes("pve1").get()


def test_the_server_outside_and_the_guests_can_be_hit_as_well(lab: Lab) -> None:
    existing = lab.env["K3S_EXISTING_NODE_IP"]
    lab.fault("on", do="refuse", node="k3s-server", command="k3s token")
    assert ssh(lab, f"ubuntu@{existing}", "hostname").stdout == "k3s-server\n"
    assert ssh(lab, f"ubuntu@{existing}", "sudo -n k3s token list").returncode == 255
    assert knock(existing, 2222) == "refused"
    lab.clear_faults()
    assert knock(existing, 2222) == "open"


def test_a_reset_of_the_lab_forgets_what_was_to_happen(lab: Lab) -> None:
    lab.fault("on", do="error", path="/version")
    lab.fault("on", do="refuse", command="hostname")
    on_node(lab, "hostname")
    lab.reset()
    assert version(lab).ok
    assert on_node(lab, "hostname").returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("on", {"do": "melt"}, "do=melt: give refuse, hang, reset,"),
        ("on", {"do": "tls", "wire": "ssh"}, "do=tls is for wire=api"),
        ("on", {"do": "reset", "wire": "pigeon"}, "wire=pigeon: give all, api, ssh"),
        ("at", {"do": "reset"}, "fault at needs number=..."),
        ("at", {"do": "reset", "number": "0"}, "number=0: give 1 or more"),
        ("at", {"do": "reset", "number": "1", "only": "reads"}, "only=reads: give all or writes"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(lab: Lab, name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownChoice) as refused:
        lab.fault(name, **options)
    assert said in str(refused.value)


def by_paramiko(lab: Lab) -> paramiko.SSHClient:
    """paramiko, logged in at the first node."""
    client = paramiko.SSHClient()
    client.load_host_keys(lab.env["SSH_KNOWN_HOSTS"])
    client.connect(
        address(lab),
        int(lab.env["SSH_PORT"]),
        "root",
        key_filename=lab.env["SSH_KEY_PATH"],
        allow_agent=False,
        look_for_keys=False,
        timeout=PATIENCE_S,
    )
    return client


def test_faults_are_typed_on_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    ask = 'curl -s -o /dev/null -w "%{http_code}\\n" --cacert "$PROXMOX_CA_BUNDLE"'
    ask += ' -H "Authorization: PVEAPIToken=$API_TOKEN" "https://${PVE_IPS%%,*}:8006/api2/json/'
    script = f'{ask}version"; {ask}nodes"; {ask}version"'
    faults = ["--fault", "at:number=3,do=error,status=502", "--fault", "on:path=/nodes,do=error,text=no nodes"]
    assert main([*faults, "--pace", "test", "--", "sh", "-c", script]) == 0
    assert capfd.readouterr().out.split() == ["200", "500", "502"]


# --- a node that loses power in the middle ---


def test_creation_that_power_cut_off_leaves_its_lock_and_the_disks_it_had_begun(lab: Lab) -> None:
    on_node(lab, "mkdir -p /var/lib/vz/import && echo an image > /var/lib/vz/import/disk.raw")
    lab.look(lambda world: setattr(world.timings, "import_bytes_per_s", 1e-3))
    lab.fault("on", do="power-loss", method="POST", path="/nodes/*/qemu", seconds=10)
    disk = "local-lvm:0,import-from=local:import/disk.raw"

    upid = post(lab, "/nodes/pve1/qemu", vmid="100", name="one", scsi0=disk, ide2="local-lvm:cloudinit").json()["data"]

    assert finished(lab, upid) == "unexpected status"
    lab.clear_faults()
    assert api(lab).nodes("pve1").qemu(100).config.get().keys() == {"lock", "digest"}
    assert api(lab).nodes("pve1").tasks.get(source="active") == []
    left = [one["volid"] for one in api(lab).nodes("pve1").storage("local-lvm").content.get()]
    assert left == ["local-lvm:vm-100-cloudinit", "local-lvm:vm-100-disk-0"]
    assert on_node(lab, "qm unlock 100 && qm destroy 100").returncode == 0
    assert vmids(lab) == []


def test_creation_that_power_cut_off_over_ssh_says_nothing_more(lab: Lab) -> None:
    on_node(lab, "mkdir -p /var/lib/vz/import && echo an image > /var/lib/vz/import/disk.raw")
    lab.look(lambda world: setattr(world.timings, "import_bytes_per_s", 1e-3))
    lab.fault("on", do="power-loss", command="qm create", seconds=10)

    with by_paramiko(lab) as client:
        disk = "local-lvm:0,import-from=local:import/disk.raw"
        channel = client.exec_command(f"qm create 100 --name one --scsi0 {disk}")[1].channel

        assert (channel.recv_exit_status(), channel.recv_stderr(1000)) == (-1, b"")


def test_only_nodes_lose_power(lab: Lab) -> None:
    lab.fault("on", do="power-loss", command="hostname")
    existing = f"ubuntu@{lab.env['K3S_EXISTING_NODE_IP']}"
    assert ssh(lab, existing, "hostname").returncode == 0
    assert ssh(lab, existing, "hostname").returncode == 0
