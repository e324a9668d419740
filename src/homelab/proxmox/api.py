"""The HTTPS wire: port 8006 with an API token."""

from __future__ import annotations

import email.utils
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from homelab import json_text
from homelab.errors import HomelabError, Refused, Undecided, Unreachable
from homelab.models import Wire
from homelab.proxmox import tasks
from homelab.proxmox.answers import misunderstood, whole
from homelab.proxmox.exchange_errors import another_certificate, innermost, is_in_handshake, not_connected, tls_reason
from homelab.proxmox.refusals import refusal
from homelab.proxmox.transport import ChangedCertificate, Params, TargetUnreachable, Upload
from homelab.runtime import Clock
from homelab.settings import ApiToken
from homelab.shell import TRUST_COMMAND

if TYPE_CHECKING:
    from requests import Response, Session

    from homelab.proxmox.tls import AnotherCertificate, TlsTrust

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
LONGEST_READ_S = 60.0
SLOWEST_UPLOAD_BYTES_PER_S = 500_000
TARGET_NOT_REACHED = 595
PROXY_TROUBLE = (502, 503, 504, 596, 597, 598, 599)
"""595-599 are Proxmox' own: the node that was asked had trouble with the node that was meant."""
MOST_CLOCK_SKEW_S = 60


class NotPinned(Unreachable):
    """A certificate is shown that is not the pinned one of the node that was looked for; it may be another node's."""


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """Where a node's API is, and whom to believe there. `number` is None while nobody knows which node that is."""

    host: str
    port: int
    trust: TlsTrust
    number: int | None = None

    @property
    def url_host(self) -> str:
        """The host as URLs want it: an IPv6 address stands in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"https://{self.url_host}:{self.port}"


class Api:
    """One node's API. Thread-safe; keeps its connections open."""

    def __init__(self, address: ApiAddress, token: ApiToken, clock: Clock) -> None:
        self._address = address
        self._token = token
        self._clock = clock
        self._base, self._session = _session(address, token)

    @property
    def wire(self) -> Wire:
        return Wire.API

    def call(self, method: str, path: str, params: Params | None = None, *, timeout_s: float = 30) -> Any:
        """One request; a read that was cut off is made once more, a write never.

        Raises as Transport says. Proxies of the environment are not used. A task's UPID comes at once, so that even
        a long timeout_s, which is for wires that wait for the task, counts as LONGEST_READ_S here.
        """
        import requests

        what = f"{method} {path}"
        logger.debug("%s: %s", self._address.host, what)
        if method != "GET":
            return self._data(what, False, self._send(method, path, params, timeout_s))
        try:
            return self._data(what, True, self._send(method, path, params, timeout_s))
        except Undecided as cut:
            if isinstance(cut.__cause__, requests.exceptions.ReadTimeout):
                raise Unreachable(cut.what, cut.why, cut.cure) from cut
        try:
            return self._data(what, True, self._send(method, path, params, timeout_s))
        except Undecided as cut:
            raise Unreachable(cut.what, cut.why, cut.cure) from cut

    def put_file(self, upload: Upload) -> str:
        """Stream a file into a storage; Proxmox checks its sha256. The fields must come in this order."""
        from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor

        size = upload.source.stat().st_size
        path = f"/nodes/{upload.node}/storage/{upload.storage}/upload"
        logger.debug("%s: POST %s, %d bytes", self._address.host, path, size)
        with upload.source.open("rb") as file:
            encoder = MultipartEncoder(
                [
                    ("content", upload.content),
                    ("checksum-algorithm", "sha256"),
                    ("checksum", upload.sha256),
                    ("filename", (upload.filename, file, "application/octet-stream")),
                ]
            )
            body = MultipartEncoderMonitor(encoder, lambda sent: _report(upload, min(sent.bytes_read, size), size))
            response = self._send_body(path, body, CONNECT_TIMEOUT_S + 60 + size / SLOWEST_UPLOAD_BYTES_PER_S)
        upid = whole(self._data(f"POST {path}", False, response), f"POST {path}")
        tasks.wait(self, upid, clock=self._clock, timeout_s=60 + size / SLOWEST_UPLOAD_BYTES_PER_S)
        return upload.volume

    def _send(self, method: str, path: str, params: Params | None, timeout_s: float) -> Response:
        import requests

        values = {key: _form(value) for key, value in (params or {}).items()}
        in_query = method in ("GET", "DELETE")
        try:
            return self._session.request(
                method,
                self._base + path,
                params=values if in_query else None,
                data=None if in_query else values,
                timeout=(CONNECT_TIMEOUT_S, min(timeout_s, LONGEST_READ_S)),
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise self._trouble(error) from error

    def _send_body(self, path: str, body: Any, timeout_s: float) -> Response:
        """Past proxmoxer's own request method, which cannot take a body that is streamed with its checksum."""
        import requests

        try:
            return requests.Session.request(
                self._session,
                "POST",
                self._base + path,
                data=body,
                headers={"Content-Type": body.content_type},
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise self._trouble(error) from error

    def _data(self, what: str, is_read: bool, response: Response) -> Any:
        """The data of a good answer; every other answer raises."""
        status = response.status_code
        body = _json(response)
        if status == TARGET_NOT_REACHED or (is_read and status in PROXY_TROUBLE):
            why = f"the node at {self._address} did not reach it: {status} {response.reason}"
            raise TargetUnreachable(what, why, "is the node that was meant switched on?")
        if status in PROXY_TROUBLE:
            raise Undecided(what, f"{status} {response.reason}", "look whether it was done before doing it again")
        if status >= 400:
            raise self._refusal(what, response, body if isinstance(body, Mapping) else {})
        if status >= 300 or not isinstance(body, Mapping) or "data" not in body:
            kind = response.headers.get("Content-Type", "nothing").partition(";")[0]
            raise misunderstood(what, f"{self._address} answered {status} with {kind} instead of Proxmox' JSON")
        return body["data"]

    def _refusal(self, what: str, response: Response, body: Mapping[str, Any]) -> Refused:
        text = str(body.get("message") or response.reason or "").strip()
        if response.status_code == 401:
            cure = (
                f"API_TOKEN is {self._token.user}!{self._token.token_id}: wrong, missing or expired; "
                f"to make it anew, on a node: pveum user token remove {self._token.user} {self._token.token_id}; "
                f"pveum user token add {self._token.user} {self._token.token_id} --privsep 0"
            )
            return Refused(what, f"401 {text}{self._clock_skew(response)}", cure, status=401)
        errors = body.get("errors")
        return refusal(
            what,
            text.replace(self._token.secret.reveal(), "***"),
            response.status_code,
            errors={str(key): str(value) for key, value in errors.items()} if isinstance(errors, Mapping) else None,
            token=f"{self._token.user}!{self._token.token_id}",
        )

    def _clock_skew(self, response: Response) -> str:
        """How far the node's clock is off, where that may be the reason."""
        try:
            theirs = email.utils.parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return ""
        skew_s = round(theirs - self._clock.now())
        return f" (its clock differs from ours by {skew_s} s)" if abs(skew_s) > MOST_CLOCK_SKEW_S else ""

    def _trouble(self, error: Exception) -> HomelabError:
        """What a failed exchange means: certainly not run, or not to be known."""
        import requests

        what = f"API {self._address}"
        if another := another_certificate(error):
            return self._changed(another)
        if is_in_handshake(error):
            return Unreachable(what, f"SSL routines::{tls_reason(error)}", self._tls_cure())
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return Unreachable(what, f"no answer within {CONNECT_TIMEOUT_S:.0f} s", "is the node switched on?")
        if isinstance(error, requests.exceptions.ReadTimeout):
            return Undecided(what, "connected, but no answer in time", "on the node: systemctl restart pveproxy")
        refused = not_connected(error)
        if refused:
            return Unreachable(
                what, refused, "on the node: systemctl status pveproxy; or set NODE_HOST_n, PROXMOX_PORT"
            )
        if isinstance(error, FileNotFoundError | ssl.SSLError):
            return Unreachable(what, f"the CA bundle cannot be read: {error}", "correct PROXMOX_CA_BUNDLE")
        return Undecided(what, f"the connection was cut off: {innermost(error)}", "look whether it was done")

    def _changed(self, another: AnotherCertificate) -> Unreachable:
        """A pin is a node's, and where nobody knows which node this is, it may be the pin of another one."""
        what, number = f"API {self._address}", self._address.number
        if another.is_pinned and number is None:
            return NotPinned(what, f"SSL routines::{another.args[0]}", self._tls_cure())
        why = f"its certificate has changed: it shows SHA-256 {another.shown}, and {another.known} is trusted"
        accept = (
            f"correct PROXMOX_FINGERPRINT_{number}" if another.is_pinned else f"{TRUST_COMMAND} shows both and asks"
        )
        cure = f"compare with `pvenode cert info` on the node's own console; if that certificate is new there: {accept}"
        return ChangedCertificate(what, why, cure)

    def _tls_cure(self) -> str:
        return (
            f"{TRUST_COMMAND} shows its fingerprint and asks; or set PROXMOX_CA_BUNDLE to a copy of the cluster's "
            f"/etc/pve/pve-root-ca.pem, or PROXMOX_FINGERPRINT_{self._address.number or 'n'} to what the node's "
            "console shows for: pvenode cert info"
        )


def _session(address: ApiAddress, token: ApiToken) -> tuple[str, Session]:
    """Proxmoxer's session with the token in its header, believing whom we believe."""
    from proxmoxer.backends.https import Backend

    from homelab.proxmox.tls import TrustAdapter

    backend = Backend(
        address.url_host,
        port=address.port,
        user=token.user,
        token_name=token.token_id,
        token_value=token.secret.reveal(),
    )
    session: Session = backend.get_session()
    session.trust_env = False
    session.mount("https://", TrustAdapter(address.trust))
    return backend.get_base_url(), session


def _form(value: Any) -> Any:
    """A parameter as Proxmox reads it: booleans are 1 and 0, lists repeat their key."""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, str | int) else [str(part) for part in value]


def _json(response: Response) -> Any:
    try:
        return json_text.read(response.content)
    except ValueError:
        return None


def _report(upload: Upload, sent: int, total: int) -> None:
    if upload.on_progress is not None:
        upload.on_progress(sent, total)
