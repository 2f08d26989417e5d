"""What runs inside the interpreter of the sandboxes, in a plain process: each Python that this machine has runs it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stem import BASE_ENV, faults_of_copies, run_in_plain_process, session_in_plain_process


def _others() -> Iterator[str]:
    """Other versions of CPython that may run it, as pyenv and Debian install them."""
    found = [os.fspath(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python")]
    for python in sorted([*found, *filter(None, [shutil.which("/usr/bin/python3")])]):
        line = "import sys; print(sys.implementation.name == 'cpython' and (3, 9) <= sys.version_info < (3, 15))"
        asked = subprocess.run([python, "-c", line], capture_output=True, text=True, check=False)
        if asked.stdout == "True\n":
            yield python


PYTHONS = [sys.executable, *_others()]


@pytest.fixture(params=PYTHONS, ids=lambda path: path.replace(os.fspath(Path.home()), "~"))
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- one piece of code ----


def test_value_output_and_exit_code(python: str) -> None:
    run = run_in_plain_process("import sys\nprint('out')\nprint('err', file=sys.stderr)\n[1, 'x']", python=python)
    assert (run.exit_code, run.stdout, run.stderr, run.text) == (0, "out\n", "err\n", "[1, 'x']")
    assert [one["t"] for one in run.messages] == ["text", "done"]


def test_a_traceback_shows_the_lines_of_the_code_and_nothing_else(python: str) -> None:
    run = run_in_plain_process("def half(n):\n    return n / 0\n\nhalf(3)", python=python)
    assert (run.exit_code, run.stderr) == (1, "")
    error = run.error
    assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
    lines = [line.strip() for line in error["traceback"].splitlines() if set(line) - set(" ~^")]
    assert lines == [
        "Traceback (most recent call last):",
        'File "<code>", line 4, in <module>',
        "half(3)",
        'File "<code>", line 2, in half',
        "return n / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_a_syntax_error_has_no_frames(python: str) -> None:
    run = run_in_plain_process("x = 1 +", python=python)
    assert run.exit_code == 1
    assert run.error["name"] == "SyntaxError"
    assert run.error["traceback"].startswith('  File "<code>", line 1')


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import asyncio\nawait asyncio.sleep(0, 7)", "7"),
        ("async def ones():\n    yield 1\n\n[n async for n in ones()]", "[1]"),
        ("import asyncio\nasync with asyncio.Lock() as held:\n    n = 5\nn", "5"),
        ("import asyncio\nasyncio.run(asyncio.sleep(0, 6))", "6"),
    ],
)
def test_code_may_await_outside_of_a_function(python: str, code: str, text: str) -> None:
    run = run_in_plain_process(code, python=python)
    assert (run.exit_code, run.stderr, run.text) == (0, "", text)


def test_the_end_cancels_tasks(python: str) -> None:
    code = """
import asyncio
async def ever():
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled")
task = asyncio.ensure_future(ever()) if not await asyncio.sleep(0) else None
await asyncio.sleep(0)
"""
    run = run_in_plain_process(code, python=python)
    assert (run.exit_code, run.stdout, run.stderr) == (0, "cancelled\n", "")


def test_a_traceback_has_no_lines_of_the_event_loop(python: str) -> None:
    run = run_in_plain_process("async def bad():\n    raise KeyError(1)\n\nawait bad()", python=python)
    assert [line.strip() for line in run.error["traceback"].splitlines()[:3]] == [
        "Traceback (most recent call last):",
        'File "<code>", line 4, in <module>',
        "await bad()",
    ]
    assert "asyncio" not in run.error["traceback"]


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit()", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit(257)", 1, ""),
        ("raise SystemExit('why')", 1, "why\n"),
        ("raise SystemExit(True)", 1, ""),
    ],
)
def test_exits(code: str, exit_code: int, stderr: str) -> None:
    run = run_in_plain_process(code)
    assert (run.exit_code, run.stderr, run.of_type("error")) == (exit_code, stderr, [])


def test_the_interpreter_ends_as_python_does(python: str) -> None:
    code = """
