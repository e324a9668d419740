"""Make .venv from poetry.lock with a Poetry of the user's own: `scripts/setup` runs this on a bare Python.

Standard library only. Nothing is done when the lock and the project file are those of the last set-up.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The plugin reaches into Poetry, so both move together.
POETRY_REQUIREMENTS = ("poetry~=2.5.1", "poetry-plugin-pypi-mirror~=0.6.5")
ACTIVE_ENVIRONMENT = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONHOME")
OUTPUT_LINES_SHOWN = 20
CURE_INDEX = "See the lines above; if the package index cannot be reached, set PIP_INDEX_URL, then run this again."
CURE_PIP = "Install pip for it (Debian, Ubuntu: apt-get install python3-pip), then run this again."


class SetupError(Exception):
    """What went wrong in the set-up, and what to do about it."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Places:
    """Where the set-up puts things: `.venv` in the project, Poetry in the user's home."""

    project: Path
    home: Path

    @property
    def environment(self) -> Path:
        return self.project / ".venv"

    @property
    def stamp(self) -> Path:
        """Two lines: digest of what was installed, path of the Poetry that did it."""
        return self.environment / "homelab-setup"

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "homelab"

    @property
    def poetry_environment(self) -> Path:
        return self.data / "poetry"

    @property
    def poetry(self) -> Path:
        return self.poetry_environment / "bin" / "poetry"

    @property
    def poetry_link(self) -> Path:
        return self.home / ".local" / "bin" / "poetry"

    @property
    def virtualenv_cache(self) -> Path:
        return self.home / ".cache" / "homelab" / "virtualenv"


def main() -> int:
    """Set up the project that this file lies in; return the exit code."""
    places = Places(project=Path(__file__).resolve().parent.parent, home=Path.home())
    try:
        if not is_ready(places):
            with only_one_at_a_time(places):
                set_up(places, os.environ)
    except (SetupError, OSError) as error:
        say(getattr(error, "cure", "Make that path writable, or set HOME to a folder that is, then run this again."))
        say(f"scripts/setup: {error}")
        return 1
    except KeyboardInterrupt:
        say("scripts/setup: interrupted; the next call begins where this one stopped")
        return 130
    hint_at_path(places, os.environ)
    return 0


def set_up(places: Places, environ: Mapping[str, str]) -> None:
    """Bring Poetry, its link and `.venv` to the state that the lock asks for."""
    if is_ready(places):  # another set-up has just finished
        return
    python = base_python()
    environment = quiet_environment(environ)
    environment["POETRY_PYPI_MIRROR_URL"] = index_url(python, environment)
    if not has_poetry(places):
        say(f"Setting up: Poetry into {places.poetry_environment} (once, half a minute)")
        install_poetry(places, python, environment)
    link_poetry(places)
    say(f"Setting up: libraries from poetry.lock into {places.environment}")
    install_libraries(places, environment)
    places.stamp.write_text(f"{digest(places)}\n{places.poetry}\n")
    hint_at_active_environment(places, environ)


def is_ready(places: Places) -> bool:
    """Tell whether `.venv` was made from today's lock and project file, and its Poetry is still there."""
    try:
        made_from, poetry = places.stamp.read_text().splitlines()
    except (OSError, ValueError):
        return False
    return made_from == digest(places) and Path(poetry).exists() and (places.environment / "bin" / "python").exists()


def digest(places: Places) -> str:
    """Return a digest of all that `.venv` depends on; its scripts and its link to `src` hold the project's path."""
    content = [str(places.project).encode()]
    content += [(places.project / name).read_bytes() for name in ("pyproject.toml", "poetry.lock")]
    return hashlib.sha256(b"\0".join(content)).hexdigest()


