"""`curl`, for the addresses of the lab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pvelab.guest.fetch import Answer, Inquiry, NoAnswer, Trouble, fetch
from pvelab.guest.options import BadOption, Grammar, Options

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_GRAMMAR = Grammar(
    flags={"silent", "show-error", "fail", "insecure", "location", "head", "include", "remote-name", "ipv4"}
    | {"fail-with-body", "no-progress-meter", "compressed", "http1.1", "retry-connrefused"},
    values={"output", "max-time", "connect-timeout", "write-out", "header", "user", "cacert", "config", "request"}
    | {"retry", "retry-delay", "retry-max-time", "noproxy", "url", "proto"},
    short={"s": "silent", "S": "show-error", "f": "fail", "k": "insecure", "L": "location", "I": "head"}
    | {"i": "include", "o": "output", "m": "max-time", "w": "write-out", "H": "header", "u": "user", "K": "config"}
    | {"X": "request", "O": "remote-name", "4": "ipv4"},
)
_CONFIG_LINE = re.compile(r"-*([\w-]+)\s*[=:]?\s*(.*)")
_TROUBLES = {
    Trouble.RESOLVE: (6, "Could not resolve host: {host}"),
    Trouble.CONNECT: (7, "Failed to connect to {host} port {port} after 0 ms: Couldn't connect to server"),
    Trouble.PARTIAL: (18, "transfer closed with outstanding read data remaining"),
    Trouble.TIMEOUT: (28, "Connection timed out after {limit} milliseconds"),
    Trouble.UNPROVEN: (
        56,
        "OpenSSL SSL_read: OpenSSL/3.0.13: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
    ),
    Trouble.CERTIFICATE: (60, "SSL certificate problem: unable to get local issuer certificate"),
}
_HTTP_FAILED, _CANNOT_WRITE, _BAD_OPTION = 22, 23, 2
_DEFAULT_LIMIT_S = 130.0


async def curl(guest: GuestMachine, process: Process) -> int:
    """Fetch each URL as `curl` does; its exit codes."""
    try:
        options = await _options(process)
    except BadOption as problem:
        process.complain(f"curl: option {problem}: is unknown")
        return _BAD_OPTION
    code = 0
    for url in [*options.values.get("url", []), *options.words]:
        code = await _get(guest, process, options, url if "://" in url else f"http://{url}")
    return code


async def _options(process: Process) -> Options:
    options = _GRAMMAR.parse(process.argv[1:])
    for name in options.values.get("config", []):
        content = await process.read() if name == "-" else process.machine.files.read(process.path(name), process.user)
        words: list[str] = []
        for line in content.decode().splitlines():
            found = _CONFIG_LINE.fullmatch(line.strip())
            if found:
                words += [f"--{found[1]}", *([found[2].strip('"')] if found[2] else [])]
        given = _GRAMMAR.parse(words)
        options.flags |= given.flags
        for key, values in given.values.items():
            options.values.setdefault(key, []).extend(values)
    return options


async def _get(guest: GuestMachine, process: Process, options: Options, url: str) -> int:
    headers = dict(header.partition(":")[::2] for header in options.values.get("header", []))
    authority = options.value("cacert")
    inquiry = Inquiry(
        url=url,
        method="HEAD" if "head" in options else options.value("request", "GET"),
        headers={name.strip(): value.strip() for name, value in headers.items()},
        user=options.value("user"),
        verify="insecure" not in options,
        authority_pem=guest.files.read(process.path(authority), process.user).decode() if authority else "",
        follow="location" in options,
    )
    try:
        answer = await fetch(guest, inquiry)
    except NoAnswer as nothing:
        return await _complain(guest, process, options, (inquiry, nothing))
    if answer.status >= 400 and ("fail" in options or "fail-with-body" in options):
        _say(process, options, f"curl: ({_HTTP_FAILED}) The requested URL returned error: {answer.status}")
        if "fail-with-body" in options:
            _deliver(process, options, answer)
        return _HTTP_FAILED
    return _deliver(process, options, answer)


async def _complain(guest: GuestMachine, process: Process, options: Options, failure: tuple[Inquiry, NoAnswer]) -> int:
    inquiry, nothing = failure
    code, text = _TROUBLES[nothing.trouble]
    limit_s = float(options.value("connect-timeout") or options.value("max-time") or _DEFAULT_LIMIT_S)
    if nothing.trouble is Trouble.TIMEOUT:
        await guest.clock.sleep(limit_s)
    place = inquiry.url.split("://", 1)[1].split("/", 1)[0]
    host, _, port = place.partition(":")
    default = "443" if inquiry.url.startswith("https") else "80"
    shown = text.format(host=host, port=port or default, limit=int(limit_s * 1000))
    _say(process, options, f"curl: ({code}) {shown}")
    if options.value("write-out"):
        process.out += options.value("write-out").replace("%{http_code}", "000").replace("\\n", "\n").encode()
    return code


def _say(process: Process, options: Options, text: str) -> None:
    if "silent" not in options or "show-error" in options:
        process.complain(text)


def _deliver(process: Process, options: Options, answer: Answer) -> int:
    content = answer.body
    if "include" in options or "head" in options:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{k}: {v}" for k, v in answer.headers.items()), "", ""]
        content = "\r\n".join(lines).encode() + content
    name = options.value("output") or (answer.url.rsplit("/", 1)[-1] if "remote-name" in options else "-")
    if name == "-":
        process.out += content
    elif name != "/dev/null":
        try:
            mode = 0o666 & ~process.umask
            process.machine.files.write(process.path(name), content, process.user, mode=mode)
        except OSError as failed:
            _say(process, options, f"curl: ({_CANNOT_WRITE}) {failed.strerror}")
            return _CANNOT_WRITE
    shown = options.value("write-out").replace("\\n", "\n")
    shown = shown.replace("%{http_code}", str(answer.status)).replace("%{url_effective}", answer.url)
    process.out += shown.replace("%{size_download}", str(len(answer.body))).encode()
    return 0
