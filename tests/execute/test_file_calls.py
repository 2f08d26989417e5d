"""File calls on one file: pathlib's words, Python's own exceptions, and a lease that is in order after each."""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from eyes import open_fds
from waiting import Call, wait_until

from pysandpool import (
    PooledSandbox,
    PoolStateError,
    Sandbox,
    SandboxConfig,
    SandboxPool,
    SandboxReleasedError,
    Workspace,
)

MIB = 1024 * 1024


def sh(sandbox: PooledSandbox, script: str) -> bytes:
    return sandbox.execute(["/bin/sh", "-c", script]).check().stdout


# ---- what is written is read ----


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, MIB, 10 * MIB])
@pytest.mark.namespaces("a private /tmp")
def test_what_is_written_is_read(sandbox: PooledSandbox, size: int) -> None:
    data = os.urandom(size)
    sandbox.write_file("data", data)
    assert sandbox.read_file("data") == data
    assert sandbox.read_file("/tmp/data", max_bytes=size) == data
    assert sandbox.stat("data").st_size == size
    assert sandbox.list_files() == ["data"]


@pytest.mark.parametrize("data", [b"x\x00y", bytearray(b"x\x00y"), memoryview(b"x\x00y"), memoryview(b"-x\x00y")[1:]])
def test_bytes_of_any_kind(sandbox: PooledSandbox, data: Any) -> None:
    sandbox.write_file("data", data)
    assert sandbox.read_file("data") == b"x\x00y"


