"""The world as plain data to compare: what a run changed, and what a second one did not."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

from pvelab.guest import kube_nodes
from pvelab.guest.k3s_cluster import Cluster
from pvelab.guest.kube_objects import Document
from pvelab.rules import storages, volumes
from pvelab.shell.files import FileSystem
from pvelab.state import Node, World

FILE_FOLDERS = ("template/iso", "import", "snippets")


def snapshot(world: World, clusters: Iterable[Cluster]) -> dict[str, Any]:
    """VMs, volumes, the files that Proxmox serves to VMs, pools, and what k3s and etcd know."""
    return {
        "vms": vms(world),
        "volumes": {
            f"{node.hostname}/{name}": _volumes(world, node, name)
            for node in world.nodes.values()
            for name, storage in storages.all_storages(world).items()
            if storages.is_on(storage, node) and not storage.is_disabled
        },
        "files": {node.hostname: _files(world, node) for node in world.nodes.values()},
        "pools": {name: pool.comment for name, pool in world.pools.items()},
        "k3s": [_cluster(cluster) for cluster in clusters],
    }


def vms(world: World) -> dict[int, dict[str, Any]]:
    """VMs by VMID."""
    return {
        vmid: {"node": vm.node, "status": vm.qmp, "config": dict(vm.config), "pending": dict(vm.pending)}
        for vmid, vm in sorted(world.vms.items())
    }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return {
        "nodes": {node["metadata"]["name"]: _kubernetes_node(node) for node in cluster.store.list("nodes")},
        "secrets": sorted(secret["metadata"]["name"] for secret in cluster.store.list("secrets")),
        "members": {member.name: "learner" if member.is_learner else "voter" for member in cluster.etcd.members},
        "tokens": sorted(cluster.tokens.bootstrap),
    }


def _kubernetes_node(node: Document) -> dict[str, Any]:
    return {
        "ready": kube_nodes.is_ready(node),
        "uuid": node["status"]["nodeInfo"]["systemUUID"],
        "labels": dict(node["metadata"]["labels"]),
        "taints": [taint["key"] for taint in node["spec"].get("taints", [])],
        "unschedulable": node["spec"].get("unschedulable", False),
    }


def _volumes(world: World, node: Node, storage: str) -> dict[str, int]:
    place = volumes.at(world, node, storage)
    return {one.volid: one.size_bytes for one in volumes.listing(place) if one.content == "images"}


def _files(world: World, node: Node) -> dict[str, str]:
    folders = [
        posixpath.join(storage.path, below)
        for storage in storages.all_storages(world).values()
        if storages.in_folder(storage) and storages.is_on(storage, node)
        for below in FILE_FOLDERS
    ]
    return {path: node.files.content(path).digest() for folder in folders for path in _paths(node.files, folder)}


def _paths(files: FileSystem, folder: str) -> list[str]:
    if not files.is_folder(folder):
        return []
    paths = [posixpath.join(folder, name) for name in files.names(folder)]
    return [path for path in paths if files.is_file(path)]
