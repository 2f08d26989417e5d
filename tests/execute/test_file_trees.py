"""Trees: what upload, download and remove(recursive=True) do with directories, links and special files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pysandpool import PooledSandbox
from pysandpool._files.bound import LEVELS
from pysandpool._files.download import stays_inside

DEEP = "mkdir deep; cd deep; i=0; while [ $i -lt {levels} ]; do mkdir aaaa; cd aaaa; i=$((i+1)); done; echo 1 >leaf"


def sh(sandbox: PooledSandbox, script: str) -> str:
    return sandbox.execute(["/bin/sh", "-c", script], timeout=100).check().stdout.decode()


def listing(folder: Path) -> dict[str, str]:
    """{path: content, "dir" or the text of the link}"""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}" if hasattr(path, "readlink") else f"-> {os.readlink(path)}"
        else:
            found[name] = "dir" if path.is_dir() else path.read_text(encoding="utf-8")
    return found


# ---- upload ----


def test_a_file_goes_in(sandbox: PooledSandbox, tmp_path: Path) -> None:
    source = tmp_path / "program"
    source.write_bytes(bytes(3_000_000))
    source.chmod(0o4751)
    (tmp_path / "link").symlink_to(source)
    sandbox.upload(source, "a/b/copy")
    sandbox.upload(os.fspath(tmp_path / "link"), b"followed")
    for name in ("a/b/copy", "followed"):
        assert (sandbox.stat(name).st_size, stat.S_IMODE(sandbox.stat(name).st_mode)) == (3_000_000, 0o751)
    assert not stat.S_ISLNK(sandbox.stat("followed", follow_symlinks=False).st_mode)


@pytest.mark.namespaces("a private /tmp")
def test_a_tree_goes_in(sandbox: PooledSandbox, tmp_path: Path) -> None:
    (tmp_path / "d/empty").mkdir(parents=True)
    (tmp_path / "d/file").write_text("1", encoding="utf-8")
    (tmp_path / "run").write_text("#!/bin/sh\necho ran\n", encoding="utf-8")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "inside").symlink_to("d/file")
    (tmp_path / "outside").symlink_to("/etc/passwd")
    sandbox.write_files({"copy/d/kept": "2", "copy/run": "replaced"})
    sandbox.upload(tmp_path, "/tmp/copy")
    sandbox.upload(tmp_path, "/tmp/copy")
    assert sandbox.list_files("copy") == ["d", "inside", "outside", "run"]
    assert sandbox.list_files("copy/d") == ["empty", "file", "kept"]
    assert sandbox.execute(["copy/run"]).stdout == b"ran\n"
    assert sh(sandbox, "readlink copy/inside copy/outside") == "d/file\n/etc/passwd\n"
    # The text was copied, not what it leads to on the host.
    assert b"sandbox" in sandbox.read_file("copy/outside")


def test_what_cannot_go_in(sandbox: PooledSandbox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for source in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="Neither a regular file, a directory nor a link") as caught:
            sandbox.upload(source, "copy")
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError) as caught:
        sandbox.upload(tmp_path / "missing", "copy")
    assert caught.value.filename == os.fspath(tmp_path / "missing")
    (tmp_path / "fifo").unlink()
    sandbox.write_files({"file": "", "dir/file": ""})
    with pytest.raises(NotADirectoryError):
        sandbox.upload(tmp_path, "file")
    (tmp_path / "x").write_text("1", encoding="utf-8")
    with pytest.raises(IsADirectoryError):
        sandbox.upload(tmp_path / "x", "dir")
    assert sandbox.list_files("dir") == ["file"]


# ---- download ----


@pytest.mark.namespaces("a private /tmp")
def test_a_file_comes_out(sandbox: PooledSandbox, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    sandbox.write_file("file", bytes(3_000_000), mode=0o755)
    sh(sandbox, "ln -s file link")
    assert sandbox.download("file", target) == []
    target.write_text("old", encoding="utf-8")
    assert sandbox.download("/tmp/link", os.fspath(target)) == []
    assert target.stat().st_size == 3_000_000
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o777 & ~umask
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.namespaces("modes with set-id bits")
def test_only_the_right_to_execute_comes_out(sandbox: PooledSandbox, tmp_path: Path) -> None:
    made = "import os; os.umask(0); [os.open(m, os.O_CREAT, int(m, 8)) for m in '4755 2711 777 666 644 600'.split()]"
    sh(sandbox, f'mkdir t; cd t; python3 -c "{made}"; chmod 1777 .')
    assert sh(sandbox, "stat -c %a t/4755 t/2711") == "4755\n2711\n"
    sandbox.download("t", tmp_path / "t")
    umask = os.umask(0)
    os.umask(umask)
    for name in ("4755", "2711", "777"):
        assert stat.S_IMODE((tmp_path / "t" / name).stat().st_mode) == 0o777 & ~umask
    for name in ("666", "644", "600"):
        assert stat.S_IMODE((tmp_path / "t" / name).stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o777 & ~umask


def test_a_tree_comes_out(sandbox: PooledSandbox, tmp_path: Path) -> None:
    script = """
    mkdir -p t/d/e; cd t; echo 1 >file; echo 2 >d/e/inner
    ln -s file link; ln -s ../../file d/e/up; ln -s d/e to-dir; ln -s missing dangling
    ln -s /etc/passwd absolute; ln -s ../../x out; ln -s d/../../../x behind; ln -s . here; ln -s here/../.. through
    mkfifo fifo; python3 -c 'import socket; socket.socketpair()'
    """
    sh(sandbox, script)
    left_out = sandbox.download("t", tmp_path / "new" / "t")
    assert listing(tmp_path / "new" / "t") == {
        "d": "dir",
        "d/e": "dir",
        "d/e/inner": "2\n",
        "d/e/up": "-> ../../file",
        "dangling": "-> missing",
        "file": "1\n",
        "here": "-> .",
        "link": "-> file",
        "to-dir": "-> d/e",
    }
    assert left_out == ["absolute", "behind", "fifo", "out", "through"]


def test_nothing_of_the_host_is_overwritten_or_written_through(sandbox: PooledSandbox, tmp_path: Path) -> None:
    outside, copy = tmp_path / "outside", tmp_path / "copy"
    outside.mkdir()
    copy.mkdir()
    (copy / "d").symlink_to(outside)
    (copy / "file").symlink_to(outside / "file")
    sandbox.write_files({"t/d/new": "1"})
    with pytest.raises(FileExistsError):
        sandbox.download("t", copy)
    sandbox.remove("t/d", recursive=True)
    sandbox.write_file("t/file", "1")
    with pytest.raises(FileExistsError):
        sandbox.download("t", copy)
    with pytest.raises(FileExistsError) as exists:
        sandbox.download("t", copy)
    assert exists.value.filename == os.fspath(copy / "file")
    with pytest.raises(IsADirectoryError) as directory:
        sandbox.download("t/file", outside)
    assert (directory.value.filename, directory.value.filename2) == (os.fspath(outside), None)
    assert os.listdir(outside) == []
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one depends on the Python
        sandbox.download("t", copy / "d")
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    # A single file takes the place of a link.
    sandbox.download("t/file", copy / "file")
    assert ((copy / "file").is_symlink(), os.listdir(outside)) == (False, [])


def test_the_bounds_of_a_download(sandbox: PooledSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.write_files({f"t/{n}": bytes(1000) for n in range(10)})
    assert sandbox.download("t", tmp_path / "all", max_bytes=10_000) == []
    with pytest.raises(OSError, match="Larger than max_bytes = 9999") as caught:
        sandbox.download("t", tmp_path / "some", max_bytes=9999)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, "t")
    with pytest.raises(OSError, match="Larger than max_bytes = 999"):
        sandbox.download("t/1", tmp_path / "one", max_bytes=999)
    assert sorted(os.listdir(tmp_path)) == ["all", "some"]
    monkeypatch.setattr("pysandpool._files.bound.NAMES", 9)
    for use in (lambda: sandbox.download("t", tmp_path / "names"), lambda: sandbox.list_files("t")):
        with pytest.raises(OSError, match="More than 9 names"):
            use()


def test_a_deep_tree(sandbox: PooledSandbox, tmp_path: Path) -> None:
    """Deeper than any path can name."""
    sh(sandbox, DEEP.format(levels=LEVELS - 2))
    sandbox.download("deep", tmp_path / "deep")
    assert sum(1 for _ in os.walk(tmp_path / "deep")) == LEVELS - 1
    sandbox.remove("deep", recursive=True)
    sh(sandbox, DEEP.format(levels=3000))
    with pytest.raises(OSError, match=f"More than {LEVELS} levels of directories"):
        sandbox.download("deep", tmp_path / "deeper")
    sandbox.remove("deep", recursive=True)
    assert sandbox.list_files() == []


def test_what_cannot_come_out(sandbox: PooledSandbox, tmp_path: Path) -> None:
    sh(sandbox, "mkdir -p t/closed; : >t/closed/file; chmod 0 t/closed; mkfifo fifo")
    with pytest.raises(PermissionError):
        sandbox.download("t", tmp_path / "t")
    with pytest.raises(OSError, match="Neither a regular file nor a directory"):
        sandbox.download("fifo", tmp_path / "fifo")
    with pytest.raises(PermissionError):
        sandbox.download("/proc", tmp_path / "proc")
    with pytest.raises(FileNotFoundError):
        sandbox.download("missing", tmp_path / "missing")
    sandbox.write_file("file", b"")
    with pytest.raises(FileNotFoundError) as caught:
        sandbox.download("file", tmp_path / "no" / "file")
    assert "no" in str(caught.value.filename)
    for target in (tmp_path, f"{tmp_path}/", f"{tmp_path}/missing/"):
        with pytest.raises(IsADirectoryError, match="dst is the name of the copy itself") as refused:
            sandbox.download("file", target)
        assert refused.value.filename == os.fspath(target)


@pytest.mark.parametrize(
    ("text", "levels", "inside"),
    [
        ("file", 0, True),
        ("./d//file", 0, True),
        ("../file", 1, True),
        ("../../d/file", 2, True),
        ("..", 1, True),
        ("", 0, False),
        ("/file", 3, False),
        ("../file", 0, False),
        ("../../file", 1, False),
        ("d/../file", 0, False),
        ("../d/..", 3, False),
    ],
)
def test_links_that_stay_inside(text: str, levels: int, inside: bool) -> None:
    assert stays_inside(text.encode(), levels) is inside