import atexit, threading
file = open("/proc/self/fd/1", "w")
file.write("unclosed ")
atexit.register(print, "atexit", end=" ")
printed = threading.Event()
threading.Thread(target=lambda: (printed.wait(), print("thread", end=" "))).start()
print("code", end=" ")
printed.set()
"""
    assert run_in_plain_process(code, python=python).stdout == "code thread atexit unclosed "


# Tells whether the end looks for threads, and how many handlers logging.shutdown() finds.
WATCHED = """
import atexit, concurrent.futures, concurrent.futures.thread, logging, sys, threading
usual = threading._shutdown
ending = threading.Event()
def tell_at_end(what):
    ending.wait()
    sys.stdout.write(what + chr(10))
threading._shutdown = lambda: (print("threads"), ending.set(), usual())
atexit.register(lambda: print(len(logging._handlerList)))
"""


@pytest.mark.parametrize(
    ("code", "out"),
    [
        ("1", "0\n"),
        ("concurrent.futures.ThreadPoolExecutor(1).submit(tell_at_end, 'pool') and None", "threads\npool\n0\n"),
        ("threading.Thread(target=tell_at_end, args=('thread',)).start()", "threads\nthread\n0\n"),
        ("getattr(threading, '_register_atexit')(print, 'registered')", "threads\nregistered\n0\n"),
        ("threading._active = None", "threads\n0\n"),
    ],
)
def test_the_end_does_what_there_is_to_do_and_nothing_else(python: str, code: str, out: str) -> None:
    """Each page that it writes to is one that the kernel has to copy."""
    run = run_in_plain_process(code, python=python, setup=WATCHED)
    assert run.stdout == out, run.stderr


def test_what_a_handler_of_logging_keeps_is_written_at_the_end(python: str) -> None:
    code = """
import logging.handlers, sys
handler = logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout))
logging.getLogger().addHandler(handler)
logging.warning("kept")
"""
    run = run_in_plain_process(code, python=python, setup=WATCHED)
    assert run.stdout.splitlines()[-1] == "kept"
    assert run.exit_code == 0


def test_what_fails_at_exit_is_printed() -> None:
    run = run_in_plain_process("import atexit\natexit.register(lambda: 1 / 0)\nprint('on')")
    assert run.exit_code == 0
    assert run.stdout == "on\n"
    assert "ZeroDivisionError" in run.stderr


def test_output_is_written_through() -> None:
    run = run_in_plain_process("import os\nprint('kept', end='')\nos._exit(3)")
    assert (run.exit_code, run.stdout, run.channel) == (3, "kept", b"")


def test_input(python: str) -> None:
    run = run_in_plain_process("import sys\n[input(), sys.stdin.read()]", python=python, input="ä\nrest".encode())
    assert run.text == "['ä', 'rest']"


def test_the_environment_is_that_of_the_request() -> None:
    code = "import os, subprocess\nprint(subprocess.check_output(['env'], text=True), end='')\nsorted(os.environ)"
    run = run_in_plain_process(code, env=(*BASE_ENV, "NAME=a=b"))
    assert sorted(run.stdout.splitlines()) == sorted([*BASE_ENV, "NAME=a=b"])
    assert run.text == str(sorted(["PATH", "HOME", "LC_CTYPE", "NAME"]))


def test_tz_takes_effect() -> None:
    run = run_in_plain_process("import time\ntime.tzname[0]", env=(*BASE_ENV, "TZ=XYZ-3"))
    assert run.text == "'XYZ'"


def test_main_is_fresh_and_is_the_module() -> None:
    code = """
import __main__, pickle, sys
class Own: pass
names = sorted(name for name in vars() if not name.startswith("__"))
pickle.loads(pickle.dumps(Own())).__class__ is Own, __main__.names is names, names, sys.argv, sys.path[0], __name__
"""
    run = run_in_plain_process(code)
    assert run.text == str((True, True, ["Own", "pickle", "sys"], [""], "", "__main__"))


def test_the_rehearsal_leaves_nothing_behind() -> None:
    code = """
import builtins, linecache, os, sys
fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1]
files = [(f.fileno(), f.seekable(), f is g) for f, g in
         ((sys.stdin, sys.__stdin__), (sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__))]
