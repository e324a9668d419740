"""Reads kubeconfig files as kubectl merges them: whom to believe, and what proves who we are."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from homelab.errors import HomelabError
from homelab.settings import Secret

KINDS = ("clusters", "contexts", "users")
PROGRAMS = ("exec", "auth-provider")


@dataclass(frozen=True, slots=True)
class Access:
    """One context of a kubeconfig: PEM texts and a token. `source` is the file that has the user."""

    source: Path
    authority_pem: str
    certificate_pem: str = ""
    key_pem: Secret | None = None
    token: Secret | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One named cluster, context or user, and the file that it stands in: paths in it count from there."""

    file: Path
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        return str(self.values.get(key) or "")

    def content(self, key: str) -> str:
        """What `KEY-data` holds in base64, else the file that KEY names; empty where there is neither."""
        data, name = self.text(f"{key}-data"), self.text(key)
        try:
            if data:
                return base64.b64decode(data, validate=True).decode("ascii")
            return (self.file.parent / name).read_text(encoding="ascii") if name else ""
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _unusable(self.file, f"its {key} is not understood") from error
        except OSError as error:
            raise _unusable(self.file, f"its {key} cannot be read: {error.strerror}") from error


def read_access(files: Sequence[Path], hosts: Sequence[str]) -> Access | None:
    """The context whose server is one of `hosts`, else the current one; None where there is no such file.

    As kubectl does it, the first file that has a name or a current context counts. Raises HomelabError with a sentence
    about what cannot be used.
    """
    documents = {file: document for file in files if (document := _document(file)) is not None}
    if not documents:
        return None
    named = {kind: _merged(documents, kind) for kind in KINDS}
    current = next((name for one in documents.values() if (name := str(one.get("current-context") or ""))), "")
    context = _context(named, hosts, current)
    if context is None:
        raise _unusable(next(iter(documents)), "it has no current context")
    cluster, user = named["clusters"].get(context.text("cluster")), named["users"].get(context.text("user"))
    if cluster is None or user is None:
        raise _unusable(context.file, "its context names a cluster or user that is not there")
    return _access(cluster, user)


def _context(named: Mapping[str, Mapping[str, _Entry]], hosts: Sequence[str], current: str) -> _Entry | None:
    def host_of(context: _Entry) -> str:
        cluster = named["clusters"].get(context.text("cluster"))
        return urlsplit(cluster.text("server")).hostname or "" if cluster else ""

    contexts = [named["contexts"][current]] if current in named["contexts"] else []
    fitting = [one for one in (*contexts, *named["contexts"].values()) if host_of(one) in hosts]
    return next(iter((*fitting, *contexts)), None)


def _access(cluster: _Entry, user: _Entry) -> Access:
    for program in PROGRAMS:
        if user.values.get(program):
            raise _unusable(user.file, f"its user logs in by a program ({program}), and homelab runs none")
    authority = cluster.content("certificate-authority")
    if not authority or cluster.values.get("insecure-skip-tls-verify"):
        raise _unusable(cluster.file, "it has no CA for the cluster (certificate-authority-data)")
    certificate, key = user.content("client-certificate"), user.content("client-key")
    token = user.text("token")
    if not (certificate and key) and not token:
        raise _unusable(user.file, "its user has neither a client certificate nor a token")
    return Access(user.file, authority, certificate, Secret(key) if key else None, Secret(token) if token else None)


def _document(file: Path) -> Mapping[str, Any] | None:
    """None where there is no such file."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        document: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(file, f"it cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unusable(file, "it is not YAML") from error
    if not isinstance(document, dict):
        raise _unusable(file, "it holds no keys")
    return document


def _merged(documents: Mapping[Path, Mapping[str, Any]], kind: str) -> dict[str, _Entry]:
    """The entries of a kind by name; the first of a name counts."""
    found: dict[str, _Entry] = {}
    for file, document in documents.items():
        try:
            for entry in document.get(kind) or []:
                found.setdefault(str(entry["name"]), _Entry(file, dict(entry[kind.removesuffix("s")] or {})))
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable(file, f"its {kind} are not understood") from error
    return found


def _unusable(file: Path, why: str) -> HomelabError:
    return HomelabError(f"the kubeconfig {file} is not used", why, "set KUBECONFIG to one that can be, or to nothing")
