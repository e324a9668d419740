"""What the lab was asked, held to Proxmox VE's published API description of two releases."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from pvelab.requestlog import Request
from support.schema_check import RELEASES, published, request_problems
from support.tool_words import TOOLS, command_problems

UNREAD_STATUS = 401
"""The status of a request whose parameters nobody looked at."""
CUT_STATUS = 0
UPLOAD = "/upload"


def request_findings(requests: Iterable[Request]) -> list[str]:
    """Each thing that a release would refuse of these requests, once, with the request."""
    return list(dict.fromkeys(finding for request in requests for finding in _of_one(request)))


def _of_one(request: Request) -> Iterator[str]:
    if request.via == "api" and request.status != UNREAD_STATUS and not _is_cut_upload(request):
        yield from _of_call(request.method, request.path, tuple(_params(request).items()))
    for argv in request.programs if request.via == "ssh" else ():
        tool = argv[0].rpartition("/")[2] if argv else ""
        if tool in TOOLS:
            yield from _of_command((tool, *argv[1:]), request.node)


@functools.cache
def _of_call(method: str, path: str, params: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(
        f"{release}: {method} {path}: {problem}"
        for release in RELEASES
        for problem in request_problems(release, method, path, dict(params))
    )


@functools.cache
def _of_command(argv: tuple[str, ...], node: str) -> tuple[str, ...]:
    return tuple(
        f"{release}: {' '.join(argv)}: {problem}"
        for release in RELEASES
        for problem in command_problems(release, argv, node)
    )


def _is_cut_upload(request: Request) -> bool:
    """An upload that ended before its fields had come."""
    return request.status == CUT_STATUS and request.path.endswith(UPLOAD) and not request.params


def _params(request: Request) -> dict[str, str]:
    """The parameters; an upload's file name came with the file, beside them."""
    found = published(RELEASES[0]).find(request.method, request.path)
    is_upload = request.method == "POST" and request.path.endswith(UPLOAD) and found is not None
    return {"filename": "uploaded", **request.params} if is_upload else dict(request.params)