def test_text_is_utf_8_and_keeps_its_line_ends(sandbox: PooledSandbox) -> None:
    sandbox.write_file("text", "grün\r\n\n")
    assert sandbox.read_file("text") == "grün\r\n\n".encode()
    assert sandbox.read_file("text", text=True) == "grün\r\n\n"
    sandbox.write_file("text", b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        sandbox.read_file("text", text=True)
    assert sandbox.read_file("text") == b"\xff\xfe"


def test_commands_see_the_files_and_the_host_theirs(sandbox: PooledSandbox) -> None:
    sandbox.write_file("script", "#!/bin/sh\necho hello >written\n", mode=0o755)
    sandbox.execute(["./script"]).check()
    assert sandbox.read_file("written", text=True) == "hello\n"


@pytest.mark.namespaces("ids of its own")
def test_a_file_belongs_to_the_user_inside_and_has_its_mode(sandbox: PooledSandbox) -> None:
    sandbox.write_file("plain", b"")
    sandbox.write_file("open", b"", mode=0o666)
    sandbox.write_file("closed", b"", mode=0o400)
    found = [sandbox.stat(name) for name in ("plain", "open", "closed")]
    assert [stat.S_IMODE(one.st_mode) for one in found] == [0o644, 0o666, 0o400]
    assert {(one.st_uid, one.st_gid) for one in found} == {(1000, 1000)}
    for mode in (0o4755, 0o2755, 0o1777, -1):
        with pytest.raises(ValueError, match=r"mode = .* is not allowed; expected: 0 \.\.\. 0o777"):
            sandbox.write_file("set-id", b"", mode=mode)
    assert not sandbox.exists("set-id")


@pytest.mark.namespaces("a private /tmp")
def test_parents_are_made(sandbox: PooledSandbox) -> None:
    sandbox.write_file("a/b/c/d", b"1")
    sandbox.write_file(Path("/tmp/a/b/other"), b"2")
    sandbox.write_files({"x/1": b"1", b"x/2": "zwei", Path("x/3"): bytearray(b"3")})
    assert sandbox.list_files("a/b") == ["c", "other"]
    assert [sandbox.read_file(f"x/{n}") for n in (1, 2, 3)] == [b"1", b"zwei", b"3"]
    assert stat.S_IMODE(sandbox.stat("a").st_mode) == 0o755


def test_all_data_are_checked_before_the_first_is_written(sandbox: PooledSandbox) -> None:
    wrong: Any = {"first": b"1", "second": 2}
    with pytest.raises(TypeError, match="data must be str, or bytes-like and contiguous, not int"):
        sandbox.write_files(wrong)
    assert sandbox.list_files() == []


def test_a_write_replaces_the_file_as_a_whole(sandbox: PooledSandbox) -> None:
    """Whoever has the old one open keeps it, and a reader never sees a part."""
    sandbox.write_file("file", b"old")
    with sandbox.open("file", "rb") as held:
        sandbox.write_file("file", b"new")
        assert held.read() == b"old"
    script = "ok=1; for i in $(seq 300); do [ $(stat -c %s file) -eq 200000 ] || ok=0; done; echo $ok"
    sandbox.write_file("file", bytes(200_000))
    reader = Call(sandbox.execute, ["/bin/sh", "-c", script])
    while not reader.done:
        sandbox.write_file("file", bytes(200_000))
    assert reader.result().stdout == b"1\n"
    assert sandbox.list_files() == ["file"]


def test_a_link_is_replaced_and_not_written_through(sandbox: PooledSandbox) -> None:
    sh(sandbox, "echo kept >target; ln -s target link")
    sandbox.write_file("link", b"new")
    assert (sandbox.read_file("link"), sandbox.read_file("target")) == (b"new", b"kept\n")


def test_a_file_in_a_directory_that_takes_no_new_one_is_overwritten(sandbox: PooledSandbox) -> None:
    sh(sandbox, "mkdir d; echo old-and-longer >d/file; chmod 555 d")
    sandbox.write_file("d/file", b"new")
    assert sandbox.read_file("d/file") == b"new"
    with pytest.raises(PermissionError) as caught:
        sandbox.write_file("d/other", b"")
    assert caught.value.filename == "d/other"


# ---- open ----


def test_open_gives_an_ordinary_file(sandbox: PooledSandbox) -> None:
    with sandbox.open("text", "w") as file:
        assert isinstance(file, io.TextIOWrapper)
        assert (file.encoding, file.name) == ("utf-8", "text")
        file.write("eins\nzwei\n")
    with sandbox.open("text", "a") as file:
        file.write("drei\n")
    with sandbox.open("text", "r+b") as file:
        assert file.readline() == b"eins\n"
        file.seek(0)
        file.write(b"EINS")
    with sandbox.open("text") as file:
        assert list(file) == ["EINS\n", "zwei\n", "drei\n"]
        assert os.get_inheritable(file.fileno()) is False
    with sandbox.open("text", "rb", buffering=0) as file:
        assert isinstance(file, io.FileIO)
    with pytest.raises(FileExistsError):
        sandbox.open("text", "x")
    with sandbox.open("new", "x") as file:
        file.write("1")
    assert [stat.S_IMODE(sandbox.stat(name).st_mode) for name in ("text", "new")] == [0o644, 0o644]


@pytest.mark.parametrize(
    ("mode", "error"), [("q", ValueError), ("rw", ValueError), ("r", FileNotFoundError), ("r+", FileNotFoundError)]
)
@pytest.mark.namespaces("a private /tmp")
def test_open_refuses_what_the_built_in_one_refuses(sandbox: PooledSandbox, mode: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        sandbox.open("missing", mode)
    with pytest.raises(IsADirectoryError):
        sandbox.open("/tmp", "rb")


def test_an_open_file_outlives_its_lease(shared_pool: SandboxPool) -> None:
    with shared_pool.acquire() as sandbox:
        sandbox.write_file("file", b"content")
        file = sandbox.open("file", "rb")
    with file:
        assert file.read() == b"content"


# ---- names ----


@pytest.mark.namespaces("ids of its own")
def test_stat_is_that_of_the_system(sandbox: PooledSandbox) -> None:
    before = time.time_ns()
    sandbox.write_file("file", b"12345")
    sh(sandbox, "ln -s file link; ln file second; touch -d 1960-01-01 ancient")
    found = sandbox.stat("file")
    inside = sh(sandbox, "stat -c '%s %a %h %u %i' file").split()
    assert [found.st_size, 0o644, found.st_nlink, found.st_uid, found.st_ino] == [5, 0o644, 2, 1000, int(inside[4])]
    assert [int(word) for word in inside[:1] + inside[2:4]] == [5, 2, 1000]
    assert before - 10**10 < found.st_mtime_ns <= time.time_ns()
    assert found.st_mtime == pytest.approx(found.st_mtime_ns / 1e9)
    assert found[stat.ST_MTIME] == found.st_mtime_ns // 10**9
    assert stat.S_ISLNK(sandbox.stat("link", follow_symlinks=False).st_mode)
    assert sandbox.stat("link").st_ino == found.st_ino
    assert sandbox.stat("ancient").st_mtime_ns == 0
    assert stat.S_ISDIR(sandbox.stat(".").st_mode)


@pytest.mark.namespaces("a private /tmp")
def test_exists(sandbox: PooledSandbox) -> None:
    sh(sandbox, "ln -s loop loop; ln -s nowhere dangling; : >file; mkdir closed; : >closed/file; chmod 0 closed")
    there = ["file", "/tmp/file", ".", "/usr/bin/env", "/proc/self/status", "/dev/null"]
    absent = ["missing", "file/below", "loop", "dangling", "/root/secret"]
    assert [sandbox.exists(path) for path in there] == [True] * len(there)
    assert [sandbox.exists(path) for path in absent] == [False] * len(absent)
    with pytest.raises(PermissionError):
        sandbox.exists("closed/file")


def test_mkdir_is_pathlibs(sandbox: PooledSandbox) -> None:
    sandbox.mkdir("one", 0o700)
    assert stat.S_IMODE(sandbox.stat("one").st_mode) == 0o700
    with pytest.raises(FileExistsError):
        sandbox.mkdir("one")
    sandbox.mkdir("one", exist_ok=True)
    with pytest.raises(FileNotFoundError):
        sandbox.mkdir("two/three")
    sandbox.mkdir("two/three/four/", parents=True)
    sandbox.mkdir("two/three/four", parents=True, exist_ok=True)
    sandbox.write_file("file", b"")
    with pytest.raises(FileExistsError):
        sandbox.mkdir("file", exist_ok=True)
    with pytest.raises(NotADirectoryError):
        sandbox.mkdir("file/below", parents=True)
    assert sandbox.list_files("two/three") == ["four"]


@pytest.mark.parametrize("exist_ok", [False, True])
def test_mkdir_where_a_link_leads_nowhere(sandbox: PooledSandbox, exist_ok: bool) -> None:
    sh(sandbox, "ln -s loop loop; ln -s nowhere dangling; ln -s /tmp away")
    for name in ("loop", "dangling"):
        with pytest.raises(FileExistsError) as caught:
            sandbox.mkdir(name, exist_ok=exist_ok, parents=exist_ok)
        assert caught.value.filename == name
    sandbox.mkdir("away", exist_ok=True)


@pytest.mark.namespaces("a private /tmp")
def test_rename(sandbox: PooledSandbox) -> None:
    sandbox.write_files({"a": b"a", "b": b"b", "d/inner": b""})
    sandbox.rename("a", "b")
    sandbox.rename("d", Path("/tmp/e"))
    assert (sandbox.list_files(), sandbox.read_file("b")) == (["b", "e"], b"a")
    with pytest.raises(FileNotFoundError) as caught:
        sandbox.rename("missing", "x")
    assert (caught.value.filename, caught.value.filename2) == ("missing", "x")
    with pytest.raises(IsADirectoryError):
        sandbox.rename("b", "e")


def test_remove(sandbox: PooledSandbox) -> None:
    sandbox.write_files({"a": b"", "d/x": b"", "d/e/y": b"", "kept/file": b""})
    sh(sandbox, "ln -s ../kept d/link; ln -s kept link; mkfifo d/fifo")
    sandbox.remove("a")
    sandbox.remove("link", recursive=True)
    with pytest.raises(IsADirectoryError, match="recursive=True removes it"):
        sandbox.remove("d")
    sandbox.remove("d", recursive=True)
    assert (sandbox.list_files(), sandbox.list_files("kept")) == (["kept"], ["file"])
    with pytest.raises(FileNotFoundError):
        sandbox.remove("d", recursive=True)


def test_names_are_bytes(sandbox: PooledSandbox) -> None:
    sandbox.write_file(b"\xff\xfe", b"1")
    sandbox.write_file("line\nend", b"2")
    assert sandbox.list_files() == ["line\nend", os.fsdecode(b"\xff\xfe")]
    assert [sandbox.read_file(name) for name in sandbox.list_files()] == [b"2", b"1"]


# ---- what is refused ----


@pytest.mark.namespaces("a read-only root")
def test_errors_are_pythons_own_and_name_the_file(sandbox: PooledSandbox) -> None:
    sh(sandbox, "mkdir d; : >closed; chmod 0 closed; ln -s loop loop")
    cases: list[tuple[Any, type[OSError], int]] = [
        ("missing", FileNotFoundError, errno.ENOENT),
        ("missing/below", FileNotFoundError, errno.ENOENT),
        ("closed", PermissionError, errno.EACCES),
        ("closed/below", NotADirectoryError, errno.ENOTDIR),
        ("d", IsADirectoryError, errno.EISDIR),
        ("loop", OSError, errno.ELOOP),
        ("n" * 300, OSError, errno.ENAMETOOLONG),
        ("n/" * 3000, OSError, errno.ENAMETOOLONG),
        (b"missing", FileNotFoundError, errno.ENOENT),
        ("", FileNotFoundError, errno.ENOENT),
    ]
    for path, kind, number in cases:
        with pytest.raises(kind) as caught:
            sandbox.read_file(path)
        assert (caught.value.errno, caught.value.filename) == (number, path)
    with pytest.raises(NotADirectoryError):
        sandbox.list_files("closed")
    with pytest.raises(OSError, match="Read-only file system") as caught:
        sandbox.write_file("/usr/file", b"")
    assert (caught.value.errno, caught.value.filename) == (errno.EROFS, "/usr/file")
    with pytest.raises(IsADirectoryError):
        sandbox.write_file("d", b"")
    assert sandbox.list_files() == ["closed", "d", "loop"]


def test_bad_arguments(sandbox: PooledSandbox) -> None:
    call: Any = sandbox
    for path in (None, 5, object()):
        with pytest.raises(TypeError):
            call.read_file(path)
    for use in (call.read_file, call.exists, call.open, call.list_files, call.mkdir):
        with pytest.raises(ValueError, match="embedded null byte"):
            use("a\0b")
    for data in (None, 5, ["x"], memoryview(b"abcd")[::2]):
        with pytest.raises(TypeError, match="data must be str, or bytes-like and contiguous"):
            call.write_file("file", data)
    with pytest.raises(TypeError, match="files must be a mapping of paths to data, not list"):
        call.write_files(["file"])
    for bound, kind in ((-1, ValueError), (1.5, TypeError), ("1", TypeError)):
        with pytest.raises(kind, match=r"max_bytes = .* is not allowed; expected: an int >= 0, or math\.inf"):
            call.read_file("file", max_bytes=bound)
    assert sandbox.list_files() == []


def test_no_more_than_max_bytes(sandbox: PooledSandbox) -> None:
    sandbox.write_file("file", bytes(1000))
    assert len(sandbox.read_file("file", max_bytes=1000)) == 1000
    assert len(sandbox.read_file("file", max_bytes=math.inf)) == 1000
    with pytest.raises(OSError, match=r"Larger than max_bytes = 999") as caught:
        sandbox.read_file("file", max_bytes=999)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, "file")
    assert sandbox.read_file("file", max_bytes=1000) == bytes(1000)


def test_a_sparse_file_does_not_fill_the_host() -> None:
    with Sandbox(SandboxConfig(scratch_size_mb=None)) as sandbox:
        sandbox.execute(["/usr/bin/truncate", "-s", "1T", "sparse"]).check()
        with pytest.raises(OSError, match="Larger than max_bytes = 67108864"):
            sandbox.read_file("sparse")
        assert sandbox.stat("sparse").st_size == 1 << 40


@pytest.mark.namespaces("sockets with names")
def test_what_is_no_file_is_refused_at_once(sandbox: PooledSandbox) -> None:
    sh(sandbox, "mkfifo fifo; ln -s /dev/zero zero; ln -s /proc/1/mem memory")
    python = "import socket; socket.socketpair(); s = socket.socket(socket.AF_UNIX); s.bind('/tmp/socket')"
    sandbox.execute(["/usr/bin/python3", "-c", python])
    started = time.monotonic()
    for path in ("fifo", "zero", "/dev/null", "/dev/tty", "/dev/ptmx", "socket"):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - any errno that says that it is none
            sandbox.read_file(path)
        assert caught.value.errno in (errno.EINVAL, errno.ENOENT, errno.EACCES, errno.EIO), path
    for path, mode in (("socket", "rb"), ("fifo", "wb")):  # ENXIO for the kernel
        with pytest.raises(OSError, match="Neither a regular file nor a directory") as caught:
            sandbox.open(path, mode)
        assert caught.value.errno == errno.EINVAL
    for path in ("memory", "/proc/self/mem", "/proc/self/environ", "/proc/1/maps", "/proc/meminfo"):
        with pytest.raises(PermissionError):
            sandbox.read_file(path)
        with pytest.raises(PermissionError):
            sandbox.open(path, "r+b")
    with pytest.raises(PermissionError):
        sandbox.list_files("/proc")
    assert time.monotonic() - started < 5


@pytest.mark.namespaces("a scratch of limited size")
def test_a_full_scratch_is_enospc_and_leaves_nothing() -> None:
    with Sandbox(SandboxConfig(scratch_size_mb=4)) as sandbox:
        sandbox.write_file("kept", b"old")
        with pytest.raises(OSError, match="No space left on device") as caught:
            sandbox.write_file("kept", bytes(8 * MIB))
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "kept")
        assert (sandbox.list_files(), sandbox.read_file("kept")) == (["kept"], b"old")
        sandbox.write_file("kept", bytes(3 * MIB))


