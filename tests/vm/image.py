"""The machine's files: an initramfs made from this host's own files."""

from __future__ import annotations

import compileall
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from kernels import CACHE, ROOT, modules, needs

INSIDE = "/srv/pysandpool"
SITE = "/srv/site"
PROBES = "/srv/probes"

# What the tests run inside sandboxes, and what /init needs. Debian keeps them below /usr.
PROGRAMS = (
    *("sh", "echo", "true", "cat", "sleep", "mkdir", "mount", "chroot", "python3", "setpriv", "unshare"),
    *(
        "chown",
        "chmod",
        "cp",
        "env",
        "find",
        "head",
        "id",
        "ln",
        "ls",
        "mkfifo",
        "mv",
        "readlink",
        "rm",
        "rmdir",
        "stat",
        "tail",
        "touch",
    ),
    *("link", "printf", "ps", "setsid", "stty", "tee", "tr", "tty"),
    *("umount", "yes", "pwd", "grep", "seq", "wc", "sort", "date", "truncate", "dd", "test", "cksum", "sed", "mknod"),
    "mke2fs",
)
FILES = {
    "/etc/passwd": "root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "/etc/group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
    "/etc/shadow": "root:*:20000::::::\nuser:*:20000::::::\n",
    "/etc/ld.so.cache": "",
    "/etc/hostname": "machine\n",
    "/etc/hosts": "127.0.0.1 localhost machine\n",
    "/usr/lib/os-release": "ID=machine\n",
    "/usr/share/doc/machine": "",
    "/var/lib/dpkg/status": "",
}
PACKAGES = ("_pytest", "cffi", "iniconfig", "packaging", "pluggy", "pycparser", "pygments", "pytest")
NATIVE = ("test_descriptors", "test_landlock", "test_mount_flags", "test_pivot")
"""Programs of tests/native/c: see native.py."""
SKIPPED = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "dist-packages",
    "site-packages",
)


def qemu() -> str:
    """The path of qemu, installed if need be and allowed."""
    name, package = "qemu-system-x86_64", "qemu-system-x86"
    if shutil.which(name) is None:
        needs(f"apt-get update && apt-get install -y --no-install-recommends {package}", name, package)
    found = shutil.which(name)
    assert found is not None
    return found


def probes() -> Path:
    """The programs in C that tests run, static, for there is no compiler inside: the attacks, and some of native/c."""
    folder = CACHE / "probes"
    folder.mkdir(parents=True, exist_ok=True)
    compile_ = ["cc", "-std=gnu11", "-D_GNU_SOURCE=", "-O1", "-static", "-Icsrc", "-Itests/native/c", "-o"]
    programs = {source: [source] for source in sorted((ROOT / "tests" / "isolation" / "attack").glob("*.c"))}
    for name in NATIVE:
        source = ROOT / "tests" / "native" / "c" / f"{name}.c"
        programs[source] = [source, *map(Path, re.findall(r"csrc/\S+\.c", source.read_text().split("*/")[0]))]
    for source, parts in programs.items():
        command = [*compile_, str(folder / source.stem), *map(str, parts)]
        needs(f"cd {ROOT} && {shlex.join(command)}", f"a compiler for {source.name}", "gcc libc6-dev")
    return folder


