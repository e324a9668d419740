"""The Kubernetes API on the wire, asked by requests: credentials, refusals, patches, watches."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from pvelab.guest import kube_nodes, kube_patch
from pvelab.guest.kube_objects import KubeError
from pvelab.lab import Lab

NODE = "/api/v1/nodes/k3s-server"
STRATEGIC, MERGE, JSON = (f"application/{kind}+json" for kind in ("strategic-merge-patch", "merge-patch", "json-patch"))
PATIENCE_S = 5.0


class Client:
    """requests with a client certificate, in front of the server outside."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.base = f"https://{lab.env['K3S_EXISTING_NODE_IP']}:6443"
        self.session = requests.Session()
        self.session.trust_env = False
        config = yaml.safe_load(Path(lab.env["KUBECONFIG"]).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.session.verify = self.keep("ca", cluster["certificate-authority-data"])
        self.show(user["client-certificate-data"], user["client-key-data"])

    def keep(self, name: str, data: str) -> str:
        """Write what a kubeconfig carries into a file."""
        path = self.folder / name
        path.write_bytes(base64.b64decode(data))
        return str(path)

    def show(self, certificate: str, key: str) -> None:
        """Be known by another certificate."""
        self.session.close()
        self.session.cert = (self.keep("client.pem", certificate), self.keep("client.key", key))

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Any request."""
        return self.session.request(method, f"{self.base}{path}", timeout=PATIENCE_S, **options)

    def get(self, path: str, **headers: str) -> Any:
        """The JSON of a GET that succeeds."""
        answer = self.ask("GET", path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def patch(self, kind: str, patch: Any, path: str = NODE) -> requests.Response:
        """Send a patch."""
        return self.ask("PATCH", path, headers={"Content-Type": kind}, data=json.dumps(patch))


@pytest.fixture
def client(lab: Lab, tmp_path: Path) -> Iterator[Client]:
    made = Client(lab, tmp_path)
    yield made
    made.session.close()


def status(answer: requests.Response) -> tuple[int, str, str]:
    """Code, reason and message of a Status."""
    document = answer.json()
    assert (document["kind"], document["status"], document["code"]) == ("Status", "Failure", answer.status_code)
    return answer.status_code, document["reason"], document["message"]


def test_without_a_certificate_only_the_supervisors_paths_answer(client: Client) -> None:
    client.session.cert = None
    assert client.ask("GET", "/ping").text == "pong"
    assert client.ask("GET", "/cacerts").text.startswith("-----BEGIN CERTIFICATE")
    for path in ("/version", "/readyz", "/api", "/api/v1/nodes", "/nothing"):
        assert status(client.ask("GET", path)) == (401, "Unauthorized", "Unauthorized")
    token = {"Authorization": "Bearer nonsense"}
    assert client.ask("GET", "/version", headers=token).status_code == 401


def test_who_is_no_administrator_is_forbidden_by_name(client: Client) -> None:
    def issue(_world: object) -> tuple[str, str]:
        clusters = client.lab._site.guests.clusters
        names = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "guests"),
            x509.NameAttribute(NameOID.COMMON_NAME, "ann"),
        ]
        issued = next(iter(clusters.authorities.values())).client.issue_client(x509.Name(names))
        return base64.b64encode(issued.certificate_pem).decode(), base64.b64encode(issued.key_pem).decode()

    client.show(*client.lab.look(issue))
    forbidden = 'User "ann" cannot'
    assert status(client.ask("GET", "/api/v1/nodes")) == (
        403,
        "Forbidden",
        f'nodes is forbidden: {forbidden} list resource "nodes" in API group "" at the cluster scope',
    )
    assert status(client.ask("DELETE", "/api/v1/namespaces/default/secrets/x"))[2] == (
        f'secrets "x" is forbidden: {forbidden} delete resource "secrets" in API group "" in the namespace "default"'
    )
    assert status(client.ask("GET", "/metrics"))[2] == f'forbidden: {forbidden} get path "/metrics"'
    assert client.get("/version")["gitVersion"].startswith("v1.")
    eviction = client.ask("POST", "/api/v1/namespaces/default/pods/x/eviction")
    assert f'{forbidden} create resource "pods/eviction"' in status(eviction)[2]


def test_discovery_is_told_whole_to_those_who_can_read_it(client: Client) -> None:
    assert client.get("/api")["versions"] == ["v1"]
    groups = ["apps", "batch", "coordination.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"]
    groups += ["storage.k8s.io", "metrics.k8s.io"]
    assert [group["name"] for group in client.get("/apis")["groups"]] == groups
    assert client.get("/apis/metrics.k8s.io")["preferredVersion"]["version"] == "v1beta1"
    measured = client.get("/apis/metrics.k8s.io/v1beta1")["resources"]
    assert [(one["name"], one["kind"]) for one in measured] == [("nodes", "NodeMetrics"), ("pods", "PodMetrics")]
    assert {one["name"]: one["verbs"] for one in client.get("/api/v1")["resources"]}["pods/log"] == ["get"]
    assert client.get("/apis/apps")["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    plain = {one["name"]: one for one in client.get("/api/v1")["resources"]}
    assert plain["nodes"]["singularName"] == "node" and plain["nodes"]["shortNames"] == ["no"]
    assert plain["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "group": "policy",
        "version": "v1",
        "kind": "Eviction",
        "verbs": ["create"],
    }
    kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = client.ask("GET", "/apis", headers={"Accept": f"{kind},application/json"})
    assert answer.headers["Content-Type"] == kind
    assert [group["metadata"]["name"] for group in answer.json()["items"]] == groups


def test_a_table_is_given_where_it_is_wanted_first(client: Client) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = client.get("/api/v1/nodes", Accept=accept)
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]][:5] == [
        "Name",
        "Status",
        "Roles",
        "Age",
        "Version",
    ]
    assert table["rows"][0]["cells"][:2] == ["k3s-server", "Ready"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = client.get("/api/v1/nodes?includeObject=Object", Accept=accept)
    assert "status" in whole["rows"][0]["object"]
    listed = client.get("/api/v1/nodes", Accept="application/json")
    assert listed["kind"] == "NodeList" and "kind" not in listed["items"][0]


METRICS = "/apis/metrics.k8s.io/v1beta1"


def lose_the_node(client: Client) -> None:
    """The kubelet of the only node is heard no more."""

    def lose(_world: object) -> None:
        cluster = client.lab._site.guests.clusters.endpoints[client.lab.env["K3S_EXISTING_NODE_IP"]].cluster
        edit = functools.partial(kube_nodes.mark_unreachable, now=cluster.timer.now())
        cluster.store.change("nodes", "k3s-server", edit)

    client.lab.look(lose)


def test_metrics_are_of_nodes_that_answer_and_their_pods(client: Client) -> None:
    listed = client.get(f"{METRICS}/nodes")
    assert listed["kind"] == "NodeMetricsList" and len(listed["items"]) == 1
    assert client.get(f"{METRICS}/nodes/k3s-server")["usage"].keys() == {"cpu", "memory"}
    pods = client.get(f"{METRICS}/namespaces/kube-system/pods")["items"]
    assert {pod["kind"] for pod in pods} == {"PodMetrics"} and len(pods) == len(client.get(f"{METRICS}/pods")["items"])
    lose_the_node(client)
    assert client.get(f"{METRICS}/nodes")["items"] == client.get(f"{METRICS}/pods")["items"] == []
    assert status(client.ask("GET", f"{METRICS}/nodes/k3s-server")) == (
        404,
        "NotFound",
        'nodes.metrics.k8s.io "k3s-server" not found',
    )


def test_a_lease_is_renewed_while_its_node_lives(client: Client) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    [lease] = client.get(path)["items"]
    assert lease["spec"]["holderIdentity"] == "k3s-server"
    assert client.get(f"{path}/k3s-server")["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert status(client.ask("GET", f"{path}/x"))[2] == 'leases.coordination.k8s.io "x" not found'
    assert status(client.ask("DELETE", f"{path}/k3s-server"))[1] == "NotImplemented"


def test_logs_are_empty_and_need_the_kubelet(client: Client) -> None:
    name = client.get("/api/v1/pods")["items"][0]["metadata"]["name"]
    path = f"/api/v1/namespaces/kube-system/pods/{name}"
    answer = client.ask("GET", f"{path}/log?container=x")
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["Content-Type"].startswith("text/plain")
    lose_the_node(client)
    assert "502 Bad Gateway" in status(client.ask("GET", f"{path}/log"))[2]
    assert status(client.ask("POST", f"{path}/exec"))[1] == "NotImplemented"


def test_somebody_is_told_who_they_are_and_what_they_may(client: Client) -> None:
    access = client.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json={"spec": {}})
    assert (access.status_code, access.json()["status"]) == (201, {"allowed": True})
    unread = client.ask(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        headers={"Content-Type": "application/vnd.kubernetes.protobuf"},
        data=b"k8s\0...",
    )
    assert "the lab cannot read this object" in status(unread)[2]
    oneself = client.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json={}).json()
    assert oneself["status"]["userInfo"] == {
        "username": "system:admin",
        "groups": ["system:authenticated", "system:masters"],
    }


def test_what_is_not_there_is_not_found(client: Client) -> None:
    assert status(client.ask("GET", "/api/v1/nodes/nobody")) == (404, "NotFound", 'nodes "nobody" not found')
    assert status(client.ask("GET", "/apis/apps/v1/namespaces/default/deployments/x"))[2] == (
        'deployments.apps "x" not found'
    )
    for path in (
        "/api/v1/widgets",
        "/apis/metrics.k8s.io/v1beta1/widgets",
        "/nothing",
        "/api/v1/nodes/k3s-server/proxy",
    ):
        assert status(client.ask("GET", path)) == (
            404,
            "NotFound",
            "the server could not find the requested resource",
        )


def test_what_the_lab_does_not_do_is_refused_by_name(client: Client) -> None:
    for method, path in (
        ("POST", "/api/v1/nodes"),
        ("DELETE", "/api/v1/nodes"),
        ("PUT", "/apis/apps/v1/namespaces/kube-system/deployments/coredns"),
        ("GET", "/api/v1/namespaces/kube-system/pods/x/eviction"),
    ):
        refused = status(client.ask(method, path))
        assert refused == (501, "NotImplemented", f"Method '{method} {path}' not implemented")


def test_an_update_of_what_has_changed_meanwhile_is_a_conflict(client: Client) -> None:
    node = client.get(NODE)
    assert client.patch(MERGE, {"metadata": {"labels": {"a": "b"}}}).status_code == 200
    refused = status(client.ask("PUT", NODE, json=node))
    assert refused[:2] == (409, "Conflict")
    assert refused[2].startswith('Operation cannot be fulfilled on nodes "k3s-server": the object has been modified')
    latest = client.get(NODE)
    latest["metadata"]["labels"]["c"] = "d"
    assert client.ask("PUT", NODE, json=latest).json()["metadata"]["labels"]["c"] == "d"
    body = {"preconditions": {"uid": "another"}}
    assert status(client.ask("DELETE", NODE, json=body))[:2] == (409, "Conflict")
    assert status(client.patch(MERGE, {"metadata": {"uid": "another"}}))[0] == 409


def test_the_three_kinds_of_patches_change_a_node(client: Client) -> None:
    taint = {"key": "a", "effect": "NoSchedule"}
    assert client.patch(STRATEGIC, {"spec": {"taints": [taint]}}).json()["spec"]["taints"] == [taint]
    changed = client.patch(STRATEGIC, {"spec": {"unschedulable": True}}).json()
    assert [one["key"] for one in changed["spec"]["taints"]] == ["a", "node.kubernetes.io/unschedulable"]
    changed = client.patch(MERGE, {"spec": {"unschedulable": None, "taints": None}}).json()
    assert changed["spec"].keys() & {"taints", "unschedulable"} == set()
    operations = [
        {"op": "test", "path": "/metadata/name", "value": "k3s-server"},
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "c"},
        {"op": "copy", "from": "/metadata/labels/a~1b", "path": "/metadata/labels/d"},
        {"op": "move", "from": "/metadata/labels/d", "path": "/metadata/labels/e"},
        {"op": "replace", "path": "/metadata/labels/e", "value": "f"},
        {"op": "remove", "path": "/metadata/labels/a~1b"},
    ]
    labels = client.patch(JSON, operations).json()["metadata"]["labels"]
    assert (labels["e"], labels.keys() & {"a/b", "d"}) == ("f", set())
    assert status(client.patch(JSON, [{"op": "remove", "path": "/metadata/labels/none"}]))[0] == 422
    assert status(client.patch("application/apply-patch+yaml", {}))[:2] == (415, "UnsupportedMediaType")
    dry = client.patch(MERGE, {"metadata": {"labels": {"dry": "run"}}}, f"{NODE}?dryRun=All").json()
    assert dry["metadata"]["labels"]["dry"] == "run"
    assert "dry" not in client.get(NODE)["metadata"]["labels"]


def test_a_patch_of_the_status_leaves_the_rest_alone_and_the_other_way_round(client: Client) -> None:
    condition = {"type": "Frobnicated", "status": "True"}
    patch = {"status": {"conditions": [condition]}, "spec": {"unschedulable": True}}
    changed = client.patch(STRATEGIC, patch, f"{NODE}/status").json()
    assert "unschedulable" not in changed["spec"]
    assert {one["type"]: one["status"] for one in changed["status"]["conditions"]}.items() >= {
        ("Frobnicated", "True"),
        ("Ready", "True"),
    }
    changed = client.patch(STRATEGIC, {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}).json()
    assert {one["type"]: one["status"] for one in changed["status"]["conditions"]}["Ready"] == "True"


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ({"metadata": {"labels": {"a": "not good"}}}, "metadata.labels: Invalid value"),
        ({"metadata": {"labels": {"a b": "c"}}}, "metadata.labels: Invalid value"),
        ({"spec": {"taints": [{"key": "a", "effect": "Never"}]}}, "effect: Unsupported value"),
        ({"spec": {"taints": [{"key": "a b", "effect": "NoExecute"}]}}, "key: Invalid value"),
        ({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}] * 2}}, "taints must be unique"),
        ({"spec": {"podCIDR": "10.0.0.0/8"}}, "spec: Forbidden: node updates may only change"),
    ],
)
def test_what_a_node_may_not_become_is_invalid(client: Client, patch: dict[str, Any], text: str) -> None:
    refused = status(client.patch(MERGE, patch))
    assert refused[:2] == (422, "Invalid")
    assert refused[2].startswith('Node "k3s-server" is invalid: ') and text in refused[2]


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"a": 1}}},
        {"metadata": {"annotations": ["a"]}},
        {"metadata": {"finalizers": "a"}},
        {"metadata": {"name": "other"}},
        {"spec": "nothing"},
        {"spec": {"taints": ["a"]}},
        "nothing",
    ],
)
def test_what_is_no_node_at_all_is_a_bad_request(client: Client, patch: Any) -> None:
    assert status(client.patch(MERGE, patch))[:2] == (400, "BadRequest")
    assert status(client.ask("GET", "/api/v1/nodes?watch=1&timeoutSeconds=soon"))[:2] == (400, "BadRequest")


def test_a_node_without_finalizers_goes_at_once_and_leaves_its_member(client: Client) -> None:
    assert client.patch(MERGE, {"metadata": {"finalizers": None}}).json()["metadata"]["finalizers"] == []
    assert client.ask("DELETE", NODE).json()["status"] == "Success"
    assert client.ask("GET", NODE).status_code == 404
    assert len(client.lab.snapshot()["k3s"][0]["members"]) == 1


def test_the_secret_of_a_node_password_is_immutable(client: Client) -> None:
    path = "/api/v1/namespaces/kube-system/secrets/k3s-server.node-password.k3s"
    assert "field is immutable" in status(client.patch(MERGE, {"data": {"hash": "AAAA"}}, path))[2]
    assert client.ask("DELETE", path).json()["status"] == "Success"
    assert client.ask("GET", path).status_code == 404


def events(answer: requests.Response, count: int) -> list[tuple[str, Any]]:
    """The first events of a watch."""
    lines = answer.iter_lines()
    found = [json.loads(next(lines)) for _ in range(count)]
    answer.close()
    return [(event["type"], event["object"]) for event in found]


def test_a_watch_tells_what_came_after_a_version_and_nothing_else(client: Client) -> None:
    version = client.get("/api/v1/nodes")["metadata"]["resourceVersion"]
    client.patch(MERGE, {"metadata": {"labels": {"a": "b"}}})
    client.patch(MERGE, {"metadata": {"labels": {"a": None}}})
    query = f"/api/v1/nodes?watch=true&resourceVersion={version}"
    told = events(client.ask("GET", query, stream=True), 2)
    assert [(kind, "a" in node["metadata"]["labels"]) for kind, node in told] == [
        ("MODIFIED", True),
        ("MODIFIED", False),
    ]
    told = events(client.ask("GET", f"{query}&labelSelector=a", stream=True), 2)
    assert [kind for kind, _ in told] == ["ADDED", "DELETED"]


def test_a_watch_without_a_version_begins_with_what_there_is(client: Client) -> None:
    (told,) = events(client.ask("GET", "/api/v1/nodes?watch=1", stream=True), 1)
    assert (told[0], told[1]["metadata"]["name"]) == ("ADDED", "k3s-server")
    query = "/api/v1/nodes?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    told = events(client.ask("GET", query, stream=True), 2)[1]
    assert told[0] == "BOOKMARK"
    assert told[1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_version_that_is_forgotten_is_gone(client: Client) -> None:
    client.get("/version")
    ((kind, told),) = events(client.ask("GET", "/api/v1/nodes?watch=1&resourceVersion=1", stream=True), 1)
    assert (kind, told["code"], told["reason"]) == ("ERROR", 410, "Expired")
    assert told["message"].startswith("too old resource version: 1 (")


def test_an_eviction_asks_the_disruption_budget(client: Client) -> None:
    pods = "/api/v1/namespaces/kube-system/pods"
    name = client.get(f"{pods}?labelSelector=k8s-app%20in%20(kube-dns)")["items"][0]["metadata"]["name"]
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "dns"},
        "spec": {"maxUnavailable": "0%", "selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
    }
    budgets = "/apis/policy/v1/namespaces/kube-system/poddisruptionbudgets"
    assert client.ask("POST", budgets, json=budget).status_code == 201
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    refused = client.ask("POST", f"{pods}/{name}/eviction", json=eviction)
    assert status(refused)[:2] == (429, "TooManyRequests")
    assert refused.json()["details"]["causes"][0]["message"] == (
        "The disruption budget dns needs 1 healthy pods and has 1 currently"
    )
    assert client.ask("DELETE", f"{budgets}/dns").json()["details"]["group"] == "policy"
    assert client.ask("POST", f"{pods}/{name}/eviction", json=eviction).json()["status"] == "Success"
    assert client.get(f"{pods}/{name}")["metadata"]["deletionGracePeriodSeconds"] == 30
    client.lab.shell("k3s-server", "sleep 5")
    assert client.ask("GET", f"{pods}/{name}").status_code == 404


def test_a_namespace_takes_what_is_in_it_along(client: Client) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}}
    assert client.ask("POST", "/api/v1/namespaces", json=namespace).json()["status"] == {"phase": "Active"}
    assert status(client.ask("POST", "/api/v1/namespaces", json=namespace))[:2] == (409, "AlreadyExists")
    entry = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    assert client.ask("POST", "/api/v1/namespaces/mine/configmaps", json=entry).status_code == 201
    assert status(client.ask("POST", "/api/v1/namespaces/other/configmaps", json=entry))[0] == 404
    assert status(client.ask("POST", "/api/v1/namespaces/mine/secrets", json=entry))[0] == 400
    client.ask("DELETE", "/api/v1/namespaces/mine")
    assert client.ask("GET", "/api/v1/namespaces/mine/configmaps/one").status_code == 404


def test_requests_are_recorded_and_only_changes_count_as_writes(client: Client) -> None:
    client.get(NODE)
    client.patch(MERGE, {"metadata": {"labels": {"a": "b"}}})
    seen = [(one.via, one.node, one.what, one.is_write, one.status) for one in client.lab.requests]
    assert seen == [
        ("kubernetes", "k3s-server", f"GET {NODE}", False, 200),
        ("kubernetes", "k3s-server", f"PATCH {NODE}", True, 200),
    ]


@pytest.mark.parametrize(
    ("held", "patch", "result"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}, {"a": {"c": 2, "d": 3}}),
        ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}),
        ({"a": 1, "b": 2}, {"$retainKeys": ["b"], "b": 3}, {"b": 3}),
        ({"taints": [{"key": "a"}]}, {"taints": [{"key": "b"}]}, {"taints": [{"key": "b"}]}),
        ({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["a", "b"]}),
        ({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, {"finalizers": ["b"]}),
        (
            {"volumes": [{"name": "a", "x": 1}, {"name": "b"}]},
            {"volumes": [{"name": "a", "y": 2}, {"name": "b", "$patch": "delete"}]},
            {"volumes": [{"name": "a", "x": 1, "y": 2}]},
        ),
        (
            {"env": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
            {"$setElementOrder/env": [{"name": "c"}, {"name": "a"}], "env": []},
            {"env": [{"name": "c"}, {"name": "a"}, {"name": "b"}]},
        ),
        ({"env": [{"name": "a"}]}, {"env": [{"name": "b"}, {"$patch": "replace"}]}, {"env": [{"name": "b"}]}),
    ],
)
def test_a_strategic_merge_knows_its_directives(held: Any, patch: Any, result: Any) -> None:
    assert kube_patch.strategically_merged(held, patch) == result


def test_a_patch_that_is_no_json_is_a_bad_request() -> None:
    with pytest.raises(KubeError, match="error decoding patch"):
        kube_patch.patched({"metadata": {}}, MERGE, b"{")
    with pytest.raises(KubeError, match="leaves no object"):
        kube_patch.patched({"metadata": {}}, MERGE, b"[]")