# ---- the lease ----


def test_it_counts_as_use(real_pool: Any) -> None:
    pool = real_pool(warm=1)
    with pool.acquire():
        pass
    assert pool.stats().recycle_count == 0
    with pool.acquire() as sandbox:
        first = sandbox.pid
        sandbox.write_file("secret", b"1")
    wait_until(lambda: pool.stats().recycle_count == 1, "the sandbox is replaced")
    with pool.acquire() as sandbox:
        assert (sandbox.list_files(), sandbox.pid != first) == ([], True)


def test_after_the_lease_and_the_pool(real_pool: Any) -> None:
    pool = real_pool(warm=2)
    sandbox = pool.acquire()
    sandbox.write_file("file", b"")
    sandbox.release()
    uses = [
        lambda lease: lease.read_file("file"),
        lambda lease: lease.write_file("file", b""),
        lambda lease: lease.write_files({}),
        lambda lease: lease.open("file"),
        lambda lease: lease.list_files(),
        lambda lease: lease.exists("file"),
        lambda lease: lease.upload("/etc/passwd", "file"),
        lambda lease: lease.download("file", "/nowhere"),
    ]
    for use in uses:
        with pytest.raises(SandboxReleasedError):
            use(sandbox)
    lease = pool.acquire()
    pool.close()
    for use in uses[:2] + uses[3:]:
        with pytest.raises(PoolStateError):
            use(lease)


