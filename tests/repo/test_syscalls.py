"""tools/gen_syscalls.py: what a kernel adds is a row of its tables, and nothing else changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from difflib import ndiff
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "gen_syscalls.py"
ARCHES = ("x86_64", "aarch64")
FAKE = "fake_call_of_tomorrow"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The tables, and the test that compares them with the golden ones, in a place of their own."""
    for name in (*(f"csrc/host/seccomp/syscalls_{arch}.h" for arch in ARCHES), "pysandpool/_config/syscalls.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "tests" / "native" / "golden", tmp_path / "tests" / "native" / "golden")
    (tmp_path / "tests" / "native" / "c").mkdir()
    shutil.copy(ROOT / "tests" / "native" / "c" / "test_seccomp.c", tmp_path / "tests" / "native" / "c")
    return tmp_path


def generate(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOL, "--root", tree, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def changes(old: Path, new: Path) -> list[str]:
    lines = ndiff(old.read_text().splitlines(), new.read_text().splitlines())
    return [line for line in lines if line[0] in "+-"]


def run_golden(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = tree / "test_seccomp"
    include = [f"-I{path}" for path in (tree / "csrc", ROOT / "csrc", ROOT / "tests" / "native" / "c")]
    sources = [
        tree / "tests/native/c/test_seccomp.c",
        *(ROOT / "csrc/host/seccomp").glob("*.c"),
    ]
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", *include, *sources, "-o", program], check=True)
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_the_tables_are_what_the_tool_makes(tree: Path) -> None:
    """Of headers as old as they like: a name that is in a table stays."""
    assert generate(tree).returncode == 0
    for path in (
        "csrc/host/seccomp/syscalls_x86_64.h",
        "csrc/host/seccomp/syscalls_aarch64.h",
        "pysandpool/_config/syscalls.py",
    ):
        assert not [line for line in changes(ROOT / path, tree / path) if line[0] == "-" and '{"' in line]


def test_a_new_call_is_a_row(tree: Path) -> None:
    before = {path: path.read_text() for path in tree.rglob("*") if path.suffix in {".h", ".py", ".txt"}}
    assert generate(tree, "--cc", "false").returncode != 0, "a preprocessor that fails is an error"
    assert {path: path.read_text() for path in before} == before
    assert generate(tree, "--add", f"{FAKE}=999").returncode == 0
    for arch in ARCHES:
        name = f"csrc/host/seccomp/syscalls_{arch}.h"
        assert f'+     {{"{FAKE}", 999}},' in changes(ROOT / name, tree / name)
        assert not [line for line in changes(ROOT / name, tree / name) if line[0] == "-"]
    found: dict[str, object] = {}
    exec((tree / "pysandpool/_config/syscalls.py").read_text(), found)
    assert all(FAKE in found[name] for name in ("X86_64", "AARCH64"))  # type: ignore[operator]
    # The golden tables miss it, and gain one row each that says: unknown, like all that nobody has judged.
    assert FAKE in run_golden(tree).stdout
    done = run_golden(tree, "--update")
    assert done.returncode == 0, done.stdout
    for path in sorted((ROOT / "tests" / "native" / "golden").glob("seccomp_*")):
        new = [line for line in changes(path, tree / "tests" / "native" / "golden" / path.name) if FAKE in line]
        assert new == [f"+ {FAKE:<24} ENOSYS"]


def test_numbers_never_change(tree: Path) -> None:
    done = generate(tree, "--add", "x86_64:read=1")
    assert done.returncode != 0
    assert "numbers never change" in done.stderr
    assert not changes(ROOT / "csrc/host/seccomp/syscalls_x86_64.h", tree / "csrc/host/seccomp/syscalls_x86_64.h")