class Archive:
    """A cpio archive of the form "newc"; directories come before what is in them, each path once."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._seen: set[str] = {"/"}

    def add(self, path: str, mode: int, data: bytes = b"", modified: int = 0) -> None:
        if path in self._seen:
            return
        self._seen.add(path)
        parent = os.path.dirname(path)
        if parent != "/":
            self.add(parent, stat.S_IFDIR | 0o755)
        self._entry(path[1:], mode, data, modified)

    def _entry(self, name: str, mode: int, data: bytes, modified: int = 0) -> None:
        encoded = os.fsencode(name) + b"\0"
        fields = (len(self._seen), mode, 0, 0, 1, modified, len(data), 0, 0, 0, 0, len(encoded), 0)
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._out.write(b"\0" * (-(110 + len(encoded)) % 4) + data + b"\0" * (-len(data) % 4))

    def copy(self, source: Path | str, target: str | None = None) -> None:
        """A file, or a link and what it points to."""
        name = os.fspath(source) if target is None else target
        if os.path.islink(source) and target is None:
            link = os.readlink(source)
            self.add(_in_usr(name), stat.S_IFLNK | 0o777, os.fsencode(link))
            self.copy(os.path.join(os.path.dirname(name), link))
        elif os.path.isfile(source):
            self.add(
                _in_usr(name),
                stat.S_IFREG | (0o755 if os.access(source, os.X_OK) else 0o644),
                Path(source).read_bytes(),
                int(os.stat(source).st_mtime),  # Python compares it with that in its compiled file
            )

    def tree(self, source: Path, target: str, skipped: Iterable[str] = ()) -> list[Path]:
        """The regular files below `source`; those that are ELF are returned."""
        elf = []
        for path in _files(source, set(skipped)):
            self.copy(path, target + "/" + path.relative_to(source).as_posix())
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    elf.append(path)
        return elf

    def close(self) -> None:
        self._entry("TRAILER!!!", 0, b"")


def _in_usr(name: str) -> str:
    """The same file's name, when /bin, /lib and the like are links to directories of /usr."""
    name = os.path.normpath(name)
    top = "/" + name.split("/")[1]
    link = os.readlink(top) if os.path.islink(top) else top
    return os.path.normpath(os.path.join("/", link, os.path.relpath(name, top)))


def _files(folder: Path, skipped: set[str]) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith("config-")]
        for name in files:
            if not name.endswith((".opt-1.pyc", ".opt-2.pyc", ".a")):
                yield Path(at, name)


def _libraries(programs: Iterable[str | Path]) -> set[str]:
    lines = subprocess.run(
        ["ldd", *(os.fspath(program) for program in programs)], capture_output=True, text=True, check=False
    ).stdout
    return {word for line in lines.splitlines() for word in line.split() if word.startswith("/") and word[-1] != ":"}


def _add_system(archive: Archive, version: str) -> None:
    """What is no file of the host: links to /usr, empty directories, made-up files, probes and modules."""
    for top in filter(os.path.islink, ("/bin", "/sbin", "/lib", "/lib64")):
        archive.add(top, stat.S_IFLNK | 0o777, os.fsencode(os.readlink(top)))
    archive.tree(probes(), PROBES)
    for name, module in modules(version).items():
        archive.add(f"/usr/lib/modules/{name}.ko", stat.S_IFREG | 0o644, module)
    for folder in ("proc", "sys", "dev", "tmp", "var/tmp", "mnt", "opt", "root"):
        archive.add("/" + folder, stat.S_IFDIR | 0o755)
    for path, text in FILES.items():
        archive.add(path, stat.S_IFREG | (0o600 if path == "/etc/shadow" else 0o644), text.encode())


def build(init: str, version: str, target: Path) -> None:
    """Writes the initramfs for this kernel with `init` as its first program."""
    site = Path(sysconfig.get_paths()["purelib"])
    stdlibs = {Path(sysconfig.get_paths()["stdlib"]), *Path("/usr/lib").glob("python3.*")}
    # An ordinary user's PATH lacks the last of these.
    found = [shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") for name in PROGRAMS]
    programs = [path for path in found if path is not None]
    system = [path for path in ("/usr/bin/python3", os.path.realpath(sys.executable)) if os.path.exists(path)]
    with target.open("wb") as out:
        archive = Archive(out)
        elf: list[Path | str] = [*programs, *system]
        for program in elf:
            archive.copy(program)
        for stdlib in sorted(stdlibs):
            elf += archive.tree(stdlib, os.fspath(stdlib), SKIPPED)
        for package in PACKAGES:
            elf += archive.tree(site / package, f"{SITE}/{package}", {"tests"})
        for extension in (site / "py.py", site / "pytest_timeout.py", *site.glob("_cffi_backend*.so")):
            archive.copy(extension, f"{SITE}/{extension.name}")
            elf.append(extension)
        for folder in ("pysandpool", "tests/support"):
            compileall.compile_dir(ROOT / folder, quiet=1)
        for folder in ("pysandpool", "tests", "csrc/host/seccomp"):
            archive.tree(ROOT / folder, f"{INSIDE}/{folder}")
        archive.copy(ROOT / "SECURITY.md", f"{INSIDE}/SECURITY.md")
        for library in sorted(_libraries(elf)):
            archive.copy(library)
        _add_system(archive, version)
        archive.add("/init", stat.S_IFREG | 0o755, init.encode())
        archive.close()
