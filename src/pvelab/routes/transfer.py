"""Files that come to a storage: uploads, and downloads by the node itself."""

from __future__ import annotations

import asyncio
import ipaddress
import posixpath
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp

from pvelab import progress
from pvelab.answers import ApiError, UploadedFile, bad_parameter, refused
from pvelab.routes.call import Call, route
from pvelab.rules import storages, volume_names, volumes
from pvelab.rules.images import inspect
from pvelab.rules.volumes import Place
from pvelab.shell.contents import Content
from pvelab.state import Node, Task, World

STORAGE = "/nodes/{node}/storage/{storage}"
UPLOAD = f"{STORAGE}/upload"
ENDINGS = {
    "iso": (re.compile(r".+\.(iso|img)", re.I), "wrong file extension"),
    "vztmpl": (re.compile(r".+\.tar\.(gz|xz|zst|bz2)"), "wrong file extension"),
    "import": (re.compile(r"[a-zA-Z0-9\-.+=_]+\.(ova|ovf|qcow2|raw|vmdk)"), "invalid filename or wrong extension"),
}
CHUNK_BYTES = 1 << 20
WGET_SERVER_ERROR = 8


@dataclass(frozen=True, slots=True)
class Target:
    """A file to be: where, and the checksum it must have."""

    place: Place
    content: str
    name: str
    checksum: str
    algorithm: str

    @property
    def path(self) -> str:
        """Its path on the node."""
        return posixpath.join(self.place.storage.path, volume_names.FOLDERS[self.content], self.name)


@route("POST", UPLOAD)
def upload_without_file(_call: Call) -> None:
    raise refused("missing temporary file name")


async def upload(call: Call, file: UploadedFile, receiver: Node) -> str:
    """Take a file that has arrived at the node `receiver`, which does the work. Returns the UPID. Raises ApiError."""
    arrived = _spool(call.world, receiver, file)
    try:
        target = _target_of_upload(call)
        if not call.node.is_up:
            raise refused(_not_activated(target))
    except ApiError:
        receiver.files.remove(arrived)
        raise
    seconds = call.world.timings.copy_s + file.path.stat().st_size / call.world.timings.import_bytes_per_s

    async def work(task: Task) -> progress.Steps:
        try:
            task.log.append(f"starting file import from: {arrived}")
            await _check_arrived(receiver, target, arrived, task)
            yield seconds
            _copy(receiver, target, arrived, task)
        finally:
            receiver.files.remove(arrived)

    return await progress.begin(call.world, progress.Job(receiver, "imgcopy", "", call.who), work)


def _spool(world: World, receiver: Node, file: UploadedFile) -> str:
    """Where pveproxy keeps an upload until it has come. Raises ApiError."""
    arrived = f"/var/tmp/pveupload-{world.random.getrandbits(128):032x}"
    receiver.files.make_folder(posixpath.dirname(arrived), parents=True)
    try:
        receiver.files.adopt(arrived, file.path, owned=True)
    except OSError as error:
        raise refused(f"write to temporary file failed - {error.strerror}") from error
    return arrived


@route("POST", f"{STORAGE}/download-url")
async def download(call: Call) -> str:
    target = _target_of_download(call)
    url = call.params["url"]

    async def work(task: Task) -> progress.Steps:
        task.log.append(f"downloading {url} to {target.path}")
        if call.node.files.exists(target.path):
            await _check_existing(call.node, target, task)
            return
        yield call.world.timings.download_s
        await _download(call.world, call.node, target, url, task)

    return await progress.begin(call.world, progress.Job(call.node, "download", target.name, call.who), work)


@route("GET", "/nodes/{node}/query-url-metadata")
async def query_url(call: Call) -> dict[str, Any]:
    url = call.params["url"]
    try:
        _check_reachable(url)
        async with aiohttp.ClientSession() as session, session.head(url, allow_redirects=True) as answer:
            if answer.status != 200:
                raise refused(f"invalid server response: '{answer.status} {answer.reason}'")
            return _metadata(url, answer.headers)
    except (aiohttp.ClientError, OSError):
        text = f"500 Can't connect to {urlsplit(url).netloc} (Connection refused)"
        raise refused(f"invalid server response: '{text}'") from None


def _metadata(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"filename": posixpath.basename(unquote(urlsplit(url).path))}
    if "Content-Length" in headers:
        shown["size"] = int(headers["Content-Length"])
    if "Content-Type" in headers:
        shown["mimetype"] = headers["Content-Type"].partition(";")[0]
    return shown


def _target_of_upload(call: Call) -> Target:
    place = volumes.at(call.world, call.node, call.params["storage"])
    if not storages.in_folder(place.storage):
        raise refused(f"can't upload to storage type '{place.storage.type}'")
    target = _target(call, place)
    if target.content not in place.storage.content:
        raise refused(f"storage '{place.storage.name}' does not support '{target.content}' content")
    return target


def _target_of_download(call: Call) -> Target:
    place = volumes.at(call.world, call.node, call.params["storage"])
    if not storages.in_folder(place.storage):
        raise refused(f"can't upload to storage type '{place.storage.type}', not a file based storage!")
    if call.params["content"] not in place.storage.content:
        name, content = place.storage.name, call.params["content"]
        raise refused(f"storage '{name}' is not configured for content-type '{content}'")
    return _target(call, place)


