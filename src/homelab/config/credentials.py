"""The API token: in API_TOKEN itself, in a file of its own, or given by the service manager."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from homelab.config.reader import Files, Reader
from homelab.config.values import BadValue, api_token, file_path
from homelab.errors import ConfigError, Problem
from homelab.settings import ApiToken, Via

SECRET_KEYS = ("API_TOKEN", "CLOUD_PASSWORD")
"""What stands in `.env` that nobody else is to read, and what systemd may give instead."""
DIRECTORY = "CREDENTIALS_DIRECTORY"
TOKEN_WANTED = (
    "user@realm!tokenid=secret, made in Proxmox under Datacenter, Permissions, API Tokens; "
    "or API_TOKEN_FILE to a file that holds it; or run with --via ssh, which needs no token"
)
_FILE_WANTED = "the path of a file that holds user@realm!tokenid=secret and nothing else"


def given_by_systemd(environment: Mapping[str, str], files: Files) -> dict[str, str]:
    """The secrets in the directory that LoadCredential= fills, under the key's name or in small letters.

    Raises ConfigError where one is there and cannot be read.
    """
    folder = environment.get(DIRECTORY, "")
    places = [(key, Path(folder) / name) for key in SECRET_KEYS for name in (key.lower(), key)] if folder else []
    return {key: text for key, path in places if files.is_file(path) and (text := _text(files, path))}


def _text(files: Files, path: Path) -> str:
    try:
        return files.read_text(path).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
        cure = f"see to LoadCredential={path.name}:... of the unit, or remove it there"
        raise ConfigError([Problem(f"{path} cannot be read", why, cure)]) from error


def read_token(reader: Reader, via: Via) -> ApiToken | None:
    """The token; a problem where there is none or none that can be used, unless the API is never asked."""
    own = reader.with_own_problems()
    token: ApiToken | None = own.get("API_TOKEN", api_token, None)
    in_file: ApiToken | None = own.get("API_TOKEN_FILE", lambda text: _token_in_file(reader, text), None)
    given = [key for key in ("API_TOKEN", "API_TOKEN_FILE") if reader.text(key) is not None]
    if len(given) > 1:
        cure = "remove one of them; in the environment an empty value takes it out"
        own.problems.append(Problem("API_TOKEN and API_TOKEN_FILE are both set", "only one token can be meant", cure))
    if via is Via.SSH:
        reader.warnings.extend(f"{problem}; --via ssh does not need it" for problem in own.problems)
    elif not given:
        reader.missing("API_TOKEN", TOKEN_WANTED)
    else:
        reader.problems.extend(own.problems)
    return token or in_file


def _token_in_file(reader: Reader, text: str) -> ApiToken:
    path = file_path(reader.surroundings.home)(text)
    content = reader.content(path, _FILE_WANTED).strip()
    if reader.surroundings.files.is_open_to_others(path):
        reader.warnings.append(open_to_others("the file that API_TOKEN_FILE names", path))
    try:
        return api_token(content)
    except BadValue:
        raise BadValue("the file does not hold user@realm!tokenid=secret", _FILE_WANTED) from None


def open_to_others(what: str, path: Path) -> str:
    """A sentence about a file with secrets that its owner shares with others."""
    return f"{what} is open to other users of this machine, and holds a secret: chmod 600 '{path}'"
