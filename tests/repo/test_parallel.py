"""A test marked `alone` runs while no other does, and the three selections are what they say: tests/support."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import SUPPORT

pytest.importorskip("xdist", reason="pip install pytest-xdist")

# Each test writes when it began and when it ended.
FILE = """
import time
import pytest

@pytest.fixture(autouse=True)
def times(request):
    began = time.monotonic()
    yield
    with open({log!r}, "a") as log:
        log.write(f"{{request.node.name}} {{began}} {{time.monotonic()}}\\n")

{marks}
@pytest.mark.parametrize("number", range({count}))
def test_{name}(number):
    time.sleep(0.05)
"""


def run(folder: Path, *words: str, shell: str = "", **environment: str) -> str:
    """What pytest prints; `shell` is a script that executes it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "SANDPOOL_TESTS"))}
    start = ["sh", "-c", shell, "sh"] if shell else []
    done = subprocess.run(
        [
            *start,
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "parallel",
            "-p",
            "selection",
            "-p",
            "no:cacheprovider",
            *words,
            folder,
        ],
        cwd=folder,
        env={**inherited, "PYTHONPATH": os.fspath(SUPPORT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_test_that_is_alone_overlaps_with_no_other(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, marks, count in (("a", "", 12), ("b", "", 12), ("alone", "@pytest.mark.alone", 4)):
        text = FILE.format(log=os.fspath(log), marks=marks, count=count, name=name)
        (tmp_path / f"test_{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone\n", encoding="utf-8")
    run(tmp_path, "-n", "3", "--dist", "loadfile")
    rows = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    spans = [(name, float(began), float(ended)) for name, began, ended in rows]
    assert len(spans) == 28

    def overlapping(wanted: str) -> bool:
        return any(
            one[0] != other[0] and one[1] < other[2] and other[1] < one[2]
            for one in spans
            for other in spans
            if one[0].startswith(wanted)
        )

    assert overlapping("test_a["), "control: the others run at the same time"
    assert not overlapping("test_alone")


MARKED = """
import pytest

def test_plain(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.extended
def test_extended(): pass
"""


@pytest.mark.parametrize(("chosen", "passed"), [("quick", 1), ("", 2), ("extended", 3)])
def test_selections(tmp_path: Path, chosen: str, passed: int) -> None:
    (tmp_path / "test_marked.py").write_text(MARKED, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    extended\n", encoding="utf-8")
    assert re.search(rf"\b{passed} passed", run(tmp_path, "-q", SANDPOOL_TESTS=chosen))


def test_a_run_in_the_background_of_a_shell_can_be_interrupted_by_its_tests(tmp_path: Path) -> None:
    """The shell lets such a job ignore Ctrl-C; a test that sends the signal to itself would wait for ever."""
    text = "import os, signal, time, pytest\ndef test_signal():\n    with pytest.raises(KeyboardInterrupt):\n"
    text += "        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(5)\n"
    (tmp_path / "test_signal.py").write_text(text, encoding="utf-8")
    run(tmp_path, "-q", shell='trap "" INT; exec "$@"')
