"""A server's Kubernetes API over HTTPS: read-only, and believed only if a kubeconfig vouches for its certificate."""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homelab.errors import HomelabError, Refused, Undecided, Unreachable
from homelab.kubernetes.kubeconfig import Access

if TYPE_CHECKING:
    from requests import Session

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
AUTHORITY_BYTES = 65536


class NotVouchedFor(Unreachable):
    """Somebody answers there, and shows a certificate that is not of the kubeconfig's cluster."""


def url_at(address: str) -> str:
    """Where the server at an address answers; an IPv6 address stands in brackets there."""
    return f"https://{f'[{address}]' if ':' in address else address}:6443"


def served_authority(base_url: str) -> str:
    """The CA (PEM) that a server shows to everybody; empty where nobody answers. Proves nothing of who it is.

    Source: GET /cacerts, which needs no authentication.
    """
    from urllib.request import urlopen

    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    try:
        with urlopen(f"{base_url}/cacerts", timeout=CONNECT_TIMEOUT_S, context=unchecked) as answer:
            return str(answer.read(AUTHORITY_BYTES).decode("ascii", errors="replace"))
    except (OSError, HTTPException):
        return ""


@dataclass(frozen=True, slots=True)
class KubernetesApi:
    """Asks whatever server stands at an address; who shows another cluster's certificate is not asked anything."""

    access: Access

    def get(self, base_url: str, path: str) -> str:
        """The body of a good answer, from https://HOST:PORT.

        Raises Unreachable where nobody answers, NotVouchedFor, Undecided; Refused on any answer but a good one.
        """
        import requests

        what = f"Kubernetes API {base_url}"
        try:
            with _session(self.access) as session:
                answer = session.get(
                    base_url + path, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), allow_redirects=False
                )
        except requests.exceptions.SSLError as error:
            why = f"its certificate is not vouched for by the kubeconfig {self.access.source}"
            raise NotVouchedFor(what, why, "is that kubeconfig of this cluster?") from error
        except requests.exceptions.ReadTimeout as error:
            raise Undecided(what, "connected, but no answer in time", "kubectl get nodes") from error
        except (requests.RequestException, OSError) as error:
            raise Unreachable(what, "it does not answer", "is the server on, and the address right?") from error
        if answer.status_code != requests.codes.ok:
            why = f"it answered {answer.status_code} to the user of the kubeconfig {self.access.source}"
            raise Refused(what, why, "kubectl get nodes; copy the file anew", status=answer.status_code)
        return answer.text


def _session(access: Access) -> Session:
    """Believes the cluster's CA alone; proxies of the environment are not used."""
    from requests import Session
    from requests.adapters import HTTPAdapter

    context = _context(access)

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, ssl_context=context, **options)

        def cert_verify(self, *_: Any) -> None:
            """Nothing: what requests would add here are the public CAs, which have no say about this cluster."""

    session = Session()
    session.trust_env = False
    session.mount("https://", Adapter())
    if access.token:
        session.headers["Authorization"] = f"Bearer {access.token.reveal()}"
    return session


def _context(access: Access) -> ssl.SSLContext:
    """Raises HomelabError where the kubeconfig holds no certificates that TLS can read.

    Not as strict as Python 3.13 would be: the CAs that k3s made for years lack a key identifier.
    """
    try:
        context = ssl.create_default_context(cadata=access.authority_pem)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if access.key_pem:
            _prove(context, access.certificate_pem, access.key_pem.reveal())
    except (ssl.SSLError, ValueError) as error:
        why = "it holds a certificate or key that TLS cannot read"
        raise HomelabError(f"the kubeconfig {access.source} is not used", why, "copy the file anew") from error
    return context


def _prove(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    """Load a certificate and key, for which TLS knows only files: it is there for that moment, for us alone.

    A key with a passphrase is an error: nobody is asked for one.
    """
    with tempfile.TemporaryDirectory(prefix="homelab-") as folder:
        path = Path(folder) / "client.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{certificate_pem}\n{key_pem}\n")
        context.load_cert_chain(path, password="")
