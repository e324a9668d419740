"""The verbs of kubectl."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from pvelab.guest import kube_nodes, kube_writes, kubectl_print
from pvelab.guest.jsonpath import select
from pvelab.guest.k3s_release import version_of
from pvelab.guest.kube_objects import Document, KubeError, not_found
from pvelab.guest.kube_requests import Place
from pvelab.guest.kube_resources import Resource
from pvelab.guest.kube_writes import Removal
from pvelab.guest.kubectl import FOREVER_S, Call, Complaint, Verb, raw, resource_of, seconds
from pvelab.guest.kubectl_drain import cordon, drain, uncordon

_POLL_S = 0.5
_WAIT_S = 30.0
_PAIR = re.compile(r"([\w./-]+)=(.*)", re.DOTALL)
_REMOVAL = re.compile(r"([\w./-]+)-")
_TAINT = re.compile(r"([\w./-]+)(?:=([\w.-]*))?(?::(NoSchedule|PreferNoSchedule|NoExecute))?(-?)")

Edit = Callable[[Document], None]


async def _get(call: Call) -> int:
    if "raw" in call.options:
        call.process.out += await raw(call, call.options.value("raw"))
        return 0
    code = 0
    words = [word for text in call.words[:1] for word in text.split(",")] or [""]
    for position, word in enumerate(words):
        resource, names = replace(call, words=[word, *call.words[1:]]).objects()
        if position and call.options.value("output") in ("", "wide"):
            call.process.print("")
        code = _get_one(call, resource, names, has_kinds=len(words) > 1) or code
    return code


def _get_one(call: Call, resource: Resource, names: list[str], *, has_kinds: bool) -> int:
    store, code = call.cluster.store, 0
    is_everywhere = "all-namespaces" in call.options and resource.is_namespaced
    place = None if is_everywhere else call.place(resource)
    if names:
        documents = []
        for name in names:
            found = store.find(resource.plural, name, place or "")
            if found:
                documents.append(found)
            elif "ignore-not-found" not in call.options:
                call.process.complain(f'Error from server (NotFound): {resource.qualified} "{name}" not found')
                code = 1
        if not documents:
            return code
    else:
        wanted = Place(resource, place)
        query = {"labelSelector": call.options.value("selector"), "fieldSelector": call.options.value("field-selector")}
        documents = [one for one in store.list(resource.plural, place) if wanted.is_wanted(one, query)]
    style = kubectl_print.Style(
        output=call.options.value("output"),
        is_list=len(names) != 1,
        has_namespaces=is_everywhere,
        has_titles="no-headers" not in call.options,
        has_kinds=has_kinds,
    )
    _print(call, resource, documents, style)
    return code


def _print(call: Call, resource: Resource, documents: list[Document], style: kubectl_print.Style) -> None:
    output = style.output
    if not documents and output in ("", "wide"):
        where = f" in {call.namespace} namespace." if resource.is_namespaced and not style.has_namespaces else ""
        call.process.complain(f"No resources found{where}")
        return
    shown = kubectl_print.show(documents, resource, style, call.guest.clock.now())
    call.process.out += shown.encode() + (b"" if output.startswith("jsonpath") or not shown else b"\n")


async def _delete(call: Call) -> int:
    resource, names = call.objects()
    chosen = call.chosen(resource, names)
    if not chosen and not names and "selector" not in call.options and "all" not in call.options:
        raise Complaint("error: resource(s) were provided, but no name was specified")
    code = 0
    grace = call.options.value("grace-period", "1" if "now" in call.options else "-1")
    removal = Removal(None if int(grace) < 0 else int(grace))
    for name in chosen:
        try:
            kube_writes.remove(call.cluster, call.target(resource, name), removal)
            call.process.print(f'{resource.shown} "{name}" deleted')
        except KubeError as error:
            if error.code != HTTPStatus.NOT_FOUND or "ignore-not-found" not in call.options:
                call.process.complain(f"Error from server ({error.reason}): {error.message}")
                code = 1
    return await _await_gone(call, resource, chosen) or code


async def _await_gone(call: Call, resource: Resource, names: list[str]) -> int:
    if "--wait=false" in call.process.argv:
        return 0
    limit_s = seconds(call.options.value("timeout", "0"), FOREVER_S)
    for name in names:
        while call.cluster.store.find(resource.plural, name, call.place(resource)):
            if limit_s <= 0:
                raise Complaint(f"error: timed out waiting for the condition on {resource.qualified}/{name}")
            await call.guest.clock.sleep(_POLL_S)
            limit_s -= _POLL_S
    return 0


async def _annotate(call: Call) -> int:
    return _mark(call, "annotations", "annotated")


async def _label(call: Call) -> int:
    return _mark(call, "labels", "labeled")


def _mark(call: Call, field: str, done: str) -> int:
    is_change = [bool(_PAIR.fullmatch(word) or _REMOVAL.fullmatch(word)) for word in call.words]
    first = next((n for n, found in enumerate(is_change) if found and n > 0), len(call.words))
    changes = call.words[first:]
    plain = Call(call.guest, call.process, call.cluster, call.options, call.words[:first])
    resource, names = plain.objects()
    if not changes:
        raise Complaint(f"error: at least one {field.removesuffix('s')} update is required")
    if not names and not call.options.flags & {"all"} and "selector" not in call.options:
        raise Complaint("error: resource(s) were provided, but no name was specified")
    for name in call.chosen(resource, names):
        before = call.cluster.store.get(resource.plural, name, call.place(resource))
        _refuse_overwriting(call, before, field, changes)
        after = kube_writes.edit(call.cluster, call.target(resource, name), _marking(field, changes))
        removes = all(_REMOVAL.fullmatch(word) for word in changes)
        word = "unlabeled" if removes and field == "labels" else done
        if before["metadata"].get(field) == after["metadata"].get(field):
            word = f"not {done}" if field == "labels" else done
        call.process.print(f"{resource.shown}/{name} {word}")
    return 0


def _refuse_overwriting(call: Call, document: Document, field: str, changes: list[str]) -> None:
    if "overwrite" in call.options:
        return
    for word in changes:
        pair = _PAIR.fullmatch(word)
        held = document["metadata"].get(field, {})
        if pair and pair[1] in held and held[pair[1]] != pair[2]:
            if field == "labels":
                raise Complaint(f"error: '{pair[1]}' already has a value ({held[pair[1]]}), and --overwrite is false")
            raise Complaint(
                "error: --overwrite is false but found the following declared annotation(s): "
                f"'{pair[1]}' already has a value ({held[pair[1]]})"
            )


def _marking(field: str, changes: list[str]) -> Edit:
    def edit(document: Document) -> None:
        held = document["metadata"].setdefault(field, {})
        for word in changes:
            pair = _PAIR.fullmatch(word)
            if pair:
                held[pair[1]] = pair[2]
            else:
                held.pop(word[:-1], None)

    return edit


async def _taint(call: Call) -> int:
    _, name, *changes = [*call.words, "", ""]
    resource = resource_of(call.words[0] if call.words else "")
    changes = [word for word in changes if word]
    if resource.plural != "nodes" or not name or not changes:
        raise Complaint("error: at least one taint update is required")
    for word in changes:
        if not _TAINT.fullmatch(word):
            raise Complaint(f"error: unknown taint spec: {word}")
    kube_writes.edit(call.cluster, call.target(resource, name), _tainting(changes))
    is_removal = all(word.endswith("-") for word in changes)
    call.process.print(f"node/{name} {'untainted' if is_removal else 'tainted'}")
    return 0


def _tainting(changes: list[str]) -> Edit:
    def edit(node: Document) -> None:
        for word in changes:
            found = _TAINT.fullmatch(word)
            key, effect = (found[1], found[3]) if found else (word, "")
            left = [
                taint
                for taint in node["spec"].get("taints", [])
                if taint["key"] != key or (effect and taint["effect"] != effect)
            ]
            if not word.endswith("-"):
                left.append(kube_nodes.parse_taint(word))
            node["spec"].pop("taints", None)
            if left:
                node["spec"]["taints"] = left

    return edit


async def _wait(call: Call) -> int:
    resource, names = call.objects()
    limit_s = seconds(call.options.value("timeout", "30s"), _WAIT_S)
    for name in call.chosen(resource, names):
        waited_s = 0.0
        while not _is_so(call, resource, name):
            if waited_s >= limit_s:
                raise Complaint(f"error: timed out waiting for the condition on {resource.qualified}/{name}")
            await call.guest.clock.sleep(_POLL_S)
            waited_s += _POLL_S
        call.process.print(f"{resource.shown}/{name} condition met")
    return 0


def _is_so(call: Call, resource: Resource, name: str) -> bool:
    kind, _, wanted = call.options.value("for").partition("=")
    found = call.cluster.store.find(resource.plural, name, call.place(resource))
    if kind == "delete":
        return found is None
    if found is None:
        raise not_found(resource.plural, name)
    if kind == "condition":
        condition, _, status = wanted.partition("=")
        held = kube_nodes.condition(found, condition)
        return held is not None and held["status"].lower() == (status or "true").lower()
    if kind == "jsonpath":
        path, _, value = wanted.strip("'").partition("=")
        return value.strip("'") in [str(one) for one in select(path.strip("{}"), found)]
    raise Complaint(f'error: unrecognized condition: "{call.options.value("for")}"')


async def _version(call: Call) -> int:
    binary = call.guest.k3s_binary("k3s")
    client = version_of(call.guest.files.read(binary)) if binary else ""
    call.process.print(f"Client Version: {client}\nKustomize Version: v5.6.0")
    if "client" not in call.options:
        call.process.print(f"Server Version: {call.cluster.servers[call.guest.address].version}")
    return 0


VERBS: dict[str, Verb] = {
    "annotate": _annotate,
    "cordon": cordon,
    "delete": _delete,
    "drain": drain,
    "get": _get,
    "label": _label,
    "taint": _taint,
    "uncordon": uncordon,
    "version": _version,
    "wait": _wait,
}
