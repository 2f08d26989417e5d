"""Runs the code of pysandpool._stem in a plain Python process, with a stand-in for the C module."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pysandpool._config.interpreter import Interpreter
from pysandpool._stem.source import parameters, source

# The process becomes the tenant itself: it is neither copied nor confined.
_STAND_IN = """\
import json, os, sys
FILES = sys.argv[1:]
class Stem:
    def parameters(self):
        return open(FILES[0], "rb").read()
    def fail(self, text):
        os.write(2, text.encode("utf-8", "backslashreplace"))
        os._exit(99)
    def serve(self, prepare):
        given = json.load(open(FILES[1]))
        prepare(True)
        return [word.encode() for word in given["argv"]], [item.encode() for item in given["env"]], given["fd"]
    def branch(self, control):
        is_copy = os.fork() == 0
        if is_copy:
            os.write(control, b"A")
        return is_copy
exec(compile(open(FILES[2]).read(), "<sandpool>", "exec"), {"__name__": "<sandpool>", "stem": Stem()})
"""
# The process makes copies that prepare themselves, before and after it has done so often itself, and tells how many
# pages each of the two has written to or mapped.
_COPIED = """\
import os, resource, sys
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def of_a_copy(prepare):
    pid = os.fork()
    if pid == 0:
        before = faults()
        prepare(True)
        os.write(1, b"%d\\n" % (faults() - before))
        os._exit(0)
    os.waitpid(pid, 0)
class Stem:
    def parameters(self):
        return open(sys.argv[1], "rb").read()
    def serve(self, prepare):
        of_a_copy(prepare)
        for _ in range(30):
            prepare(True)
        of_a_copy(prepare)
        os._exit(0)
exec(compile(open(sys.argv[3]).read(), "<sandpool>", "exec"), {"__name__": "<sandpool>", "stem": Stem()})
"""
BASE_ENV = ("PATH=/usr/bin:/bin", "HOME=/tmp", "LC_CTYPE=C.UTF-8")


class Run:
    """What became of one piece of code."""

    def __init__(self, done: subprocess.CompletedProcess[bytes], channel: bytes) -> None:
        self.exit_code = done.returncode
        self.stdout = done.stdout.decode()
        self.stderr = done.stderr.decode()
        self.channel = channel

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The lines of the channel."""
        return [json.loads(line) for line in self.channel.splitlines()]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type."""
        return [one for one in self.messages if one["t"] == kind]

    @property
    def text(self) -> str | None:
        """The repr of the last expression."""
        found = self.of_type("text")
        return found[-1]["repr"] if found else None

    @property
    def error(self) -> dict[str, Any]:
        """The error."""
        (found,) = self.of_type("error")
        return found


def _command(
    python: str, directory: Path, interpreter: Interpreter, request: dict[str, Any], program: str = _STAND_IN
) -> list[str]:
    files = {"parameters": parameters(interpreter), "request": json.dumps(request).encode(), "source": source()}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return [python, "-I", "-B", "-c", program, *(os.fspath(directory / name) for name in files)]


def run_in_plain_process(
    code: str,
    *,
    python: str = sys.executable,
    input: bytes = b"",
    env: tuple[str, ...] = BASE_ENV,
    limit: int = 1 << 20,
    **fields: Any,
) -> Run:
    """Runs code to its end. `fields` are those of `Interpreter`."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as channel:
        far = channel.fileno()
        request = {"argv": ["run", code, json.dumps({"limit": limit})], "env": env, "fd": far}
        command = _command(python, Path(directory), Interpreter(**fields), request)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[far]
        )
        out, err = process.communicate(input, timeout=60)
        channel.seek(0)
        return Run(subprocess.CompletedProcess(command, process.returncode, out, err), channel.read())


def faults_of_copies(python: str, rehearsed: bool = True) -> list[int]:
    """How many page faults a copy takes to prepare itself, and one that is made after 30 preparations.

    `rehearsed`: as the product's, which has rehearsed before the first copy.
    """
    with tempfile.TemporaryDirectory() as directory:
        command = _command(python, Path(directory), Interpreter(), {}, _COPIED)
        if not rehearsed:
            text, changed = re.subn(rb"_REHEARSALS = \d+", b"_REHEARSALS = 0", source())
            assert changed == 1
            (Path(directory) / "source").write_bytes(text)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
    return [int(line) for line in done.stdout.split()]


@contextlib.contextmanager
def session_in_plain_process(
    python: str = sys.executable, **fields: Any
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A session: the process, and the host's end of its channel."""
    near, far = socket.socketpair()
    with tempfile.TemporaryDirectory() as directory, near:
        request = {"argv": ["session", "{}"], "env": BASE_ENV, "fd": far.fileno()}
        command = _command(python, Path(directory), Interpreter(**fields), request)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[far.fileno()],
        )
        far.close()
        with process:
            try:
                yield process, near
            finally:
                process.kill()
