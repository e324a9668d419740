"""Core utilities that make, move, change and remove files."""

from __future__ import annotations

import posixpath
import random
import re
import string
from collections.abc import Mapping
from types import MappingProxyType

from pvelab.machine import Command, Process
from pvelab.shell.arguments import Options, complain_about, into
from pvelab.shell.contents import Memory
from pvelab.shell.entries import Folder, Link

_SYMBOLIC = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0o111, "s": 0, "t": 0}
_WHO = {"u": 0o700, "g": 0o070, "o": 0o007, "a": 0o777}


async def mkdir(process: Process) -> int:
    """mkdir [-p] [-m MODE] NAME..."""
    options = Options(process, "pm:v", ("parents", "mode="))
    mode = int(options.value("-m|--mode", f"{0o777 & ~process.umask:o}"), 8)
    code = 0
    for name in options.words:
        try:
            process.machine.files.make_folder(
                process.path(name), process.user, mode=mode, parents="-p|--parents" in options
            )
        except OSError as failed:
            code = complain_about(process, failed, name, "cannot create directory")
    return code


async def rmdir(process: Process) -> int:
    """rmdir NAME..."""
    code = 0
    for name in Options(process).words:
        try:
            process.machine.files.remove_folder(process.path(name), process.user)
        except OSError as failed:
            code = complain_about(process, failed, name, "failed to remove")
    return code


async def rm(process: Process) -> int:
    """rm [-f] [-r] NAME..."""
    options = Options(process, "frRv", ("force", "recursive"))
    files, code = process.machine.files, 0
    for name in options.words:
        path = process.path(name)
        try:
            if isinstance(files.entry(path, process.user, follow=False), Folder) and "-r|-R|--recursive" in options:
                files.remove_folder(path, process.user, tree=True)
            else:
                files.remove(path, process.user)
        except FileNotFoundError as failed:
            if "-f|--force" not in options:
                code = complain_about(process, failed, name, "cannot remove")
        except OSError as failed:
            code = complain_about(process, failed, name, "cannot remove")
    return code


async def mv(process: Process) -> int:
    """mv [-f] SOURCE... TARGET"""
    *sources, target = Options(process, "fvTn").words or [""]
    code = 0
    for source in sources:
        try:
            process.machine.files.entry(process.path(source), process.user, follow=False)
        except OSError as failed:
            code = complain_about(process, failed, source, "cannot stat")
            continue
        try:
            process.machine.files.rename(process.path(source), into(process, source, target), process.user)
        except OSError as failed:
            process.complain(f"mv: cannot move '{source}' to '{target}': {failed.strerror}")
            code = 1
    return code


async def cp(process: Process) -> int:
    """cp [-a] [-p] [-r] SOURCE... TARGET"""
    options = Options(process, "aprRfvT", ("recursive", "archive", "reflink="))
    *sources, target = options.words or [""]
    code = 0
    for source in sources:
        try:
            _copy(process, process.path(source), into(process, source, target), options)
        except OSError as failed:
            code = complain_about(process, failed, source, "cannot stat")
    return code


def _copy(process: Process, source: str, target: str, options: Options) -> None:
    files = process.machine.files
    entry = files.entry(source, process.user)
    keeps = "-a|-p|--archive" in options
    if isinstance(entry, Folder):
        if "-r|-R|-a|--recursive|--archive" not in options:
            raise IsADirectoryError(21, "Is a directory", source)
        files.make_folder(target, process.user, mode=entry.mode, parents=True)
        for name in files.names(source, process.user):
            _copy(process, posixpath.join(source, name), posixpath.join(target, name), options)
    else:
        files.write(target, files.content(source, process.user), process.user, mode=entry.mode & ~process.umask)
    if keeps:
        owner = entry.owner if process.user == "root" else ""
        files.change(target, process.user, mode=entry.mode, owner=owner, modified=entry.modified)


async def ln(process: Process) -> int:
    """ln -s [-f] TARGET NAME"""
    options = Options(process, "sfnv", ("symbolic", "force"))
    if "-s|--symbolic" not in options or len(options.words) != 2:
        process.complain("ln: only symbolic links of one target are known here")
        return 1
    target, name = options.words
    path, files = into(process, target, name), process.machine.files
    try:
        if "-f|--force" in options and files.exists(path):
            files.remove(path, process.user)
        files.make_link(path, target, process.user)
    except OSError as failed:
        return complain_about(process, failed, name, "failed to create symbolic link")
    return 0


async def readlink(process: Process) -> int:
    """readlink [-f] NAME"""
    options = Options(process, "fen")
    path = process.path(options.words[0]) if options.words else ""
    if "-f|-e" in options:
        process.print(posixpath.normpath(path))
        return 0
    try:
        entry = process.machine.files.entry(path, process.user, follow=False)
    except OSError:
        return 1
    if not isinstance(entry, Link):
        return 1
    process.print(entry.target)
    return 0


async def chmod(process: Process) -> int:
    """chmod MODE NAME..."""
    mode, *names = Options(process, "R").words or [""]
    files, code = process.machine.files, 0
    for name in names:
        path = process.path(name)
        try:
            files.change(path, process.user, mode=_mode(mode, files.entry(path).mode))
        except OSError as failed:
            code = complain_about(process, failed, name, "cannot access")
        except ValueError:
            process.complain(f"chmod: invalid mode: '{mode}'")
            return 1
    return code


