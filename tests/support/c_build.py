"""Compiles the programs of tests/native/c and tests/native/fuzz, with each compiler, plain and under the sanitizers.

A program is linked with the C files of csrc/common and csrc/host, or with those that its first comment names:
`/* sources: csrc/common/wire.c csrc/host/seccomp */`, where a folder stands for all of its C files, or
`/* sources: none */`. Objects are kept by content: see tools/object_cache.py.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.fspath(ROOT / "tools"))

import object_cache  # noqa: E402

OTHER_SYSTEMS = tuple(f"_{name}.c" for name in ("linux", "darwin") if not sys.platform.startswith(name))
NAMED_SOURCES = re.compile(r"/\* sources: (.*?) ?\*/", re.DOTALL)
NEEDS_ZYGOTE = "#ifndef ZYGOTE"
INCLUDED_SOURCE = re.compile(r'^#include "(.*\.c)"', re.MULTILINE)

FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-Icsrc", "-Itests/native/c", "-Itests/native/fuzz", "-pthread"),
    *("-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror"),
)
SANITIZERS = {
    "plain": (),
    "asan": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "tsan": ("-fsanitize=thread",),
    "fuzz": ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
    "coverage": ("--coverage", "-fprofile-update=atomic", "-O0", "-fdata-sections"),
}
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
INSTALL = {
    "gcc": "apt-get install gcc libc6-dev | dnf install gcc libasan libubsan libtsan | apk add gcc musl-dev",
    "clang": "apt-get install clang 'libclang-rt-*-dev' | dnf install clang compiler-rt | apk add clang compiler-rt",
}


@dataclass(frozen=True)
class Build:
    compiler: str
    sanitizer: str
    static: bool = False
    overlay: str = ""  # a folder like csrc, named by its content: its files stand in for those of csrc

    def __str__(self) -> str:
        return f"{self.compiler}-{self.sanitizer}"

    @property
    def flags(self) -> tuple[str, ...]:
        first = (f"-I{self.overlay}",) if self.overlay else ()
        return (*first, *FLAGS, *SANITIZERS[self.sanitizer])

    def changes(self, source: Path) -> bool:
        """Whether this source comes out otherwise for the overlay."""
        headers = any((ROOT / self.overlay).rglob("*.h")) if self.overlay else False
        return headers or self.file(source) != source or INCLUDED_SOURCE.search(source.read_text("utf-8")) is not None

    def file(self, source: Path) -> Path:
        """The file to compile for this one."""
        if self.overlay and ROOT / "csrc" in source.parents:
            planted = ROOT / self.overlay / source.relative_to(ROOT / "csrc")
            return planted if planted.exists() else source
        return source


def sources_of(program: Path) -> list[Path]:
    named = NAMED_SOURCES.match(program.read_text(encoding="utf-8"))
    if named is not None:
        names = [name for name in named[1].split() if name not in {"none", "*"}]
        return [path for name in names for path in (sorted((ROOT / name).glob("*.c")) or [ROOT / name])]
    found = [path for folder in ("common", "host") for path in sorted((ROOT / "csrc" / folder).rglob("*.c"))]
    return [path for path in found if not path.name.endswith(OTHER_SYSTEMS)]


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )


@functools.cache
def unusable(build: Build) -> str | None:
    """Why this build cannot be made on this machine, or None."""
    install = f"install it with: {INSTALL[build.compiler]}"
    if shutil.which(build.compiler) is None:
        return f"{build.compiler} is not installed; {install}"
    with tempfile.TemporaryDirectory(prefix="sandpool-probe-") as folder:
        empty = [
            "-x",
            "c",
            os.devnull,
            "-Wl,--defsym=main=0,--defsym=LLVMFuzzerTestOneInput=0",
            "-o",
            f"{folder}/probe",
        ]
        linked = run([build.compiler, *build.flags, *empty])
    return None if linked.returncode == 0 else f"{build} does not link ({linked.stdout.strip()[:300]}); {install}"


def cached(source: Path, build: Build, *more: str) -> object_cache.Source:
    if not build.changes(source):
        build = replace(build, overlay="")
    path = build.file(source).relative_to(ROOT).as_posix()
    return object_cache.Source(build.compiler, (*build.flags, *more), path, ROOT)


@functools.cache
def zygote() -> str:
    """The static program that holds zygote and init, which the launcher of Linux starts; a path below ROOT."""
    target = ROOT / "build" / "c" / "sandpool-zygote"
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = [path for name in ("zygote", "init", "common") for path in sorted((ROOT / "csrc" / name).rglob("*.c"))]
    build = Build("gcc", "plain")
    objects = object_cache.objects([cached(path, build) for path in sources if not path.name.endswith(OTHER_SYSTEMS)])
    # Renamed when it is whole: programs of another process may be starting it.
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    done = run([build.compiler, "-static", *map(os.fspath, objects), "-o", os.fspath(fresh)])
    assert done.returncode == 0, done.stdout
    fresh.replace(target)
    return target.relative_to(ROOT).as_posix()


def linked(program: Path, build: Build, folder: Path, *more: str) -> Path:
    """`more` is what is linked with the program besides."""
    own = cached(program, build)
    if NEEDS_ZYGOTE in program.read_text(encoding="utf-8"):
        own = cached(program, build, f'-DZYGOTE="{zygote()}"')
    objects = object_cache.objects([own, *(cached(source, build) for source in sources_of(program))])
    target = folder / program.stem
    static = ["-static"] if build.static else []
    done = run([build.compiler, *build.flags, *static, *map(os.fspath, objects), *more, "-o", os.fspath(target)])
    assert done.returncode == 0, done.stdout
    return target


@functools.cache
def fixed_addresses() -> tuple[str, ...]:
    """Sanitizers of older compilers do not start where the kernel randomises more address bits than they know."""
    command = ("setarch", "--addr-no-randomize")
    usable = shutil.which(command[0]) is not None and run([*command, "true"]).returncode == 0
    return command if usable else ()