hasattr(builtins, '_'), '_' in os.environ, sys.argv, sys.path.count(''), files, fds[:3], len(fds) <= 5
"""
    run = run_in_plain_process(code)
    files = [(0, False, True), (1, False, True), (2, False, True)]
    assert run.text == str((False, False, [""], 1, files, [0, 1, 2], True))
    assert (run.stdout, run.stderr) == ("", "")


def test_the_interpreter_is_warm_when_it_is_copied(python: str) -> None:
    """Caches and adapted code would otherwise be written by each copy: 12 to 35 percent more page faults.

    How many are left differs by what a Python loads at its start, so each is compared with itself.
    """
    warm, cold = ([faults_of_copies(python, rehearsed) for _ in range(2)] for rehearsed in (True, False))
    more, most = (min(first - later for first, later in runs) for runs in (warm, cold))
    assert more < most / 2, (warm, cold)


def test_the_modules_of_this_folder_are_not_to_be_found() -> None:
    assert (
        run_in_plain_process("import sys\n[name for name in sys.modules if name.startswith('_sandpool')]").text == "[]"
    )


def test_a_copy_that_the_code_makes_tells_nothing() -> None:
    code = "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n'parent' if pid else 'child'"
    run = run_in_plain_process(code)
    assert run.exit_code == 0
    assert [one["t"] for one in run.messages] == ["text", "done"]
    assert run.text == "'parent'"


def test_inspect_finds_the_source() -> None:
    run = run_in_plain_process("import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f), end='')")
    assert run.stdout == "def f():\n    return 1\n"


def test_future_statements_of_the_runtime_do_not_reach_the_code() -> None:
    assert run_in_plain_process("def f(x: 1 + 1): ...\nf.__annotations__").text == "{'x': 2}"


@pytest.mark.parametrize(
    "code",
    [
        "class Bad(Exception):\n    def __str__(self): raise SystemExit(5)\nraise Bad",
        "class Bad:\n    def __repr__(self): raise KeyboardInterrupt\nBad()",
        (
            "class Meta(type):\n    __name__ = property(lambda cls: 1 / 0)\n"
            "class Bad(Exception, metaclass=Meta): pass\nraise Bad"
        ),
        "def f():\n    f()\nf()",
    ],
)
def test_whatever_an_exception_does_it_is_told(code: str) -> None:
    run = run_in_plain_process(code)
    assert run.exit_code == 1
    assert len(run.error["traceback"]) < 70_000
    assert run.messages[-1]["t"] == "done"


def test_long_errors_are_shortened() -> None:
    run = run_in_plain_process("raise ValueError('x' * 10_000_000)", limit=1 << 20)
    assert len(run.error["value"]) < 70_000
    assert len(run.channel) < 300_000


# ---- results ----


def test_what_a_class_offers_for_notebooks() -> None:
    code = """
class Table:
    def __repr__(self): return "Table"
    def _repr_html_(self): return "<table>"
    def _repr_png_(self): return b"\\x89PNG"
    def _repr_svg_(self): 1 / 0
    def _repr_latex_(self): return None
    def _repr_json_(self): return {"a": 1}, {"meta": 1}
Table()
"""
    (result,) = run_in_plain_process(code).of_type("result")
    assert result["data"] == {"text/plain": "Table", "text/html": "<table>", "application/json": '{"a": 1}'}
    assert base64.b64decode(result["bytes"]["image/png"]) == b"\x89PNG"


def test_a_bundle_of_representations() -> None:
    code = """
class Chart:
    def __repr__(self): return "Chart"
    def _repr_html_(self): return "<b>"
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": "a chart", "text/html": "<i>", "image/png": "iVBO\\nRw==\\n", "a/bytes": b"x", 1: "",
                "application/vnd.chart.v1+json": {"a": [1]}, "x/json": {1, 2}, "image/jpeg": "no", "m" * 129: ""}, {}
Chart()
"""
    (result,) = run_in_plain_process(code).of_type("result")
    assert result["data"] == {
        "text/plain": "a chart",
        "text/html": "<b>",
        "application/vnd.chart.v1+json": '{"a": [1]}',
    }
    assert result["bytes"] == {"image/png": "iVBORw==", "a/bytes": "eA=="}


def test_what_cannot_be_told_is_as_if_its_method_had_failed() -> None:
    code = "class Odd:\n    def _repr_json_(self): return {1, 2}\n    def _repr_png_(self): return 'no'\nOdd()"
    run = run_in_plain_process(code)
    assert [message["t"] for message in run.messages] == ["text", "done"]


def test_a_daemon_thread_that_outlives_the_code_prints_nothing() -> None:
    code = """