def _mode(text: str, mode: int) -> int:
    if re.fullmatch("[0-7]{1,4}", text):
        return int(text, 8)
    for clause in text.split(","):
        found = _SYMBOLIC.fullmatch(clause)
        if not found:
            raise ValueError(text)
        who = 0
        for letter in found[1] or "a":
            who |= _WHO[letter]
        bits = 0
        for letter in found[3]:
            bits |= _BITS[letter] & who
        mode = {"+": mode | bits, "-": mode & ~bits, "=": mode & ~who | bits}[found[2]]
    return mode


async def chown(process: Process) -> int:
    """chown OWNER[:GROUP] NAME..."""
    wanted, *names = Options(process, "Rh").words or [""]
    owner = re.split("[:.]", wanted)[0]
    if owner and owner not in ("root", "nobody", *process.machine.accounts):
        process.complain(f"chown: invalid user: '{wanted}'")
        return 1
    code = 0
    for name in names:
        try:
            process.machine.files.change(process.path(name), process.user, owner=owner)
        except OSError as failed:
            code = complain_about(process, failed, name, "changing ownership of")
    return code


async def mktemp(process: Process) -> int:
    """mktemp [-d] [-p FOLDER] [TEMPLATE]"""
    options = Options(process, "dp:tqu", ("directory", "tmpdir=", "suffix="))
    folder = options.value("-p|--tmpdir", process.env.get("TMPDIR", "/tmp"))
    template = options.words[0] if options.words else posixpath.join(folder, "tmp.XXXXXXXXXX")
    if options.words and ("-p|--tmpdir|-t" in options):
        template = posixpath.join(folder, template)
    stem, blanks, suffix = re.fullmatch(r"(.*?)(X*)([^X]*)", template).groups()  # type: ignore[union-attr]
    if len(blanks) < 3:
        process.complain(f"mktemp: too few X's in template '{template}'")
        return 1
    files = process.machine.files
    letters = random.Random(f"{process.machine.clock.now()}{template}")
    name = template
    while name == template or files.exists(process.path(name)):
        name = stem + "".join(letters.choices(string.ascii_letters, k=len(blanks))) + suffix
    try:
        if "-d|--directory" in options:
            files.make_folder(process.path(name), process.user, mode=0o700)
        else:
            files.write(process.path(name), b"", process.user, mode=0o600)
    except OSError as failed:
        kind = "directory" if "-d|--directory" in options else "file"
        return complain_about(process, failed, template, f"failed to create {kind} via template")
    process.print(name)
    return 0


async def touch(process: Process) -> int:
    """touch NAME..."""
    files, code = process.machine.files, 0
    for name in Options(process, "c").words:
        path = process.path(name)
        try:
            if files.exists(path):
                files.change(path, process.user, modified=process.machine.clock.now())
            else:
                files.write(path, b"", process.user, mode=0o666 & ~process.umask)
        except OSError as failed:
            code = complain_about(process, failed, name, "cannot touch")
    return code


async def install(process: Process) -> int:
    """install [-d] [-m MODE] [-o OWNER] [-g GROUP] SOURCE... TARGET"""
    options = Options(process, "dDm:o:g:v", ("directory", "mode=", "owner=", "group="))
    files, mode = process.machine.files, int(options.value("-m|--mode", "755"), 8)
    try:
        if "-d|--directory" in options:
            made = [process.path(name) for name in options.words]
            for path in made:
                files.make_folder(path, process.user, parents=True)
        else:
            *sources, target = options.words or [""]
            made = [into(process, source, target) for source in sources]
            for source, path in zip(sources, made, strict=True):
                content = _whole(process, source) or Memory(await process.read())
                if "-D" in options:
                    files.make_folder(posixpath.dirname(path), process.user, parents=True)
                files.write(path, content, process.user, mode=mode)
        for path in made:
            files.change(path, process.user, mode=mode, owner=options.value("-o|--owner"))
    except OSError as failed:
        return complain_about(process, failed, options.words[0], "cannot stat")
    return 0


def _whole(process: Process, name: str) -> Memory | None:
    if name in ("-", "/dev/stdin"):
        return None
    return Memory(process.machine.files.read(process.path(name), process.user))


async def truncate(process: Process) -> int:
    """truncate -s BYTES NAME"""
    options = Options(process, "s:", ("size=",))
    size = re.fullmatch(r"(\d+)([KMGT]?)", options.value("-s|--size"))
    if not size or len(options.words) != 1:
        process.complain("truncate: you must specify a size and one file")
        return 1
    size_bytes = int(size[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[size[2]]
    path, files = process.path(options.words[0]), process.machine.files
    try:
        held_bytes = files.content(path, process.user).size_bytes if files.exists(path) else 0
        if held_bytes and size_bytes:
            process.complain("truncate: only an empty or new file can be given a size here")
            return 1
        files.allocate(path, size_bytes, mode=0o666 & ~process.umask)
    except OSError as failed:
        return complain_about(process, failed, options.words[0], "cannot open")
    return 0


FILE_TOOLS: Mapping[str, Command] = MappingProxyType(
    {
        "chmod": chmod,
        "chown": chown,
        "cp": cp,
        "install": install,
        "ln": ln,
        "mkdir": mkdir,
        "mktemp": mktemp,
        "mv": mv,
        "readlink": readlink,
        "rm": rm,
        "rmdir": rmdir,
        "touch": touch,
        "truncate": truncate,
    }
)
