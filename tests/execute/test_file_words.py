"""File calls with the further arguments that pathlib has for them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loops import run_on

from pysandpool import AsyncSandbox, Sandbox

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent has no file calls")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def test_text_has_an_encoding(sandbox: Sandbox) -> None:
    sandbox.write_file("f", "caf\xe9\r\n", encoding="latin-1")
    assert sandbox.read_file("f") == b"caf\xe9\r\n"
    assert sandbox.read_file("f", encoding="latin-1") == "caf\xe9\r\n"
    assert sandbox.read_file("f", text=True, errors="replace") == "caf\N{REPLACEMENT CHARACTER}\r\n"
    with pytest.raises(UnicodeDecodeError):
        sandbox.read_file("f", text=True)
    with pytest.raises(UnicodeEncodeError):
        sandbox.write_file("f", "\N{EURO SIGN}", encoding="latin-1")
    sandbox.write_file("f", "\N{EURO SIGN}", encoding="latin-1", errors="replace")
    assert sandbox.read_file("f") == b"?"
    with pytest.raises(LookupError):
        sandbox.read_file("f", encoding="no such thing")
    with pytest.raises(ValueError, match="encoding and errors are for a str"):
        sandbox.write_file("f", b"", encoding="latin-1")


def test_wrong_arguments_write_nothing(sandbox: Sandbox) -> None:
    write: Any = sandbox.write_file
    with pytest.raises(TypeError, match=r"pass data=file.read\(\), or call upload"):
        write("f", io.BytesIO(b"x"))
    with pytest.raises(TypeError, match="str"):
        write("f", "x", mode="w")
    for path in ("d/", ".", "/", "..", "d/."):
        with pytest.raises(IsADirectoryError):
            write(path, "x")
    assert sandbox.list_files() == []


@pytest.mark.parametrize("dst", ["directory", "directory/", "."])
def test_a_copy_is_not_put_into_a_directory(sandbox: Sandbox, tmp_path: Path, dst: str) -> None:
    (tmp_path / "file").write_text("x")
    sandbox.mkdir("directory")
    with pytest.raises(IsADirectoryError, match="dst is the name of the copy itself"):
        sandbox.upload(tmp_path / "file", dst)
    assert sandbox.list_files(recursive=True) == ["directory"]


def test_what_is_missing_need_not_be_removed(sandbox: Sandbox) -> None:
    sandbox.remove("nothing", missing_ok=True)
    sandbox.remove("no/thing", recursive=True, missing_ok=True)
    with pytest.raises(FileNotFoundError):
        sandbox.remove("nothing", recursive=True)
    sandbox.mkdir("directory")
    with pytest.raises(IsADirectoryError):
        sandbox.remove("directory", missing_ok=True)


def test_a_whole_tree_is_listed(sandbox: Sandbox) -> None:
    sandbox.shell("mkdir -p a/b/empty; touch z a/one a/b/two; ln -s /usr a/link; mkfifo a/fifo", check=True)
    sandbox.write_file(b"a/b/\xff", "")
    below = ["b", "b/empty", "b/two", f"b/{os.fsdecode(bytes([0xFF]))}", "fifo", "link", "one"]
    assert sandbox.list_files("a", recursive=True) == below
    assert sandbox.list_files(recursive=True) == ["a", *(f"a/{name}" for name in below), "z"]
    with pytest.raises(NotADirectoryError):
        sandbox.list_files("z", recursive=True)


def test_what_cannot_be_read_is_left_out_of_a_list(sandbox: Sandbox) -> None:
    """As by pathlib. The directory that was asked for is another matter."""
    sandbox.shell("mkdir -p a/closed b; touch a/closed/x b/y; chmod 0 a/closed", check=True)
    assert sandbox.list_files(recursive=True) == ["a", "a/closed", "b", "b/y"]
    with pytest.raises(PermissionError):
        sandbox.list_files("a/closed", recursive=True)


def test_a_deep_tree_is_refused_and_a_wide_one_counted(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "i=0; while [ $i -lt 110 ]; do mkdir d; cd d; i=$((i+1)); done"
    sandbox.shell(script, check=True)
    with pytest.raises(OSError, match="More than 100 levels"):
        sandbox.list_files(recursive=True)
    monkeypatch.setattr("pysandpool._files.bound.NAMES", 50)
    with pytest.raises(OSError, match="More than 50 names"):
        sandbox.list_files(recursive=True)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="More than 50 names"):
        sandbox.list_files(recursive=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_that_takes_the_place_of_a_directory_is_not_followed(sandbox: Sandbox) -> None:
    script = "mkdir real; while :; do mkdir d; touch d/x; rm -r d; ln -s real d; rm d; done"
    with sandbox.popen(["sh", "-c", script]) as racer:
        for _ in range(300):
            assert set(sandbox.list_files(recursive=True)) <= {"real", "d", "d/x"}
        racer.kill()


def test_in_a_loop_the_arguments_are_the_same() -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            await sandbox.write_file("d/f", "caf\xe9", encoding="latin-1")
            assert await sandbox.read_file("d/f", encoding="latin-1") == "caf\xe9"
            assert await sandbox.list_files(recursive=True) == ["d", "d/f"]
            await sandbox.remove("nothing", missing_ok=True)

    run_on("asyncio", main)