import threading, time
class Slow:
    def __del__(self, sleep=time.sleep): sleep(0.1)
slow, n = Slow(), 0
def count():
    global n
    while True: n += 1
threading.Thread(target=count, daemon=True).start()
"""
    run = run_in_plain_process(code)
    assert (run.exit_code, run.stderr) == (0, "")


def test_only_the_class_is_asked() -> None:
    code = (
        "class Anything:\n    def __getattr__(self, name): return lambda: name\n    def __repr__(self): return 'any'\n"
    )
    assert run_in_plain_process(code + "Anything()").of_type("result") == []


def test_figures_of_pyplot() -> None:
    code = """
import sys, types
class Figure:
    def __init__(self, n): self.n = n
    def __repr__(self): return f"Figure {self.n}"
    def savefig(self, file, **how):
        if self.n == 2: raise ValueError("cannot draw")
        file.write(b"PNG%d" % self.n)
pyplot = types.ModuleType("matplotlib.pyplot")
pyplot.get_fignums = lambda: [1, 2, 3]
pyplot.figure = Figure
pyplot.close = lambda what: print("closed", what)
sys.modules["matplotlib.pyplot"] = pyplot
"""
    run = run_in_plain_process(code)
    found = [(one["data"]["text/plain"], base64.b64decode(one["bytes"]["image/png"])) for one in run.of_type("result")]
    assert found == [("Figure 1", b"PNG1"), ("Figure 3", b"PNG3")]
    assert run.stdout == "closed all\n"
    assert "cannot draw" in run.stderr


@pytest.mark.parametrize(("open_ones", "images"), [("", [b"PNG"]), ("shown", [b"PNG"]), ("None", [b"PNG", b"PNG"])])
def test_a_figure_that_is_the_value_is_shown_once_also_if_it_is_closed(open_ones: str, images: list[bytes]) -> None:
    code = f"""
import sys, types
class Figure:
    def savefig(self, file, **how): file.write(b"PNG")
