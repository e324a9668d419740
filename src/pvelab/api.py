"""The one door to the cluster's rules: HTTP requests and command lines both come through Api.call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pvelab import schema
from pvelab.answers import (
    ROOT_SSH,
    Answer,
    ApiError,
    UploadedFile,
    Who,
    bad_parameter,
    forbidden,
    refused,
    without_config,
)
from pvelab.routes import ROUTES, Call, Route, transfer
from pvelab.rules import permissions
from pvelab.state import Node, World

__all__ = ["ROOT_SSH", "Answer", "Api", "ApiError", "UploadedFile", "Who"]

PROXY_TIMEOUT_S = 30.0
INVALID_PARAMETERS = "Parameter verification failed."
IN_PATH_ALREADY = "duplicate parameter (already defined in URI) with conflicting values!"


@dataclass(frozen=True, slots=True)
class _Found:
    """A request that the schema knows and the caller may make."""

    route: Route
    call: Call


class Api:
    """The cluster's API, without HTTP."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def call(self, method: str, path: str, params: Mapping[str, str], who: Who, node: str) -> Answer:
        """Carry out METHOD path (without /api2/json) as received by `node`.

        Worker methods return the UPID as data at once. Raises ApiError.
        """
        found = await self._find(method, path, params, who, node)
        return await found.route(found.call)

    async def upload(self, path: str, params: Mapping[str, str], file: UploadedFile, who: Who, node: str) -> Answer:
        """POST /nodes/{node}/storage/{storage}/upload with a file that has arrived. Raises ApiError."""
        found = await self._find("POST", path, {**params, "filename": file.filename}, who, node)
        return Answer(await transfer.upload(found.call, file, self.world.nodes[node]))

    async def _find(self, method: str, path: str, params: Mapping[str, str], who: Who, node: str) -> _Found:
        path = "/" + path.strip("/")
        declared = schema.load(self.world.profile.release).find(method, path)
        route = ROUTES.get((method, declared.path)) if declared else None
        if declared is None or route is None:
            raise ApiError(501, f"Method '{method} {path}' not implemented")
        for name in sorted(params.keys() & declared.in_path.keys()):
            if params[name] != declared.in_path[name]:
                raise bad_parameter(name, IN_PATH_ALREADY)
        if who.token and not declared.allows_token:
            raise forbidden(f"URI '{path}' not available with API token, need proper ticket.\n")
        values = {**params, **declared.in_path}
        if values.get("node") == "localhost":
            values["node"] = node
        permissions.check(self.world, who, declared.permission, values)
        is_here = not declared.is_proxied and values.get("node") not in self.world.nodes
        target = self._node(node if is_here else values.get("node", node))
        if declared.is_proxied and target.hostname != node:
            await self._reach(target)
        errors = schema.verify(declared.properties, values)
        if errors:
            raise ApiError(400, INVALID_PARAMETERS, errors)
        return _Found(route, Call(self.world, who, target, values))

    def _node(self, name: str) -> Node:
        target = self.world.nodes.get(name)
        if target is None:
            reason = f"failed to get address info for: {name}: Name or service not known"
            raise refused(f"hostname lookup '{name}' failed - {reason}")
        return target

    async def _reach(self, target: Node) -> None:
        """Refuse unless the node that received the request can pass it on."""
        if not target.is_up:
            raise ApiError(595, "No route to host", has_body=False)
        if not target.has_config:
            raise without_config()
        if target.api == "refuses":
            raise ApiError(595, "Connection refused", has_body=False)
        if target.api == "hangs":
            await self.world.clock.sleep(PROXY_TIMEOUT_S)
            raise ApiError(596, "Connection timed out", has_body=False)
