#!/usr/bin/env python3
"""Objects of C files, kept by content: a file is compiled again only when it, a header that it includes, the compiler
or a flag has changed. `make quick` and the C tests use it.

    CC="python tools/object_cache.py gcc" python setup.py build_ext     a compiler that keeps its objects

Which files a compiler call reads is known from the list of dependencies (-MD) that it wrote the last time: an object is
taken when all of them have the content that they had then. Everything is in build/objects; deleting it is safe.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / "build" / "objects"
# How many versions of one file are remembered: one for each branch that somebody goes back and forth between.
VERSIONS = 16
# How far the times of files may be behind the clock, and how often a source is compiled that is being edited.
CLOCK_TICK_NS = 20_000_000
TRIES = 5
# A file that was read -> the digest of its content.
Version = dict[str, str]


class CompileError(Exception):
    """What the compiler printed."""


def digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


@functools.cache
def identity(compiler: str) -> str:
    """Changes when the compiler is replaced by another version."""
    path = os.path.realpath(shutil.which(compiler) or compiler)
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


@functools.cache
def _content(path: str, *_times: int) -> str:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=16).hexdigest()


def content(path: str) -> str:
    """Of a file that may have been removed since. Read again only when the file has changed."""
    try:
        status = os.stat(path)
        return _content(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError:
        return "none"


def changed_since(path: str, moment: int) -> bool:
    """Whether the file was written, replaced or removed after `moment`, or so shortly before that nobody can tell."""
    try:
        return os.stat(path).st_ctime_ns >= moment - CLOCK_TICK_NS
    except OSError:
        return True


def dependencies(rule: str) -> list[str]:
    """The files that a rule of make names after its colon."""
    words = re.findall(r"(?:\\.|\S)+", rule.partition(":")[2].replace("\\\n", " "))
    return [re.sub(r"\\(.)", r"\1", word) for word in words]


class Source:
    """One C file with its compiler and flags; paths are relative to `root`."""

    def __init__(self, compiler: str, flags: tuple[str, ...], path: str, root: Path) -> None:
        self.command = [compiler, *flags, "-c", path]
        self.root = root
        self.key = digest(identity(compiler), *self.command, os.fspath(root))
        self.stem = Path(path).stem
        self.versions = CACHE / f"{self.stem}-{self.key}.json"

    def object(self) -> Path:
        """Raises CompileError."""
        known: list[Version] = []
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self.versions.read_text(encoding="utf-8"))
        for version in known:
            target = self._target(version)
            if version == self._look(version) and target.exists():
                return target
        return self._compile(known)

    def _look(self, paths: list[str] | Version) -> Version:
        return {path: content(os.fspath(self.root / path)) for path in paths}

    def _target(self, version: Version) -> Path:
        read = (f"{path}={was}" for path, was in sorted(version.items()))
        return CACHE / f"{self.stem}-{digest(self.key, *read)}.o"

    def _compile(self, known: list[Version]) -> Path:
        CACHE.mkdir(parents=True, exist_ok=True)
        # Several processes may compile the same file: each writes files of its own and renames them.
        fresh = CACHE / f"{self.stem}-{self.key}.{os.getpid()}-{threading.get_ident()}.o"
        rule, versions = fresh.with_suffix(".d"), fresh.with_suffix(".json")
        for _ in range(TRIES):
            began = time.time_ns()
            self._run(fresh, rule)
            paths = dependencies(rule.read_text(encoding="utf-8"))
            rule.unlink()
            version = self._look(paths)
            # An object that was made while a file changed would be kept for a content that it is not of.
            if not any(changed_since(os.fspath(self.root / path), began) for path in paths):
                break
        else:
            fresh.unlink()
            raise CompileError(f"{self.command[-1]}: what it includes changes while it is compiled\n")
        target = self._target(version)
        fresh.replace(target)
        versions.write_text(json.dumps([version, *known][:VERSIONS]), encoding="utf-8")
        versions.replace(self.versions)
        return target

    def _run(self, fresh: Path, rule: Path) -> None:
        command = [*self.command, "-MD", "-MF", os.fspath(rule), "-o", os.fspath(fresh)]
        done = subprocess.run(
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            raise CompileError(done.stdout)
        sys.stderr.write(done.stdout)  # warnings


def objects(sources: list[Source]) -> list[Path]:
    """Of all of them, compiled on all cores."""
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and a single file needs none

    if len(sources) == 1:
        return [sources[0].object()]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(Source.object, sources))


def copy_whole(source: Path, target: str) -> None:
    """Replaces `target` at once. Both modules have the same C files and, with `build_ext --parallel`, write the same
    objects: the linker of one must not read an object that the compiler of the other has written in part.
    """
    fresh = f"{target}.{os.getpid()}-{threading.get_ident()}"
    shutil.copyfile(source, fresh)
    os.replace(fresh, target)


def is_for_the_linker(word: str) -> bool:
    return word in {"-s", "-shared"} or word.startswith(("-Wl,", "-l", "-L"))


def run_compiler(compiler: str, words: list[str]) -> int:
    """Does what `compiler words...` does. Only compiling C files to objects, or to a program, uses the cache."""
    paths = [word for word in words if word.endswith(".c")]
    at = words.index("-o") if "-o" in words else -1
    only_objects = "-c" in words
    if at == -1 or "-E" in words or not paths or (only_objects and len(paths) > 1):
        return subprocess.run([compiler, *words], check=False).returncode
    output, rest = words[at + 1], words[:at] + words[at + 2 :]
    flags = tuple(word for word in rest if word not in paths and word != "-c" and not is_for_the_linker(word))
    try:
        made = objects([Source(compiler, flags, path, Path.cwd()) for path in paths])
    except CompileError as error:
        sys.stderr.write(str(error))
        return 1
    if only_objects:
        copy_whole(made[0], output)
        return 0
    of_path = {path: os.fspath(path_object) for path, path_object in zip(paths, made)}
    linked = [of_path.get(word, word) for word in rest]
    return subprocess.run([compiler, *linked, "-o", output], check=False).returncode


if __name__ == "__main__":
    sys.exit(run_compiler(sys.argv[1], sys.argv[2:]))