shown = Figure()
open_ones = [{open_ones}]
for name in ("matplotlib.figure", "matplotlib.pyplot"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["matplotlib.figure"].Figure = Figure
pyplot = sys.modules["matplotlib.pyplot"]
pyplot.get_fignums = lambda: list(range(len(open_ones)))
pyplot.figure = lambda number: open_ones[number] or Figure()
pyplot.close = lambda what: None
shown
"""
    found = run_in_plain_process(code).of_type("result")
    assert [base64.b64decode(one["bytes"]["image/png"]) for one in found] == images


@pytest.mark.parametrize("letter", ["x", "\t", "é", "\U0001f600", '"'])
def test_what_is_above_the_limit_is_shortened_and_says_so(letter: str) -> None:
    code = f"class Long:\n    __repr__ = lambda self: {letter!r} * 5000\nLong()"
    text, done = run_in_plain_process(code, limit=1000).messages
    found = text.pop("repr")
    assert (text, done) == ({"t": "text", "cut": True}, {"t": "done", "dropped": True})
    assert found == letter * len(found)
    assert 600 < len(json.dumps(found)) < 1000 - 256


def test_a_long_error_is_shortened_and_not_dropped() -> None:
    error, done = run_in_plain_process("raise ValueError('x' * 5000)", limit=1000).messages
    assert (error["t"], error["name"], error["cut"], done["dropped"]) == ("error", "ValueError", True, True)
    assert error["value"].startswith("xxx")
    assert error["traceback"].startswith('Traceback (most recent call last):\n  File "<code>", line 1')


def test_what_has_no_room_at_all_is_dropped_and_the_end_says_so() -> None:
    assert run_in_plain_process("'x'", limit=0).messages == [{"t": "done", "dropped": True}]


# ---- preload ----


def test_setup_defines_what_all_code_finds(python: str) -> None:
    run = run_in_plain_process(
        "helper(2), json.__name__", python=python, setup="import json\ndef helper(n):\n    return 2 * n"
    )
    assert run.text == "(4, 'json')"


def test_a_traceback_through_setup_shows_its_lines() -> None:
    run = run_in_plain_process("helper()", setup="def helper():\n    return missing")
    assert "return missing" in run.error["traceback"]
    assert 'File "<setup>", line 2' in run.error["traceback"]


def test_preloaded_modules_are_there() -> None:
    run = run_in_plain_process("import sys\n'xml.etree.ElementTree' in sys.modules", preload=["xml.etree.ElementTree"])
    assert run.text == "True"
    assert run_in_plain_process("import sys\n'xml.etree.ElementTree' in sys.modules").text == "False"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preload": ["no_such_module"]}, "ModuleNotFoundError: No module named 'no_such_module'"),
        ({"setup": "print('first')\nraise ValueError('broken')"}, "first\nTraceback"),
        ({"setup": "import sys\nsys.exit(3)"}, "SystemExit: 3"),
        ({"warmup": "1 / 0"}, "ZeroDivisionError"),
        ({"setup": "x ="}, "SyntaxError"),
    ],
)
def test_a_failed_preload_tells_why(fields: dict[str, Any], words: str, python: str) -> None:
    run = run_in_plain_process("1", python=python, **fields)
    assert run.exit_code == 99
    assert words in run.stderr


@pytest.mark.parametrize("module", ["threading", "_thread"])
def test_a_preload_that_leaves_threads_is_refused(module: str, python: str) -> None:
    start = "Thread(target=time.sleep, args=(9,), name='sleepy', daemon=True).start()"
    if module == "_thread":
        start = "start_new_thread(time.sleep, (9,))"
    run = run_in_plain_process("1", python=python, setup=f"import time\nfrom {module} import *\n{start}")
    assert run.exit_code == 99
    assert ("sleepy" if module == "threading" else "of a C library") in run.stderr


def test_warmup_has_a_namespace_of_its_own_and_prints_nothing() -> None:
    run = run_in_plain_process("sorted(set(globals()) & {'x', 'y'})", setup="x = 1", warmup="y = x\nprint('no')")
    assert (run.text, run.stdout) == ("['x']", "")


def test_after_fork_runs_in_main_and_its_failure_is_fatal() -> None:
    assert run_in_plain_process("seed", setup="seed = 0", after_fork="seed += 1").text == "1"
    run = run_in_plain_process("print('ran')", after_fork="1 / 0")
    assert run.exit_code == 99  # of stem.fail()
    assert run.stdout == ""
    assert 'File "<after_fork>", line 1, in <module>\n    1 / 0\n' in run.stderr


def test_random_numbers_differ() -> None:
    """With the renewal they differ, though `setup` has seeded them; an instance that it has made does not."""
    setup = "import random, tempfile\nrandom.seed(1)\nown = random.Random(1)\ntempfile.gettempdir()"
    code = "random.random(), next(tempfile._get_candidate_names()), own.random()"
    runs = [run_in_plain_process(code, setup=setup).text for _ in range(2)]
    first, second = (eval(text or "") for text in runs)
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert first[2] == second[2]


# ---- sessions ----


class Cells:
    """Sends cells, and reads what is reported of each."""

    def __init__(self, near: socket.socket) -> None:
        self.near = near
        self.n = 0
        self._lines = near.makefile("rb")

    def send(self, request: dict[str, Any], fds: list[int] | None = None) -> None:
        line = json.dumps(request).encode() + b"\n"
        if fds:
            socket.send_fds(self.near, [line], fds)
        else:
            self.near.sendall(line)

    def run(self, code: str, fds: list[int] | None = None) -> list[dict[str, Any]]:
        self.n += 1
        self.send({"t": "cell", "n": self.n, "code": code, "limit": 1 << 20}, fds)
        return self.read()

    def read(self) -> list[dict[str, Any]]:
        found = []
        for line in self._lines:
            found.append(json.loads(line))
            if found[-1]["t"] == "done":
                return found
        return found

    def text(self, code: str) -> str | None:
        return next((one["repr"] for one in self.run(code) if one["t"] == "text"), None)


def test_cells_share_their_state(python: str) -> None:
    with session_in_plain_process(python) as (process, near):
        cells = Cells(near)
        assert cells.run("x = [1]\ndef f():\n    return 1 / 0") == [
            {"t": "done", "dropped": False, "n": 1, "exits": False}
        ]
        assert cells.text("x.append(2)\nx") == "[1, 2]"
        error = cells.run("f()")[0]
        assert error["name"] == "ZeroDivisionError"
        assert 'File "<cell 3>", line 1' in error["traceback"]
        assert 'File "<cell 1>", line 3' in error["traceback"]
        assert "return 1 / 0" in error["traceback"]
        assert cells.text("_") == "[1, 2]"
        near.shutdown(socket.SHUT_WR)
        assert process.wait(10) == 0


def test_future_statements_hold_for_later_cells() -> None:
    with session_in_plain_process() as (_, near):
        cells = Cells(near)
        cells.run("from __future__ import annotations")
        assert cells.text("def f(x: nonsense): ...\nf.__annotations__") == "{'x': 'nonsense'}"


def test_exit_in_a_cell_ends_the_session() -> None:
    with session_in_plain_process() as (process, near):
        cells = Cells(near)
        assert cells.run("import atexit\natexit.register(print, 'bye')\nraise SystemExit(4)")[-1]["exits"] is True
        assert process.wait(10) == 4
        assert process.stdout is not None
        assert process.stdout.read() == b"bye\n"


def test_each_cell_has_its_input() -> None:
    with session_in_plain_process() as (_, near):
        cells = Cells(near)
        for data in (b"first\n", b"second\n"):
            fd = os.memfd_create("input")
            os.write(fd, data)
            os.lseek(fd, 0, os.SEEK_SET)
            (value, _) = cells.run("input()", [fd])
            os.close(fd)
            assert value["repr"] == repr(data.decode().strip())
        assert cells.text("import sys, os\nsys.stdin.read(), os.listdir('/proc/self/fd').__len__() < 8") == "('', True)"


def test_a_copy_that_a_cell_makes_ends_with_the_cell() -> None:
    with session_in_plain_process() as (_, near):
        cells = Cells(near)
        cells.run("import os\npid = os.fork()\nif pid: status = os.waitpid(pid, 0)[1]")
        assert cells.text("status") == "0"


def test_a_branch_is_a_copy_with_streams_of_its_own(python: str) -> None:
    with session_in_plain_process(python, after_fork="forks = globals().get('forks', 0) + 1") as (_, near):
        cells = Cells(near)
        cells.run("x = 1\nimport random\nrandom.seed(3)")
        branch_near, branch_far = socket.socketpair()
        (out, out_far), (err, err_far), (control, control_far) = os.pipe(), os.pipe(), os.pipe()
        fds = [branch_far.fileno(), out_far, err_far, control_far]
        cells.send({"t": "branch"}, fds)
        branch_far.close()
        for fd in fds[1:]:
            os.close(fd)
        assert os.read(control, 10) == b"A"
        branch = Cells(branch_near)
        assert branch.text("x += 1\nprint('in the branch')\nx") == "2"
        assert cells.text("x") == "1"
        assert os.read(out, 100) == b"in the branch\n"
        assert branch.text("random.random()") != cells.text("random.random()")
        assert (branch.text("forks"), cells.text("forks")) == ("2", "1")
        branch.run("import sys\nprint('error', file=sys.stderr)")
        assert os.read(err, 100) == b"error\n"
        branch_near.shutdown(socket.SHUT_RDWR)
        branch_near.close()
        assert os.read(out, 100) == b""
        assert os.read(err, 100) == b""
        for fd in (out, err, control):
            os.close(fd)
        assert cells.text("x") == "1"


def test_a_failed_branch_is_told() -> None:
    with session_in_plain_process() as (_, near):
        cells = Cells(near)
        cells.run("import os\ndef fork(): raise BlockingIOError(11, 'no more')\nos.fork = fork")
        fds = [os.dup(near.fileno()) for _ in range(4)]
        cells.send({"t": "branch"}, fds)
        for fd in fds:
            os.close(fd)
        assert cells.read() == [{"t": "done", "dropped": False, "errno": 11}]
        assert cells.text("1") == "1"


def test_output_of_a_cell_comes_before_its_end() -> None:
    with session_in_plain_process() as (process, near):
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        cells = Cells(near)
        for n in range(20):
            cells.run(f"print({n})")
            assert os.read(process.stdout.fileno(), 100) == f"{n}\n".encode()