def test_sandbox_has_them_too() -> None:
    with Sandbox() as sandbox:
        sandbox.write_file("file", b"1")
        assert sandbox.execute(["/bin/cat", "file"]).stdout == sandbox.read_file("file") == b"1"
    with pytest.raises(SandboxReleasedError):
        sandbox.read_file("file")


def test_beside_a_command(sandbox: PooledSandbox) -> None:
    command = Call(sandbox.execute, ["/bin/sh", "-c", "until [ -e go ]; do sleep 0.01; done; cat go"])
    for n in range(50):
        sandbox.write_file("early", b"%d" % n)
        assert sandbox.read_file("early") == b"%d" % n
    assert not command.done
    sandbox.write_file("go", b"now")
    assert command.result().stdout == b"now"


def test_threads_and_commands_at_once(sandbox: PooledSandbox) -> None:
    stop = threading.Event()

    def work(name: str) -> int:
        n = 0
        while not stop.is_set():
            sandbox.write_file(name, b"%d" % n)
            assert sandbox.read_file(name) == b"%d" % n
            n += 1
        return n

    workers = [Call(work, name) for name in ("a", "b", "c")]
    for _ in range(100):
        assert sandbox.execute(["/bin/true"]).exit_code == 0
    assert sandbox.execute(["/bin/sleep", "20"], timeout=0.2).timed_out
    stop.set()
    assert all(worker.result() > 10 for worker in workers)


