"""Compiles the programs of tests/native/c and tests/native/fuzz, with each compiler, plain and under the sanitizers.

A program is linked with the C files of csrc/common and csrc/host, or with those that its first comment names:
`/* sources: csrc/common/wire.c */`, or `/* sources: none */`. Objects are kept in build/c-tests by content.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = ROOT / "build" / "c-tests"
OTHER_SYSTEMS = tuple(f"_{name}.c" for name in ("linux", "darwin") if not sys.platform.startswith(name))
NAMED_SOURCES = re.compile(r"/\* sources: (.*?) ?\*/", re.DOTALL)
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
    "coverage": ("--coverage", "-fprofile-update=atomic", "-O0"),
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
        return [ROOT / name for name in named[1].split() if name not in {"none", "*"}]
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
    OBJECTS.mkdir(parents=True, exist_ok=True)
    probe = OBJECTS / f"probe-{build}-{os.getpid()}"
    empty = [
        "-x",
        "c",
        os.devnull,
        "-Dnothing",
        "-Wl,--defsym=main=0,--defsym=LLVMFuzzerTestOneInput=0",
        "-o",
        os.fspath(probe),
    ]
    linked = run([build.compiler, *build.flags, *empty])
    probe.unlink(missing_ok=True)
    return None if linked.returncode == 0 else f"{build} does not link ({linked.stdout.strip()[:300]}); {install}"


@functools.cache
def digest_of_headers() -> bytes:
    text = hashlib.sha256()
    for folder in ("csrc", "tests/native/c", "tests/native/fuzz"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".h", ".cdef"}:
                text.update(path.read_bytes())
    return text.digest()


@functools.cache
def digest_of_compiler(compiler: str) -> bytes:
    return run([compiler, "--version"]).stdout.encode()


def compiled(source: Path, build: Build) -> Path:
    """The object of one source, made once per content, compiler and flags."""
    if not build.changes(source):
        build = replace(build, overlay="")
    source = build.file(source)
    key = hashlib.sha256(digest_of_headers() + digest_of_compiler(build.compiler))
    key.update(" ".join(build.flags).encode() + source.read_bytes())
    for name in INCLUDED_SOURCE.findall(source.read_text(encoding="utf-8")):
        key.update((ROOT / "csrc" / name).read_bytes())
    target = OBJECTS / f"{source.stem}-{build}-{key.hexdigest()[:16]}.o"
    if not target.exists():
        OBJECTS.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        done = run([build.compiler, *build.flags, "-c", os.fspath(source.relative_to(ROOT)), "-o", os.fspath(fresh)])
        assert done.returncode == 0, done.stdout
        fresh.replace(target)
    return target


def linked(program: Path, build: Build, folder: Path) -> Path:
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        objects = list(threads.map(lambda source: compiled(source, build), [program, *sources_of(program)]))
    target = folder / program.stem
    done = run([build.compiler, *build.flags, *map(os.fspath, objects), "-o", os.fspath(target)])
    assert done.returncode == 0, done.stdout
    return target


@functools.cache
def fixed_addresses() -> tuple[str, ...]:
    """Sanitizers of older compilers do not start where the kernel randomises more address bits than they know."""
    command = ("setarch", "--addr-no-randomize")
    usable = shutil.which(command[0]) is not None and run([*command, "true"]).returncode == 0
    return command if usable else ()