@contextmanager
def only_one_at_a_time(places: Places) -> Iterator[None]:
    """Let a second set-up of the same user wait for the first."""
    places.data.mkdir(parents=True, exist_ok=True)
    with (places.data / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base_python() -> Path:
    """Return the interpreter beneath an active virtual environment, or this one."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return base if base.exists() else Path(sys.executable)


def quiet_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for pip and Poetry: no active virtual environment, `.venv` in the project."""
    kept = {name: value for name, value in environ.items() if name not in ACTIVE_ENVIRONMENT}
    return kept | {
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "POETRY_NO_INTERACTION": "1",
        "POETRY_VIRTUALENVS_CREATE": "true",
        "POETRY_VIRTUALENVS_IN_PROJECT": "true",
        "POETRY_VIRTUALENVS_USE_POETRY_PYTHON": "true",
    }


def index_url(python: Path, environment: Mapping[str, str]) -> str:
    """Return the package index that pip would use, so that Poetry uses it too.

    Source: PIP_INDEX_URL, else pip's configuration, else the default that pip's own help names.
    """
    if environment.get("PIP_INDEX_URL"):
        return environment["PIP_INDEX_URL"]
    asked = [str(python), "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    if configured.returncode == 0 and configured.stdout.strip():
        return configured.stdout.strip()
    wide = {**environment, "COLUMNS": "1000"}
    shown = run([str(python), "-m", "pip", "install", "--help"], wide, f"{python} has no working pip", CURE_PIP)
    built_in = re.search(r"--index-url <url>.*?\(default:? (\S+?)\)", shown, re.DOTALL)
    if built_in is None:
        raise SetupError(f"{python} -m pip does not name its package index", "Set PIP_INDEX_URL, then run this again.")
    return built_in[1]


def has_poetry(places: Places) -> bool:
    """Tell whether our own Poetry was installed to the end, in these versions, on a Python that still exists."""
    try:
        installed = (places.poetry_environment / "requirements").read_text()
    except OSError:
        return False
    return installed == "\n".join(POETRY_REQUIREMENTS) and (places.poetry_environment / "bin" / "python").exists()


def install_poetry(places: Places, python: Path, environment: Mapping[str, str]) -> None:
    """Install Poetry and the mirror plugin into a virtual environment of their own."""
    make_virtual_environment(python, places.poetry_environment, places.virtualenv_cache, environment)
    own_python = places.poetry_environment / "bin" / "python"
    command = [str(own_python), "-m", "pip", "install", "--index-url", environment["POETRY_PYPI_MIRROR_URL"]]
    run([*command, *POETRY_REQUIREMENTS], environment, "pip could not install Poetry", CURE_INDEX)
    (places.poetry_environment / "requirements").write_text("\n".join(POETRY_REQUIREMENTS))


def make_virtual_environment(python: Path, folder: Path, cache: Path, environment: Mapping[str, str]) -> None:
    """Make a virtual environment with pip in `folder`, by venv or, on a Python without it, by virtualenv."""
    shutil.rmtree(folder, ignore_errors=True)
    by_venv = subprocess.run(
        [str(python), "-m", "venv", str(folder)], env=environment, capture_output=True, check=False
    )
    if by_venv.returncode == 0:
        return
    shutil.rmtree(folder, ignore_errors=True)
    install = [str(python), "-m", "pip", "install", "--upgrade", "--target", str(cache), "virtualenv"]
    run(install, environment, "this Python lacks venv, and pip could not install virtualenv", CURE_INDEX)
    make = [str(python), "-m", "virtualenv", "--no-periodic-update", str(folder)]
    run(make, {**environment, "PYTHONPATH": str(cache)}, "virtualenv failed", f"Remove {cache}, then run this again.")


def link_poetry(places: Places) -> None:
    """Let the user type `poetry`, unless they have one in that place already."""
    if places.poetry_link.exists():
        return
    places.poetry_link.parent.mkdir(parents=True, exist_ok=True)
    places.poetry_link.unlink(missing_ok=True)  # one that leads nowhere
    places.poetry_link.symlink_to(places.poetry)


def install_libraries(places: Places, environment: Mapping[str, str]) -> None:
    """Install what poetry.lock names, and the project itself, into `.venv`."""
    command = [str(places.poetry), "install", "--all-extras", "--no-ansi", "--directory", str(places.project)]
    run(command, environment, "Poetry could not install what poetry.lock names", CURE_INDEX)


def hint_at_active_environment(places: Places, environ: Mapping[str, str]) -> None:
    """Say that `poetry run` goes by an active virtual environment, which the set-up left alone."""
    active = environ.get("VIRTUAL_ENV")
    if active and Path(active) != places.environment:
        say(f"The active {active} was left alone; `deactivate` it before `poetry run`, which would use it.")


def hint_at_path(places: Places, environ: Mapping[str, str]) -> None:
    """Print the line that makes `poetry` typed in a shell found, as long as it is needed."""
    if shutil.which("poetry", path=environ.get("PATH", "")) is None and places.poetry_link.exists():
        say('To use `poetry` in your shell, add this line to its start-up file: export PATH="$HOME/.local/bin:$PATH"')


def run(command: Sequence[str], environment: Mapping[str, str], what: str, cure: str) -> str:
    """Run a command and return its output; when it fails, show the last lines of it and raise SetupError."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        for line in done.stdout.splitlines()[-OUTPUT_LINES_SHOWN:]:
            say(f"  {line}")
        raise SetupError(what, cure)
    return done.stdout


def say(line: str) -> None:
    """Tell the user; standard output is for what the scripts themselves show."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
