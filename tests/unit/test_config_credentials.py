"""Where the API token may come from, which of them counts, and who else could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab.config import load
from homelab.config.dotenv_file import LocalFiles
from homelab.errors import ConfigError
from homelab.settings import Config, Via

NODE = "NODE_1=pve\nSTORAGE_1=local-zfs\n"


def token(name: str) -> str:
    return f"root@pam!{name}=secret-canary-{name}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home and current directory; `credentials` is what systemd would give."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "credentials").mkdir()
    return tmp_path


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def loaded(folder: Path, text: str, **environment: str) -> Config:
    return load(written(folder / "my.env", NODE + text), Via.AUTO, environment)


def refused(folder: Path, text: str, **environment: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        loaded(folder, text, **environment)
    assert "canary" not in repr(error.value.problems)
    return [(problem.what, problem.why) for problem in error.value.problems]


def name_of(config: Config) -> str:
    assert config.api.token
    return config.api.token.token_id


@pytest.mark.parametrize(
    ("dotenv", "variables", "counts"),
    [
        ("API_TOKEN={dotenv}", {}, "dotenv"),
        ("API_TOKEN={dotenv}", {"CREDENTIALS_DIRECTORY": "credentials"}, "systemd"),
        ("API_TOKEN_FILE=own", {"CREDENTIALS_DIRECTORY": "credentials"}, "own"),
        ("API_TOKEN_FILE=~/own", {}, "own"),
        ("", {"CREDENTIALS_DIRECTORY": "credentials"}, "systemd"),
        ("API_TOKEN={dotenv}", {"CREDENTIALS_DIRECTORY": "credentials", "API_TOKEN": "{variable}"}, "variable"),
        ("API_TOKEN_FILE=own", {"API_TOKEN_FILE": "", "API_TOKEN": "{variable}"}, "variable"),
        ("API_TOKEN={dotenv}", {"CREDENTIALS_DIRECTORY": "nowhere"}, "dotenv"),
    ],
)
def test_environment_goes_before_a_file_that_before_systemd_and_that_before_dotenv(
    folder: Path, dotenv: str, variables: dict[str, str], counts: str
) -> None:
    written(folder / "own", f"\n{token('own')}\n")
    written(folder / "credentials" / "API_TOKEN", f"{token('systemd')}\n", 0o400)
    known = {"dotenv": token("dotenv"), "variable": token("variable")}

    config = loaded(folder, dotenv.format(**known), **{key: text.format(**known) for key, text in variables.items()})

    assert name_of(config) == counts
    assert config.warnings == ()
    assert "canary" not in repr(config)


def test_credentials_may_be_named_in_small_letters_and_hold_the_password_too(folder: Path) -> None:
    written(folder / "credentials" / "api_token", token("small"))
    written(folder / "credentials" / "cloud_password", "password-canary\n")
    written(folder / "credentials" / "CLOUD_PASSWORD", "")

    config = loaded(folder, "", CREDENTIALS_DIRECTORY=str(folder / "credentials"))

    assert name_of(config) == "small"
    assert config.guest.password
    assert config.guest.password.reveal() == "password-canary"


def test_token_given_twice_is_a_problem_wherever_each_stands(folder: Path) -> None:
    written(folder / "own", token("own"))
    both = [("API_TOKEN and API_TOKEN_FILE are both set", "only one token can be meant")]

    assert refused(folder, f"API_TOKEN={token('dotenv')}\nAPI_TOKEN_FILE=own") == both
    assert refused(folder, "API_TOKEN_FILE=own", API_TOKEN=token("variable")) == both


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "the file cannot be read (No such file or directory)"),
        ("", "the file does not hold user@realm!tokenid=secret"),
        ("API_TOKEN=canary\n", "the file does not hold user@realm!tokenid=secret"),
        (f"{token('a')}\n{token('b')}\n", "the file does not hold user@realm!tokenid=secret"),
    ],
)
def test_file_without_a_token_is_a_problem_and_its_content_is_not_shown(
    folder: Path, content: str | None, why: str
) -> None:
    if content is not None:
        written(folder / "own", content)

    assert refused(folder, "API_TOKEN_FILE=own") == [("API_TOKEN_FILE cannot be used", why)]
    config = load(folder / "my.env", Via.SSH, {})
    assert (config.api.token, len(config.warnings)) == (None, 1)
    assert config.warnings[0].endswith("--via ssh does not need it")


def test_token_in_place_of_the_name_of_its_file_is_not_shown(folder: Path) -> None:
    assert refused(folder, f"API_TOKEN_FILE={token('itself')}")[0][0] == "API_TOKEN_FILE cannot be used"


def test_credential_that_cannot_be_read_is_a_problem(folder: Path) -> None:
    path = folder / "credentials" / "API_TOKEN"
    path.write_bytes(b"\xff\xfe")

    said = refused(folder, f"API_TOKEN={token('dotenv')}", CREDENTIALS_DIRECTORY="credentials")

    assert said == [("credentials/API_TOKEN cannot be read", "it is not text")]


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_files_with_secrets_that_others_may_read_are_told_with_the_cure(folder: Path, mode: int, is_told: bool) -> None:
    env, own = folder / "my.env", folder / "own"
    loaded(folder, f"CLOUD_PASSWORD=canary\nAPI_TOKEN_FILE={written(own, token('own'), mode)}")
    env.chmod(mode)

    warnings = load(env, Via.AUTO, {}).warnings

    ending = "is open to other users of this machine, and holds a secret: chmod 600"
    of_token = f"the file that API_TOKEN_FILE names {ending} '{own}'"
    assert warnings == ((of_token, f"{env} {ending} '{env}'") if is_told else ())


def test_file_that_is_gone_by_now_is_open_to_nobody(folder: Path) -> None:
    assert not LocalFiles().is_open_to_others(folder / "nowhere")


def test_file_without_a_secret_may_be_open_to_everybody(folder: Path) -> None:
    loaded(folder, "API_TOKEN=\n", API_TOKEN=token("variable"))
    (folder / "my.env").chmod(0o644)

    assert load(folder / "my.env", Via.AUTO, {"API_TOKEN": token("variable")}).warnings == ()
