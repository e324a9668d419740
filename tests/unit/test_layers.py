"""Who may import whom, and where network, files, time and output are: the rooms of the house, held to their doors."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
EVERYWHERE = frozenset({"errors", "models", "settings"})
ANY_ROOM = "any room"

ROOMS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "json_text": frozenset(),
    "settings": frozenset({"errors"}),
    "models": frozenset({"errors", "settings"}),
    "runtime": frozenset({"errors"}),
    "cli": frozenset({"settings"}),
    "config": frozenset({"errors", "settings"}),
    "sizing": EVERYWHERE,
    "guards": EVERYWHERE,
    "cloud_init": EVERYWHERE,
    "masking": frozenset({"settings"}),
    "legible": frozenset(),
    "details": frozenset({"errors"}),
    "findings": EVERYWHERE,
    "report": EVERYWHERE | {"details", "findings", "legible", "masking"},
    "shell": frozenset({"errors"}),
    "private_files": frozenset(),
    "download": frozenset({"errors", "private_files", "runtime"}),
    "shelf": frozenset({"download", "private_files"}),
    "kubernetes": frozenset({"errors", "settings"}),
    "proxmox": EVERYWHERE | {"json_text", "runtime", "shell"},
    "memory": EVERYWHERE | {"json_text", "private_files", "runtime"},
    "run_marker": EVERYWHERE | {"memory", "proxmox", "runtime"},
    "health_checker": EVERYWHERE | {"proxmox", "guards"},
    "network_validator": EVERYWHERE | {"proxmox"},
    "image_manager": EVERYWHERE | {"proxmox", "runtime", "download"},
    "preflight": EVERYWHERE | {"image_manager", "network_validator", "proxmox", "runtime", "sizing"},
    "vm_manager": EVERYWHERE | {"memory", "preflight", "proxmox", "runtime", "sizing", "cloud_init"},
    "k3s_manager": EVERYWHERE
    | {"json_text", "kubernetes", "memory", "proxmox", "runtime", "shelf", "shell", "cloud_init"},
    "trusting": EVERYWHERE | {"memory", "proxmox", "report", "runtime", "shell"},
    "assembly": frozenset({ANY_ROOM}),
    "commands": frozenset({ANY_ROOM}),
    "main": frozenset({ANY_ROOM}),
}
TIP = frozenset({"assembly", "commands", "main"})

NETWORK = frozenset({"socket", "ssl", "http", "requests", "requests_toolbelt", "urllib3", "paramiko", "proxmoxer"})
FILES = frozenset({"os", "io", "stat", "shutil", "tempfile", "glob", "dotenv", "subprocess"})
TIME = frozenset({"time", "datetime", "asyncio"})
OUTPUT = frozenset({"rich"})
FILE_CALLS = frozenset(
    {"open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file", "is_dir", "mkdir", "unlink"}
    | {"iterdir", "glob", "stat", "touch", "home", "cwd", "resolve", "expanduser"}
)

# Which of these a room may import; a room that is not named may import none. What files and time there are in the
# network's rooms is keys, images and the deadlines of real sockets.
POWERS: dict[str, frozenset[str]] = {
    "runtime": TIME | {"os"},
    "report": OUTPUT | FILES,
    "shell": NETWORK | FILES | TIME,
    "download": NETWORK | FILES | TIME,
    "kubernetes": NETWORK | FILES,
    "proxmox": NETWORK | FILES | TIME,
    "assembly": FILES,
    "private_files": FILES,
    "shelf": FILES,
    "memory": FILES | TIME,
    "config.dotenv_file": FILES,
    "config.general": frozenset({"ssl"}),
}
MAY_CALL_FILES = frozenset(
    {
        "private_files",
        "shelf",
        "memory",
        "report",
        "shell",
        "download",
        "kubernetes",
        "proxmox",
        "assembly",
        "config.credentials",
        "config.dotenv_file",
        "config.general",
        "config.reader",
        "image_manager.signature",
    }
)


def name_of(path: Path) -> str:
    """`k3s_manager.roles` for src/homelab/k3s_manager/roles.py, `` for the package itself."""
    parts = path.relative_to(SOURCE / "homelab").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted((SOURCE / "homelab").rglob("*.py"))}
LAB_FILES = sorted((SOURCE / "pvelab").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; `from homelab import x` counts as homelab.x."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            yield from (f"homelab.{alias.name}" for alias in node.names) if module == "homelab" else (module,)


def calls(path: Path) -> Iterator[str]:
    """The last name of everything that a file calls."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(attr=name) | ast.Name(id=name):
                    yield name


def uses_of(path: Path, module: str) -> set[str]:
    """What a file takes from an imported module: `sleep` for time.sleep."""
    attributes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == module}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def rooms_used(module: str) -> set[str]:
    return {name.split(".")[1] for name in imports(MODULES[module]) if name.startswith("homelab.")}


def broken(rule: Callable[[str], Collection[str]]) -> dict[str, Collection[str]]:
    """What breaks the rule, by module."""
    return {module: found for module in MODULES if module and (found := rule(module))}


def test_a_room_imports_only_the_rooms_below_it() -> None:
    def too_much(module: str) -> set[str]:
        allowed = ROOMS[room_of(module)] | {room_of(module)}
        return set() if ANY_ROOM in allowed else rooms_used(module) - allowed

    assert broken(too_much) == {}


def test_only_what_puts_the_house_together_knows_what_puts_it_together() -> None:
    assert broken(lambda module: set() if room_of(module) in TIP else rooms_used(module) & TIP) == {}


def test_network_files_time_and_output_are_only_where_they_belong() -> None:
    def too_much(module: str) -> set[str]:
        powers = POWERS.get(module, POWERS.get(room_of(module), frozenset()))
        return ({room_of(name) for name in imports(MODULES[module])} & (NETWORK | FILES | TIME | OUTPUT)) - powers

    assert broken(too_much) == {}


def test_only_rooms_with_files_of_their_own_touch_files() -> None:
    def touched(module: str) -> set[str]:
        may = {module, room_of(module)} & MAY_CALL_FILES
        return set() if may else set(calls(MODULES[module])) & FILE_CALLS

    assert broken(touched) == {}


def test_only_the_report_prints() -> None:
    assert broken(lambda module: {"print"} & set(calls(MODULES[module]))).keys() == {"report"}


def test_only_the_clock_sleeps_and_tells_the_time() -> None:
    used = broken(lambda module: uses_of(MODULES[module], "time") - {"monotonic"})

    assert used == {"runtime": {"sleep", "time"}}


def test_tool_and_lab_do_not_know_each_other() -> None:
    tool_knows = {str(path) for path in MODULES.values() for name in imports(path) if room_of(name) == "pvelab"}
    lab_knows = {str(path) for path in LAB_FILES for name in imports(path) if room_of(name) == "homelab"}

    assert LAB_FILES
    assert (tool_knows, lab_knows) == (set(), set())
