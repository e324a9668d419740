"""The Kubernetes API, driven by the kubectl on PATH, whatever its version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pvelab.catalogue import UnknownChoice
from pvelab.guest.kube_nodes import UNSCHEDULABLE_TAINT
from pvelab.guest.kube_objects import Document
from pvelab.lab import Lab
from pvelab.requestlog import Request

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
SERVER, AGENT, MEMBER = "k3s-server", "k3s-vm-pve3", "k3s-vm-pve2"
PATIENCE_S = 30.0
QUESTIONS = (
    "get nodes",
    "get nodes -o wide",
    "get no -o name",
    "get nodes --no-headers -l node-role.kubernetes.io/etcd=true",
    "get nodes,namespaces",
    f"get node {AGENT}",
    f"get node {AGENT} -o json",
    f"get node {AGENT} -o yaml",
    f"get node {AGENT} -o jsonpath={{.status.nodeInfo.systemUUID}}",
    "get ns",
    "get secrets -A",
    "get pods -A",
    "get pods -n kube-system -o wide --field-selector spec.nodeName=k3s-server",
    "get daemonsets,deployments,services -A",
    "get --raw /version",
    "get --raw /readyz",
    "get --raw /livez?verbose",
)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with a home of its own, in front of a lab."""

    lab: Lab
    home: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it; what it printed and its exit code."""
        return subprocess.run(
            ["kubectl", *words], env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start it and do not wait."""
        return subprocess.Popen(
            ["kubectl", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *words: str) -> str:
        """What it prints when it succeeds."""
        done = self.run(*words)
        assert done.returncode == 0, done
        return done.stdout

    def refused(self, *words: str) -> str:
        """What it complains of when it fails."""
        done = self.run(*words)
        assert done.returncode == 1, done
        return done.stderr

    @property
    def environment(self) -> dict[str, str]:
        """As in a shell of the lab: KUBECONFIG names the lab's own file."""
        return {**os.environ, "HOME": str(self.home), "KUBECONFIG": self.lab.env["KUBECONFIG"], "TERM": "dumb"}

    def over_ssh(self, *words: str) -> str:
        """What k3s's own kubectl prints on the server."""
        return self.lab.shell(SERVER, " ".join(["k3s", "kubectl", *words]))

    def node(self, name: str) -> Document:
        """A Node as it is held."""
        found: Document = json.loads(self.over_ssh("get", "node", name, "-o", "json"))
        return found


@pytest.fixture(scope="module")
def lab_in_real_time() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def kubectl(lab_in_real_time: Lab, tmp_path: Path) -> Kubectl:
    lab_in_real_time.reset("healthy")
    return Kubectl(lab_in_real_time, tmp_path)


def until(condition: Callable[[], bool]) -> None:
    """Wait in real time until the condition holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def requests(lab: Lab) -> list[Request]:
    """What the Kubernetes API was asked."""
    return [one for one in lab.requests if one.via == "kubernetes"]


def test_what_kubectl_prints_is_what_k3s_kubectl_prints_on_the_server(kubectl: Kubectl) -> None:
    for line in QUESTIONS:
        quoted = line.replace("{", "'{").replace("}", "}'")
        outside, inside = kubectl(*line.split()), kubectl.over_ssh(quoted)
        if outside != inside:  # an age has changed in between
            outside, inside = kubectl(*line.split()), kubectl.over_ssh(quoted)
        assert outside == inside, line


def test_all_nodes_are_the_same_objects_on_both_ways(kubectl: Kubectl) -> None:
    outside = json.loads(kubectl("get", "nodes", "-o", "json"))
    inside = json.loads(kubectl.over_ssh("get", "nodes", "-o", "json"))
    assert (outside["kind"], outside["items"]) == ("List", inside["items"])
    listed = yaml.safe_load(kubectl("get", "nodes", "-o", "yaml"))
    assert listed["items"] == inside["items"]


def test_the_servers_own_kubeconfig_leads_in_from_outside_once_its_address_is_put_in(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    address = kubectl.lab.env["K3S_EXISTING_NODE_IP"]
    assert kubectl.lab.shell(SERVER, "stat -c '%a %U' /etc/rancher/k3s/k3s.yaml") == "600 root\n"
    copied = kubectl.lab.shell(SERVER, "cat /etc/rancher/k3s/k3s.yaml").replace("127.0.0.1", address)
    (tmp_path / "kubeconfig").write_text(copied)
    assert kubectl("--kubeconfig", str(tmp_path / "kubeconfig"), "get", "nodes", "-o", "name").split() == [
        "node/k3s-server",
        "node/k3s-vm-pve1",
        "node/k3s-vm-pve2",
        "node/k3s-vm-pve3",
    ]


def test_every_server_answers_for_the_cluster(kubectl: Kubectl) -> None:
    address = kubectl.node(MEMBER)["status"]["addresses"][0]["address"]
    assert kubectl("--server", f"https://{address}:6443", "get", "nodes", "-o", "name") == kubectl(
        "get", "nodes", "-o", "name"
    )


def test_version_resources_and_cluster_are_told(kubectl: Kubectl) -> None:
    assert "v1.33.5+k3s1" in kubectl("version")
    resources = [row.split() for row in kubectl("api-resources", "--no-headers").splitlines()]
    assert ["nodes", "no", "v1", "false", "Node"] in resources
    assert ["daemonsets", "ds", "apps/v1", "true", "DaemonSet"] in resources
    told = kubectl("cluster-info")
    assert f"https://{kubectl.lab.env['K3S_EXISTING_NODE_IP']}:6443" in told and "CoreDNS" in told


def test_usage_leases_and_storage_classes_are_told(kubectl: Kubectl) -> None:
    assert SERVER in kubectl("top", "nodes")
    assert "coredns" in kubectl("top", "pods", "-n", "kube-system")
    assert "Failed to get lease" not in kubectl("describe", "node", AGENT)
    assert "local-path (default)" in kubectl("get", "sc")
    assert kubectl("auth", "can-i", "list", "pods") == "yes\n"


def test_wait_ends_when_the_node_becomes_ready(kubectl: Kubectl) -> None:
    assert kubectl("wait", "--for=condition=Ready", f"node/{AGENT}", "--timeout=5s") == (
        f"node/{AGENT} condition met\n"
    )
    kubectl.lab.shell(AGENT, "systemctl stop k3s-agent")
    until(lambda: "NotReady" in kubectl.over_ssh("get", "node", AGENT))
    asked = len(requests(kubectl.lab))
    waiting = kubectl.start("wait", "--for=condition=Ready", f"node/{AGENT}", "--timeout=20s")
    until(lambda: len(requests(kubectl.lab)) > asked)
    kubectl.lab.shell(AGENT, "systemctl start k3s-agent")
    said, _ = waiting.communicate(timeout=PATIENCE_S)
    assert (said, waiting.returncode) == (f"node/{AGENT} condition met\n", 0)


def test_wait_says_when_the_condition_did_not_come(kubectl: Kubectl) -> None:
    said = kubectl.refused("wait", "--for=condition=Frobnicated", f"node/{AGENT}", "--timeout=1s")
    assert said == f"error: timed out waiting for the condition on nodes/{AGENT}\n"


def test_labels_and_annotations_are_set_and_taken_away(kubectl: Kubectl) -> None:
    assert kubectl("label", "node", AGENT, "homelab/zone=a", "other=b") == f"node/{AGENT} labeled\n"
    assert kubectl.over_ssh("get", "nodes", "-l", "homelab/zone=a,other", "-o", "name") == f"node/{AGENT}\n"
    assert "already has a value (a), and --overwrite is false" in kubectl.refused(
        "label", "node", AGENT, "homelab/zone=b"
    )
    kubectl("label", "node", AGENT, "homelab/zone=b", "other-", "--overwrite")
    kubectl("annotate", "node", AGENT, "note=one two")
    metadata = kubectl.node(AGENT)["metadata"]
    assert (metadata["labels"]["homelab/zone"], "other" in metadata["labels"]) == ("b", False)
    assert metadata["annotations"]["note"] == "one two"
    kubectl("annotate", "node", AGENT, "note-")
    assert "note" not in kubectl.node(AGENT)["metadata"]["annotations"]


def test_a_taint_is_put_on_beside_others_and_taken_off(kubectl: Kubectl) -> None:
    assert kubectl("taint", "node", AGENT, "a=b:NoSchedule") == f"node/{AGENT} tainted\n"
    assert kubectl("taint", "node", AGENT, "c:NoExecute") == f"node/{AGENT} tainted\n"
    taints = kubectl.node(AGENT)["spec"]["taints"]
    assert [(taint["key"], taint.get("value"), taint["effect"]) for taint in taints] == [
        ("c", None, "NoExecute"),
        ("a", "b", "NoSchedule"),
    ]
    assert kubectl("taint", "node", AGENT, "a:NoSchedule-") == f"node/{AGENT} untainted\n"
    kubectl("taint", "node", AGENT, "c-")
    assert "taints" not in kubectl.node(AGENT)["spec"]


def test_a_cordoned_node_takes_no_pods_until_it_is_uncordoned(kubectl: Kubectl) -> None:
    assert kubectl("cordon", AGENT) == f"node/{AGENT} cordoned\n"
    assert kubectl("cordon", AGENT) == f"node/{AGENT} already cordoned\n"
    assert kubectl("get", "node", AGENT, "--no-headers").split()[1] == "Ready,SchedulingDisabled"
    assert [taint["key"] for taint in kubectl.node(AGENT)["spec"]["taints"]] == [UNSCHEDULABLE_TAINT]
    assert kubectl("get", "nodes", "--field-selector", "spec.unschedulable=true", "-o", "name") == f"node/{AGENT}\n"
    assert kubectl("uncordon", AGENT) == f"node/{AGENT} uncordoned\n"
    assert kubectl.node(AGENT)["spec"].keys() & {"taints", "unschedulable"} == set()


def pods_on(kubectl: Kubectl, node: str) -> list[str]:
    """Names of the pods of a node, without what is random in them."""
    fields = f"spec.nodeName={node}"
    found = kubectl("get", "pods", "-n", "kube-system", "--field-selector", fields, "-o", "name")
    return sorted(name.removeprefix("pod/").rsplit("-", 2)[0] for name in found.split())


def test_drain_names_what_stands_in_its_way_and_evicts_when_it_may(kubectl: Kubectl) -> None:
    system = ["coredns", "local-path-provisioner", "metrics-server", "svclb-traefik", "traefik"]
    assert pods_on(kubectl, SERVER) == system
    said = kubectl.refused("drain", SERVER)
    assert "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): kube-system/svclb-" in said
    assert "cannot delete Pods with local storage (use --delete-emptydir-data to override): kube-system/met" in said
    assert pods_on(kubectl, SERVER) == system
    done = kubectl("drain", SERVER, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s")
    evicted = sorted(line.split()[0].rsplit("-", 2)[0] for line in done.splitlines() if line.startswith("pod/"))
    assert evicted == ["pod/coredns", "pod/local-path-provisioner", "pod/metrics-server", "pod/traefik"]
    assert pods_on(kubectl, SERVER) == ["svclb-traefik"]
    kubectl("wait", "-n", "kube-system", "--for=condition=Ready", "pods", "--all", "--timeout=20s")
    assert len(kubectl("get", "pods", "-n", "kube-system", "-o", "name").split()) == 8


def test_pods_of_a_dead_node_stay_until_they_are_forced_away(kubectl: Kubectl) -> None:
    kubectl.lab.shell(AGENT, "systemctl stop k3s-agent")
    pod = kubectl(
        "get", "pods", "-n", "kube-system", "--field-selector", f"spec.nodeName={AGENT}", "-o", "name"
    ).strip()
    kubectl("delete", "-n", "kube-system", pod, "--wait=false")
    assert kubectl("get", "-n", "kube-system", pod, "--no-headers").split()[2] == "Terminating"
    kubectl("delete", "-n", "kube-system", pod, "--force", "--grace-period=0")
    assert "not found" in kubectl.refused("get", "-n", "kube-system", pod)


def test_a_deleted_node_goes_with_its_password_and_its_member(kubectl: Kubectl) -> None:
    kubectl.lab.shell(MEMBER, "systemctl disable --now k3s")
    assert kubectl("delete", "node", MEMBER, "--timeout=20s") == f'node "{MEMBER}" deleted\n'
    assert kubectl.refused("get", "node", MEMBER) == f'Error from server (NotFound): nodes "{MEMBER}" not found\n'
    cluster = kubectl.lab.snapshot()["k3s"][0]
    assert [name.rpartition("-")[0] for name in cluster["members"]] == [SERVER, "k3s-vm-pve1"]
    until(lambda: MEMBER not in kubectl.over_ssh("get", "secrets", "-n", "kube-system"))
    assert kubectl.refused("delete", "node", MEMBER) == f'Error from server (NotFound): nodes "{MEMBER}" not found\n'
    assert kubectl("delete", "node", MEMBER, "--ignore-not-found") == ""


def test_what_is_not_there_or_not_served_is_refused_by_name(kubectl: Kubectl) -> None:
    assert kubectl.refused("get", "node", "nobody") == 'Error from server (NotFound): nodes "nobody" not found\n'
    assert kubectl.refused("get", "widgets") == 'error: the server doesn\'t have a resource type "widgets"\n'
    assert "field label not supported: spec.foo" in kubectl.refused("get", "nodes", "--field-selector", "spec.foo=1")
    assert kubectl.refused("run", "x", "--image=y") == (
        "Error from server (NotImplemented): Method 'POST /api/v1/namespaces/default/pods' not implemented\n"
    )
    assert "this namespace may not be deleted" in kubectl.refused("delete", "namespace", "kube-system")


def test_objects_are_applied_and_deleted(kubectl: Kubectl, tmp_path: Path) -> None:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "1"}}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(document))
    assert kubectl("apply", "-f", str(path)) == "configmap/one created\n"
    assert kubectl("apply", "-f", str(path)) == "configmap/one unchanged\n"
    path.write_text(json.dumps(document | {"data": {"a": "2"}}))
    assert kubectl("apply", "-f", str(path)) == "configmap/one configured\n"
    assert kubectl("get", "configmap", "one", "-o", "jsonpath={.data}") == '{"a":"2"}'
    assert "already exists" in kubectl.refused("create", "-f", str(path))
    assert kubectl("delete", "configmap", "one") == 'configmap "one" deleted\n'


def test_a_cluster_without_quorum_is_not_ready_and_serves_nothing(kubectl: Kubectl) -> None:
    for server in ("k3s-vm-pve1", MEMBER):
        kubectl.lab.shell(server, "systemctl stop k3s")
    assert "[-]etcd failed: reason withheld" in kubectl.refused("get", "--raw", "/readyz")
    assert kubectl.refused("get", "nodes").endswith("the server is currently unable to handle the request\n")
    kubectl.lab.shell(MEMBER, "systemctl start k3s")
    kubectl("get", "nodes")


# --- other users -------------------------------------------------------------------------------------------------


def test_an_administrator_may_show_a_token(kubectl: Kubectl) -> None:
    path = str(kubectl.lab.kubeconfig("token"))
    assert kubectl("--kubeconfig", path, "get", "nodes", "-o", "name") == kubectl("get", "nodes", "-o", "name")
    assert kubectl("--kubeconfig", path, "auth", "can-i", "delete", "nodes") == "yes\n"
    kubectl("--kubeconfig", path, "cordon", AGENT)


def test_a_reader_is_forbidden_what_no_role_allows(kubectl: Kubectl) -> None:
    path = str(kubectl.lab.kubeconfig("reader"))
    assert AGENT in kubectl("--kubeconfig", path, "get", "nodes")
    assert "no" in kubectl.run("--kubeconfig", path, "auth", "can-i", "delete", "nodes").stdout
    said = kubectl.refused("--kubeconfig", path, "delete", "node", AGENT)
    user = "system:serviceaccount:kube-system:homelab-reader"
    text = f'nodes "{AGENT}" is forbidden: User "{user}" cannot delete resource "nodes" in API group "" at the cluster'
    assert text in said
    assert "is forbidden" in kubectl.refused("--kubeconfig", path, "get", "secrets", "-n", "kube-system")
    assert "is forbidden" in kubectl.run("--kubeconfig", path, "cordon", AGENT).stderr


@pytest.mark.parametrize(
    ("kind", "said"),
    [("expired", "logged in"), ("expired-token", "logged in"), ("foreign", "signed by unknown authority")],
)
def test_a_kubeconfig_that_is_good_no_more_leads_nowhere(kubectl: Kubectl, kind: str, said: str) -> None:
    assert said in kubectl.refused("--kubeconfig", str(kubectl.lab.kubeconfig(kind)), "get", "nodes")


def test_a_role_that_a_person_makes_is_what_its_account_may_do(kubectl: Kubectl) -> None:
    kubectl("create", "serviceaccount", "ann", "-n", "default")
    kubectl("create", "clusterrole", "cordoner", "--verb=get,list,patch", "--resource=nodes")
    kubectl("create", "clusterrolebinding", "ann", "--clusterrole=cordoner", "--serviceaccount=default:ann")
    token = kubectl("create", "token", "ann", "-n", "default", "--duration=15m").strip()
    server = yaml.safe_load(Path(kubectl.lab.env["KUBECONFIG"]).read_text())["clusters"][0]["cluster"]["server"]
    words = ("--kubeconfig", "/dev/null", "--server", server, "--insecure-skip-tls-verify", "--token", token)
    kubectl(*words, "cordon", AGENT)
    assert "is forbidden" in kubectl.refused(*words, "delete", "node", AGENT)
    kubectl("delete", "serviceaccount", "ann", "-n", "default")
    assert "logged in" in kubectl.refused(*words, "get", "nodes")


# --- what stands in the way of a drain ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "said", "cure"),
    [
        ("bare", "Pods that declare no controller (use --force to override): default/web-0", "--force"),
        ("scratch", "Pods with local storage (use --delete-emptydir-data to override): default/web-0", ""),
        ("local-path", "", ""),
    ],
)
def test_drain_names_a_pod_in_its_way_until_it_is_told_to_go_on(
    kubectl: Kubectl, kind: str, said: str, cure: str
) -> None:
    kubectl.lab.fault("pod-on", node=AGENT, kind=kind)
    if said:
        assert said in kubectl.refused("drain", AGENT, "--ignore-daemonsets", "--timeout=5s")
    words = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s", *([cure] if cure else [])]
    assert "pod/web-0 evicted" in kubectl("drain", AGENT, *words)


def test_eviction_is_refused_by_a_budget_until_that_is_gone(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.lab.fault("pod-on", node=AGENT, kind="budget")
    wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web-0", "namespace": "default"}}
    (tmp_path / "eviction.json").write_text(json.dumps(wanted))
    words = ("create", "--raw", "/api/v1/namespaces/default/pods/web-0/eviction", "-f", str(tmp_path / "eviction.json"))
    assert "Cannot evict pod as it would violate the pod's disruption budget." in kubectl.refused(*words)
    until(lambda: kubectl("get", "pdb", "web-0", "-o", "jsonpath={.status.disruptionsAllowed}") == "0")
    kubectl("delete", "pdb", "web-0")
    kubectl(*words)


def test_drain_waits_in_vain_for_a_pod_that_is_held(kubectl: Kubectl) -> None:
    kubectl.lab.fault("pod-on", node=AGENT, kind="stuck")
    assert 'waiting for pod "web-0"' in kubectl.refused("drain", AGENT, "--ignore-daemonsets", "--timeout=1s")
    assert kubectl("get", "pod", "web-0", "-o", "jsonpath={.metadata.deletionTimestamp}")


def test_volume_on_a_nodes_own_disk_names_its_node(kubectl: Kubectl) -> None:
    kubectl.lab.fault("pod-on", node=AGENT, kind="local-path", pod="db-0")
    [volume] = json.loads(kubectl("get", "pv", "-o", "json"))["items"]
    [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": [AGENT]}]
    assert volume["spec"]["claimRef"]["name"] == "db-0-data" and volume["spec"]["storageClassName"] == "local-path"
    assert kubectl("get", "pvc", "db-0-data", "-o", "jsonpath={.status.phase}") == "Bound"
    fields = f"spec.nodeName={AGENT}"
    assert "pod/db-0" in kubectl("get", "pods", "--field-selector", fields, "-o", "name")
    assert "db-0-data" in kubectl.over_ssh("get", "pv")


def test_pods_are_planted_only_on_nodes_and_of_known_kinds(kubectl: Kubectl) -> None:
    for options, said in (({"kind": "tree"}, "give plain"), ({"node": "nobody"}, "no Node 'nobody'")):
        with pytest.raises(UnknownChoice, match=said):
            kubectl.lab.fault("pod-on", **{"node": AGENT, **options})
    with pytest.raises(UnknownChoice, match="give admin"):
        kubectl.lab.kubeconfig("mine")
