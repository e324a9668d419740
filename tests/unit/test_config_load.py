"""Finding and reading `.env`: places, precedence, syntax."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from homelab.config import dotenv_file, load
from homelab.errors import ConfigError
from homelab.settings import Via

NODE = "API_TOKEN=root@pam!homelab=secret-canary\nNODE_1={}\nSTORAGE_1=local-zfs\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose package is src/homelab; the current directory and home are elsewhere."""
    for directory in ("src/homelab", "elsewhere", "home"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(dotenv_file, "PACKAGE", tmp_path / "src/homelab")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def node_name(project: Path, text: str, **environment: str) -> str:
    (project / ".env").write_text(text)
    return load(None, Via.AUTO, environment).nodes[0].name


def test_package_directory_wins_over_project_root_and_that_over_the_current_directory(project: Path) -> None:
    found = []
    for place in ("elsewhere", ".", "src/homelab"):
        (project / place / ".env").write_text(NODE.format(f"in-{Path(place).name or 'root'}"))
        found.append(load(None, Via.AUTO, {}).nodes[0].name)
    assert found == ["in-elsewhere", "in-root", "in-homelab"]


def test_named_file_is_read_instead_of_searching(project: Path) -> None:
    (project / ".env").write_text(NODE.format("found"))
    (project / "other.env").write_text(NODE.format("named"))
    assert load(project / "other.env", Via.AUTO, {}).nodes[0].name == "named"


def test_package_outside_a_project_looks_beside_itself_and_in_the_current_directory(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    assert dotenv_file.search_path() == [project / "src/homelab/.env", project / "elsewhere/.env"]


def test_environment_wins_over_the_file_and_an_empty_variable_unsets(project: Path) -> None:
    text = NODE.format("from-file") + "K3S_EXISTING_NODE_IP=192.168.4.212\n"
    (project / ".env").write_text(text)
    config = load(None, Via.AUTO, {"NODE_1": "from-environment", "K3S_EXISTING_NODE_IP": ""})
    assert (config.nodes[0].name, config.k3s.existing_servers) == ("from-environment", ())


def test_process_environment_is_the_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text(NODE.format("from-file"))
    monkeypatch.setenv("NODE_1", "from-process")
    assert load(None, Via.AUTO).nodes[0].name == "from-process"


def test_environment_alone_is_enough(project: Path) -> None:
    assert not (project / ".env").exists()
    environment = dict(line.split("=", 1) for line in NODE.format("pve").splitlines())
    assert load(None, Via.AUTO, environment).nodes[0].name == "pve"


def test_missing_key_says_where_it_was_looked_for(project: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, Via.AUTO, {})
    places = " or ".join(f"{project / place}/.env" for place in ("src/homelab", "", "elsewhere")).replace("//", "/")
    assert error.value.problems[0].why == f"the environment does not have it, and there is no {places}"
    (project / ".env").touch()
    with pytest.raises(ConfigError) as error:
        load(None, Via.AUTO, {})
    assert error.value.problems[0].why == f"neither {project}/.env nor the environment has it"


@pytest.mark.parametrize(
    ("line", "environment", "name"),
    [
        ("NODE_1='pve'", {}, "pve"),
        ('export NODE_1 = "pve"  # first', {}, "pve"),
        ("NODE_1=pve # first", {}, "pve"),
        ("SITE=home\nNODE_1=pve-${SITE}", {}, "pve-home"),
        ("SITE=home\nNODE_1=pve-${SITE}", {"SITE": "attic"}, "pve-attic"),
        ("NODE_1=pve-${SITE:-cellar}", {}, "pve-cellar"),
        ("NODE_1=pve${SITE}", {}, "pve"),
        ("NODE_1=$SITE\nNODE_1=pve", {}, "pve"),
        ("NODE_1\nNODE_1=pve", {}, "pve"),
    ],
)
def test_file_is_read_as_python_dotenv_reads_it(
    project: Path, line: str, environment: dict[str, str], name: str
) -> None:
    assert node_name(project, NODE.replace("NODE_1={}", line), **environment) == name


def test_file_of_another_system_is_read(project: Path) -> None:
    (project / ".env").write_bytes(b"\xef\xbb\xbf" + NODE.format("pve").replace("\n", "\r\n").encode())
    assert load(None, Via.AUTO, {}).nodes[0].name == "pve"


def test_token_with_marks_needs_no_quotes(project: Path) -> None:
    (project / ".env").write_text(NODE.format("pve").replace("secret-canary", "a=b!c#d"))
    token = load(None, Via.AUTO, {}).api.token
    assert token and token.secret.reveal() == "a=b!c#d"


def test_key_that_stands_twice_is_warned_about_and_unknown_keys_are_not(project: Path) -> None:
    text = NODE.format("first") + "\n\nOTHER=1\nOTHER=2\nNODE_1=last\n"
    (project / ".env").write_text(text)
    config = load(None, Via.AUTO, {})
    assert config.nodes[0].name == "last"
    assert config.warnings == (f"{project}/.env: NODE_1 is set in lines 2, 8; the last one counts",)


def test_line_that_cannot_be_read_is_a_warning_while_the_rest_suffices(project: Path) -> None:
    (project / ".env").write_text(NODE.format("pve") + "\ncanary secret text\n")
    assert load(None, Via.AUTO, {}).warnings == (
        f"{project}/.env, line 5 cannot be read: it is not KEY=value, or a quote is not closed",
    )


def test_line_that_cannot_be_read_is_among_the_problems_otherwise(project: Path) -> None:
    (project / ".env").write_text("API_TOKEN=root@pam!a=b\nNODE_1='pve\nSTORAGE_1=local\n")
    with pytest.raises(ConfigError) as error:
        load(None, Via.AUTO, {})
    assert [problem.what for problem in error.value.problems] == [
        "NODE_1 is not set",
        f"{project}/.env, line 2 cannot be read",
    ]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00N"])
def test_named_file_that_cannot_be_read_is_the_only_problem(project: Path, content: bytes | None) -> None:
    named = project / "named.env"
    if content is not None:
        named.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(named, Via.AUTO, {})
    (problem,) = error.value.problems
    assert problem.what == f"{named} cannot be read"
    assert "--env" in problem.cure


def test_account_without_a_home_directory_can_still_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    (project / ".env").write_text(NODE.format("pve"))
    monkeypatch.setattr(Path, "home", no_home)
    assert load(None, Via.AUTO, {}).guest.public_keys == ""


def test_importing_the_configuration_loads_nothing_heavy() -> None:
    heavy = ("proxmoxer", "paramiko", "requests", "yaml", "dotenv", "rich", "ssl", "tenacity")
    code = f"import sys, homelab.cli, homelab.config; print([name for name in {heavy} if name in sys.modules])"
    source = Path(__file__).parents[2] / "src"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(source)},
        timeout=30,
    )
    assert run.stdout == "[]\n"


