"""What the lab was asked, held to Proxmox VE's published API description of two releases."""

from __future__ import annotations

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
    for release in RELEASES:
        if request.via == "api" and request.status != UNREAD_STATUS and not _is_cut_upload(request):
            problems = request_problems(release, request.method, request.path, _params(request))
            yield from (f"{release}: {request.what}: {problem}" for problem in problems)
        for argv in request.programs if request.via == "ssh" else ():
            if argv and argv[0].rpartition("/")[2] in TOOLS:
                words = [argv[0].rpartition("/")[2], *argv[1:]]
                problems = command_problems(release, words, request.node)
                yield from (f"{release}: {' '.join(words)}: {problem}" for problem in problems)


def _is_cut_upload(request: Request) -> bool:
    """An upload that ended before its fields had come."""
    return request.status == CUT_STATUS and request.path.endswith(UPLOAD) and not request.params


def _params(request: Request) -> dict[str, str]:
    """The parameters; an upload's file name came with the file, beside them."""
    found = published(RELEASES[0]).find(request.method, request.path)
    is_upload = request.method == "POST" and request.path.endswith(UPLOAD) and found is not None
    return {"filename": "uploaded", **request.params} if is_upload else dict(request.params)
