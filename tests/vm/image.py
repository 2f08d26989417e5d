"""The machine's files: Debian's cloud kernel, and an initramfs made from this host's own files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "vm"
INSIDE = "/srv/pysandpool"
SITE = "/srv/site"

# What the tests run inside sandboxes, and what /init needs. Debian keeps them below /usr.
PROGRAMS = ("sh", "echo", "true", "cat", "sleep", "mkdir", "mount", "chroot", "python3")
PACKAGES = ("_pytest", "cffi", "iniconfig", "packaging", "pluggy", "pycparser", "pygments", "pytest")
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


def needs(command: list[str], what: str, package: str) -> None:
    """Runs what installs `what`; SystemExit with the command when that does not work."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{what} is missing: apt-get install {package}\n{done.stderr.strip()}")


def qemu() -> str:
    """The path of qemu, installed if need be and allowed."""
    name = "qemu-system-x86_64"
    if shutil.which(name) is None:
        needs(["apt-get", "install", "-y", "--no-install-recommends", "qemu-system-x86"], name, "qemu-system-x86")
    found = shutil.which(name)
    assert found is not None
    return found


def kernel() -> Path:
    """Debian's cloud kernel, fetched once into the cache. No root is needed."""
    found = sorted(CACHE.glob("boot/vmlinuz-*"))
    if not found:
        CACHE.mkdir(parents=True, exist_ok=True)
        lines = subprocess.run(
            ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=False
        ).stdout
        names = [word for word in lines.split() if word.startswith("linux-image-")]
        if not names:
            raise SystemExit("no package linux-image-cloud-amd64 is known: apt-get update (Debian only)")
        fetch = f"cd {CACHE} && apt-get download {names[-1]} && dpkg --fsys-tarfile {names[-1]}_*.deb | tar -x ./boot"
        needs(["sh", "-c", fetch], "the kernel", names[-1])
        found = sorted(CACHE.glob("boot/vmlinuz-*"))
    return found[-1]


class Archive:
    """A cpio archive of the form "newc"; directories come before what is in them, each path once."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._seen: set[str] = {"/"}

    def add(self, path: str, mode: int, data: bytes = b"") -> None:
        if path in self._seen:
            return
        self._seen.add(path)
        parent = os.path.dirname(path)
        if parent != "/":
            self.add(parent, stat.S_IFDIR | 0o755)
        self._entry(path[1:], mode, data)

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        encoded = os.fsencode(name) + b"\0"
        fields = (len(self._seen), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
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


def build(init: str, target: Path) -> None:
    """Writes the initramfs with `init` as its first program."""
    site = Path(sysconfig.get_paths()["purelib"])
    stdlibs = {Path(sysconfig.get_paths()["stdlib"]), *Path("/usr/lib").glob("python3.*")}
    programs = [path for path in map(shutil.which, PROGRAMS) if path is not None]
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
        for extension in (site / "py.py", *site.glob("_cffi_backend*.so")):
            archive.copy(extension, f"{SITE}/{extension.name}")
            elf.append(extension)
        for folder in ("pysandpool", "tests"):
            archive.tree(ROOT / folder, f"{INSIDE}/{folder}")
        for library in sorted(_libraries(elf)):
            archive.copy(library)
        for top in filter(os.path.islink, ("/bin", "/sbin", "/lib", "/lib64")):
            archive.add(top, stat.S_IFLNK | 0o777, os.fsencode(os.readlink(top)))
        for folder in ("proc", "sys", "dev", "tmp", "mnt"):
            archive.add("/" + folder, stat.S_IFDIR | 0o755)
        archive.add("/etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
        archive.add("/init", stat.S_IFREG | 0o755, init.encode())
        archive.close()
