"""The one door to the cluster's rules: HTTP requests and command lines both come through Api.call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pvelab.answers import ROOT_SSH, Answer, ApiError, UploadedFile, Who

if TYPE_CHECKING:
    from pvelab.state import World

__all__ = ["ROOT_SSH", "Answer", "Api", "ApiError", "UploadedFile", "Who"]


class Api:
    """The cluster's API, without HTTP."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def call(self, method: str, path: str, params: Mapping[str, str], who: Who, node: str) -> Answer:
        """Carry out METHOD path (without /api2/json) as received by `node`.

        Worker methods return the UPID as data at once. Raises ApiError.
        """
        raise ApiError(501, f"Method '{method} {path}' not implemented")

    async def upload(self, path: str, params: Mapping[str, str], file: UploadedFile, who: Who, node: str) -> Answer:
        """POST /nodes/{node}/storage/{storage}/upload with a file that has arrived. Raises ApiError."""
        raise ApiError(501, f"Method 'POST {path}' not implemented")