# --- keys that look like one of ours -----------------------------------------------------------------------------


def test_key_that_looks_like_a_slip_is_a_warning_and_others_are_nobodys_business(project: Path) -> None:
    (project / ".env").write_text(NODE.format("a") + "CPU_RATO_1=0.8\nPBS_STORAGE=backup\nSSH_KEY=x\nAPI_TOKEN_ID=y\n")
    warnings = load(None, Via.AUTO, {"STORGE_1": "of-the-environment"}).warnings
    assert warnings == (f"{project}/.env: CPU_RATO_1 is not read: it looks like CPU_RATIO_1",)


@pytest.mark.parametrize(
    ("text", "slip", "meant"),
    [
        ("NODE1=a\nSTORAGE_1=local\n", "NODE1", "NODE_1"),
        ("NODE_1=a\nSTORAGE_1=local\nnode_2=b\n", "node_2", "NODE_2"),
        ("NODE_1=a\nSTORAGE=local\n", "STORAGE", "STORAGE_n"),
    ],
)
def test_slip_is_named_beside_what_it_leaves_missing(project: Path, text: str, slip: str, meant: str) -> None:
    (project / ".env").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(None, Via.AUTO, {})
    (problem,) = (problem for problem in refused.value.problems if "is not read" in problem.what)
    assert problem.what.endswith(f": {slip} is not read")
    assert problem.cure == f"call it {meant}, if that is meant"


def test_key_of_any_node_is_no_slip_of_another(project: Path) -> None:
    (project / ".env").write_text(NODE.format("a") + "NODE_12=b\nSTORAGE_12=local\nVM_DISK_SIZE_12=20G\n")
    warnings = load(None, Via.AUTO, {}).warnings
    assert not any("looks like" in warning for warning in warnings)
