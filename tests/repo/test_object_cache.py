"""tools/object_cache.py: objects are whole for whoever links them, and are of the content that they are kept for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.fspath(ROOT / "tools"))

import object_cache  # noqa: E402

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not here: apt-get install gcc")

# A compiler that is slow to say that it has ended: meanwhile somebody edits the header.
SLOW_COMPILER = """#!/bin/sh
gcc "$@" || exit
if [ -e edit ]; then mv edit answer.h; fi
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(object_cache, "CACHE", tmp_path / "objects")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answer.h").write_text("#define ANSWER 41\n")
    (tmp_path / "main.c").write_text('#include "answer.h"\nint main(void) { return ANSWER; }\n')
    return tmp_path


def compile_to(output: str, compiler: str = "gcc") -> None:
    assert object_cache.run_compiler(compiler, ["-c", "main.c", "-o", output]) == 0


def result_of(output: str) -> int:
    subprocess.run(["gcc", output, "-o", "program"], check=True)
    return subprocess.run(["./program"], check=False).returncode


def test_whoever_reads_an_object_keeps_it_whole(tree: Path) -> None:
    compile_to("main.o")
    with open("main.o", "rb") as linker:
        (tree / "answer.h").write_text("#define ANSWER 42\nint more[1000] = {1};\n")
        whole = Path("main.o").read_bytes()
        compile_to("main.o")
        assert linker.read() == whole
    assert result_of("main.o") == 42
    assert sorted(path.name for path in tree.glob("main.o*")) == ["main.o"]


def test_a_file_that_changes_while_it_is_compiled(tree: Path) -> None:
    slow = tree / "slow-compiler"
    slow.write_text(SLOW_COMPILER)
    slow.chmod(0o755)
    (tree / "edit").write_text("#define ANSWER 42\n")
    compile_to("main.o", str(slow))
    assert result_of("main.o") == 42
    (tree / "answer.h").write_text("#define ANSWER 41\n")
    compile_to("main.o", str(slow))
    assert result_of("main.o") == 41
    (tree / "answer.h").write_text("#define ANSWER 42\n")
    compile_to("main.o", str(slow))
    assert result_of("main.o") == 42


def test_a_file_that_never_stops_changing_is_an_error(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = tree / "busy-compiler"
    busy.write_text('#!/bin/sh\ngcc "$@" && touch answer.h\n')
    busy.chmod(0o755)
    assert object_cache.run_compiler(str(busy), ["-c", "main.c", "-o", "main.o"]) == 1
    assert "main.c: what it includes changes while it is compiled" in capsys.readouterr().err
    assert not [path for path in (tree / "objects").iterdir() if path.suffix == ".o"]