def _target(call: Call, place: Place) -> Target:
    content = call.params["content"]
    name = re.sub(r"[^a-zA-Z0-9+=_.\-]", "_", re.split(r"[/\\]", call.params["filename"])[-1])
    pattern, text = ENDINGS[content]
    if not pattern.fullmatch(name):
        raise bad_parameter("filename", text)
    return Target(place, content, name, call.params.get("checksum", ""), call.params.get("checksum-algorithm", ""))


async def _check_arrived(node: Node, target: Target, path: str, task: Task) -> None:
    content = node.files.content(path)
    if target.algorithm:
        found = await _digest(content, target.algorithm)
        if found.lower() != target.checksum.lower():
            task.log.append("calculating checksum...")
            raise refused(f"checksum mismatch: got '{found}' != expect '{target.checksum}'")
        task.log.append("calculating checksum...OK, checksum verified")
    _check_image(target, content, path, task)


def _check_image(target: Target, content: Content, path: str, task: Task) -> None:
    if target.content == "import" and target.name.endswith(".qcow2") and inspect(content).format != "qcow2":
        command = f"/usr/bin/qemu-img info '--output=json' {path} -f qcow2"
        task.log.append(f"command '{command}' failed: exit code 1")
        raise refused(f"qemu-img: Could not open '{path}': Image is not in qcow2 format")


def _copy(receiver: Node, target: Target, arrived: str, task: Task) -> None:
    content, node = receiver.files.content(arrived), target.place.node
    task.log += [
        f"target node: {node.hostname}",
        f"target file: {target.path}",
        f"file size is: {content.size_bytes}",
        f"command: {_copy_command(receiver, target, arrived)}",
    ]
    _place(node, target, content)
    task.log.append("finished file import successfully")


def _copy_command(receiver: Node, target: Target, arrived: str) -> str:
    node = target.place.node
    if node is receiver:
        return f"cp -- {arrived} {target.path}"
    return f"/usr/bin/scp {_ssh_options(node)} -p -- {arrived} [{node.address}]:{target.path}"


def _not_activated(target: Target) -> str:
    """What is said of a member that the node which received an upload cannot log in to."""
    node, storage = target.place.node, target.place.storage.name
    command = f"/usr/bin/ssh {_ssh_options(node)} {node.address} -- /usr/sbin/pvesm status --storage {storage}"
    return f"can't activate storage '{storage}' on node '{node.hostname}': command '{command}' failed: exit code 255"


def _ssh_options(node: Node) -> str:
    known_hosts = f"/etc/pve/nodes/{node.hostname}/ssh_known_hosts"
    trust = f"-o HostKeyAlias={node.hostname} -o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=none"
    return f"-o BatchMode=yes {trust}"


def _place(node: Node, target: Target, content: Content) -> None:
    try:
        node.files.make_folder(posixpath.dirname(target.path), parents=True)
        node.files.write(target.path, content)
    except OSError as error:
        raise refused(f"import failed: cp: error writing '{target.path}': {error.strerror}") from error


async def _check_existing(node: Node, target: Target, task: Task) -> None:
    if not target.algorithm:
        raise refused(f"refusing to override existing file '{target.path}'")
    found = await _digest(node.files.content(target.path), target.algorithm)
    if found.lower() != target.checksum.lower():
        task.log.append("calculating checksum of existing file...")
        raise refused(f"checksum mismatch: got '{found}' != expect '{target.checksum}', aborting")
    task.log.append("calculating checksum of existing file...OK, got correct file already, no need to download")


async def _download(world: World, node: Node, target: Target, url: str, task: Task) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(world.clock.now()))
    task.log.append(f"--{stamp}--  {url}")
    temporary = f"{target.path}.tmp_dwnl.{task.pid}"
    await _fetch(node, url, temporary, task)
    try:
        await _check_arrived(node, target, temporary, task)
    except BaseException:
        node.files.remove(temporary)
        raise
    node.files.rename(temporary, target.path)
    task.log.append(f"download of '{url}' to '{target.path}' finished")


async def _fetch(node: Node, url: str, temporary: str, task: Task) -> None:
    server = urlsplit(url)
    where = f"{server.hostname}:{server.port or (443 if server.scheme == 'https' else 80)}"
    node.files.make_folder(posixpath.dirname(temporary), parents=True)
    try:
        _check_reachable(url)
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            task.log.append(f"Connecting to {where}... connected.")
            task.log.append(f"HTTP request sent, awaiting response... {answer.status} {answer.reason}")
            if answer.status != 200:
                raise refused(f"download failed: exit code {WGET_SERVER_ERROR}")
            await _receive(node, answer, temporary)
    except aiohttp.ClientConnectorError:
        raise refused(f"download failed: Connecting to {where}... failed: Connection refused.") from None
    except aiohttp.ClientError as error:
        node.files.remove(temporary)
        raise refused(f"download failed: Connection closed: {error}") from None


async def _receive(node: Node, answer: aiohttp.ClientResponse, temporary: str) -> None:
    writer = node.files.open_writer(temporary)
    try:
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            writer.write(chunk)
    except OSError as error:
        node.files.remove(temporary)
        raise refused(f"download failed: {temporary}: {error.strerror}") from error
    writer.close()


def _check_reachable(url: str) -> None:
    """The lab's nodes reach loopback only."""
    host = urlsplit(url).hostname or ""
    try:
        is_near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_near = False
    if not is_near:
        raise refused(f"download failed: wget: unable to resolve host address '{host}'")


async def _digest(content: Content, algorithm: str) -> str:
    return await asyncio.to_thread(content.digest, algorithm)