def test_a_release_ends_a_call_of_another_thread(real_pool: Any) -> None:
    pool = real_pool(warm=1)
    for _ in range(20):
        sandbox = pool.acquire()
        ended: list[BaseException] = []

        def work(sandbox: PooledSandbox = sandbox, ended: list[BaseException] = ended) -> None:
            try:
                while True:
                    sandbox.write_file("file", bytes(1000))
            except SandboxReleasedError as error:
                ended.append(error)

        worker = Call(work)
        time.sleep(0.01)
        sandbox.release()
        worker.result()
        assert len(ended) == 1


def test_no_descriptor_is_left(shared_pool: SandboxPool, sandbox: PooledSandbox) -> None:
    sandbox.write_file("file", bytes(10))
    sh(sandbox, "mkfifo fifo")
    assert shared_pool.settle(30)  # else the pool may open those of another sandbox meanwhile
    before = open_fds()
    for _ in range(20):
        sandbox.read_file("file")
        sandbox.list_files()
        sandbox.write_file("file", bytes(10))
        for wrong in ("fifo", "missing", "."):
            with pytest.raises(OSError):  # noqa: PT011 - each its own
                sandbox.read_file(wrong)
    wait_until(lambda: not open_fds().items() - before.items(), "all descriptors closed")


def test_relative_paths_begin_where_commands_start() -> None:
    with Sandbox(SandboxConfig(scratch_dirs=("/work",), workdir="/work")) as sandbox:
        sandbox.write_file("a/file", b"1")
        sandbox.rename("a/file", "b")
        assert sandbox.execute(["/bin/cat", "b"]).stdout == sandbox.read_file("/work/b") == b"1"
        assert (sandbox.list_files(), sandbox.list_files("/tmp")) == (["a", "b"], [])


