"""The peers of `run_code`: a cold interpreter, multiprocessing's fork server, and `exec()` in this process."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

from lease import OURS
from measure import Contender, expect
from peers import Completed, completed_is, run_outside

from pysandpool import CodeResult, SandboxPool

PRINT = "print(1)"
PRINT_OUT = "1\n"
IMPORTS = "import numpy, pandas\n"
DATAFRAME = 'print(pandas.DataFrame({"a": range(3)}).a.sum())'
DATAFRAME_OUT = "3\n"

COLD = 'subprocess.run([python, "-I", "-S", "-c", code])'
COLD_IMPORTS = 'subprocess.run([python, "-c", imports and code])'
FORKSERVER = "multiprocessing forkserver"
IN_PROCESS = "exec() in this process"


def _code_is(stdout: str) -> Callable[[CodeResult], None]:
    def check(result: CodeResult) -> None:
        expect(result.exit_code == 0 and result.error is None and not result.stderr, result)
        expect(result.stdout == stdout, f"stdout differs: {result.stdout!r}")

    return check


def snippet(pool: SandboxPool, code: str, stdout: str) -> Contender:
    """acquire + run_code + release: a fresh interpreter in a fresh sandbox."""
    return Contender(OURS, lambda: pool.run_code(code), _code_is(stdout))


def cold(code: str, stdout: str, *, imports: bool = False) -> Contender:
    """An interpreter that starts for this snippet, without any sandbox."""
    options = () if imports else ("-I", "-S")
    command = [sys.executable, *options, "-c", (IMPORTS if imports else "") + code]

    def run() -> Completed:
        return run_outside(command, capture_output=True)

    return Contender(COLD_IMPORTS if imports else COLD, run, completed_is(stdout.encode()))


def _answer(connection: Any, code: str) -> None:
    connection.send(_execute(code))


def _execute(code: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<snippet>", "exec"), {"__name__": "__main__"})
    return out.getvalue()


def _text_is(stdout: str) -> Callable[[str], None]:
    return lambda found: expect(found == stdout, f"stdout differs: {found!r}")


def forkserver(code: str, stdout: str) -> Contender:
    """A new process of the standard library's fork server, from its start to its end."""
    context = multiprocessing.get_context("forkserver")

    def run() -> str:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(there, code))
        process.start()
        there.close()
        text: str = here.recv()
        process.join()
        here.close()
        return text

    return Contender(FORKSERVER, run, _text_is(stdout))


def in_process(code: str, stdout: str) -> Contender:
    """No isolation and no process at all: the floor."""
    return Contender(IN_PROCESS, lambda: _execute(code), _text_is(stdout))