def test_beside_processes(sandbox: PooledSandbox) -> None:
    with sandbox.popen(
        ["/bin/sh", "-c", "until [ -e go ]; do sleep 0.01; done; cat go"], stdout=subprocess.PIPE
    ) as one:
        for n in range(30):
            sandbox.write_file("early", b"%d" % n)
            assert sandbox.read_file("early") == b"%d" % n
        command = Call(sandbox.execute, ["/bin/sh", "-c", "until [ -e on ]; do sleep 0.01; done; cat on"])
        for n in range(30):
            sandbox.write_file("early", b"%d" % n)
        sandbox.write_file("on", b"command")
        assert command.result().stdout == b"command"
        sandbox.write_file("go", b"process")
        assert one.communicate()[0] == b"process"
    assert sandbox.read_file("early") == b"29"


def test_in_a_workspace(shared_pool: SandboxPool, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with shared_pool.acquire(workspace=Workspace(tmp_path)) as sandbox:
        sandbox.write_file("a/b", b"1")
        assert (tmp_path / "a" / "b").read_bytes() == sandbox.read_file("/workspace/a/b") == b"1"
    with shared_pool.acquire(workspace=Workspace(tmp_path, "ro")) as sandbox:
        assert sandbox.read_file("a/b") == b"1"
        with pytest.raises(OSError, match="Read-only file system"):
            sandbox.write_file("a/b", b"2")
        with pytest.raises(OSError, match="Read-only file system"):
            sandbox.remove("a", recursive=True)
    assert (tmp_path / "a" / "b").read_bytes() == b"1"
