"""A running zygote follows the paths of the host: what is replaced is bound anew for the next sandbox."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eyes import zygote_of
from host_state import replace_file
from pools import OpenPool
from waiting import wait_until

from pysandpool import PoolConfig, SandboxConfig, SandboxCreateError, SandboxPool

pytestmark = pytest.mark.slow  # not in `make quick`


@pytest.fixture(params=["/tmp", "/var/tmp"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """One that the sandbox's private /tmp hides, and one that it does not."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-test-", dir=request.param))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def create(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    directory.joinpath("file").write_text(text)
    return directory


def seen(pool: SandboxPool, *command: str | Path) -> tuple[str, int]:
    """What a command prints, and the pid of the zygote."""
    with pool.acquire() as lease:
        done = lease.execute(list(command))
        return (done.stdout + done.stderr).decode(), zygote_of(lease)


def read(pool: SandboxPool, path: Path) -> tuple[str, int]:
    return seen(pool, "/bin/cat", path)


def test_nothing_is_restarted(place: Path, real_pool: OpenPool) -> None:
    shown, writable, file = place / "shown", place / "writable", place / "a file"
    create(shown, "1")
    create(writable, "1")
    replace_file(file, "1")
    pool = real_pool(SandboxConfig(fs_readonly=[shown, file], fs_readwrite=[writable]), warm=1)
    _, zygote = read(pool, file)
    for text in ("2", "3"):
        for path in (shown, writable):
            shutil.rmtree(path)
            create(path, text)
        replace_file(file, text)
        for path in (shown / "file", writable / "file", file):
            assert read(pool, path) == (text, zygote)
        assert seen(pool, "/bin/touch", shown / "new") == (
            f"/bin/touch: cannot touch '{shown}/new': Read-only file system\n",
            zygote,
        )
        assert seen(pool, "/bin/touch", writable / "new") == ("", zygote)
        assert (writable / "new").exists()


def test_a_file_that_is_replaced_all_the_time(place: Path) -> None:
    """No creation fails, and each sees a file that was there after it was asked for."""
    file = place / "file"
    replace_file(file, "0")
    over = threading.Event()

    def replace() -> None:
        number = 0
        while not over.wait(0.002):
            number += 1
            replace_file(file, str(number))

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        with SandboxPool(SandboxConfig(fs_readonly=[file]), PoolConfig(min_size=0)) as pool:
            for _ in range(60):
                before = int(file.read_text())
                assert int(read(pool, file)[0]) >= before
            assert pool.stats().create_error_count == 0
    finally:
        over.set()
        thread.join()


def test_one_that_is_swapped_away_and_back(place: Path, real_pool: OpenPool) -> None:
    first, second, path = create(place / "first", "first"), create(place / "second", "second"), place / "path"
    first.rename(path)
    pool = real_pool(SandboxConfig(fs_readonly=[path]), warm=2)
    for _ in range(5):
        path.rename(first)
        second.rename(path)
        assert read(pool, path / "file")[0] == "second"
        path.rename(second)
        first.rename(path)
        assert [read(pool, path / "file")[0] for _ in range(3)] == ["first"] * 3


def test_binds_in_binds(place: Path, real_pool: OpenPool) -> None:
    outer = create(place / "outer", "outer 1")
    create(outer / "inner", "inner 1")
    create(outer / "inner" / "writable", "writable 1")
    writable = outer / "inner" / "writable"
    pool = real_pool(SandboxConfig(fs_readonly=[outer, outer / "inner"], fs_readwrite=[writable]), warm=1)
    _, zygote = read(pool, outer / "file")
    shutil.rmtree(writable)
    create(writable, "writable 2")
    assert read(pool, writable / "file") == ("writable 2", zygote)
    outer.rename(place / "old")
    create(outer, "outer 3")
    create(outer / "inner", "inner 3")
    create(writable, "writable 3")
    for path, text in ((outer, "outer 3"), (outer / "inner", "inner 3"), (writable, "writable 3")):
        assert read(pool, path / "file") == (text, zygote)
    assert "Read-only" in seen(pool, "/bin/touch", outer / "inner" / "new")[0]
    assert seen(pool, "/bin/touch", writable / "new")[0] == ""


def test_a_change_elsewhere_frees_nothing_that_a_tenant_has_moved(place: Path, real_pool: OpenPool) -> None:
    directory, other = place / "directory", create(place / "other", "1")
    (directory / "above" / "fixed").mkdir(parents=True)
    for path in (directory, directory / "above", directory / "above" / "fixed"):
        path.chmod(0o777)
    fixed = directory / "above" / "fixed"
    pool = real_pool(SandboxConfig(fs_readwrite=[directory], fs_readonly=[fixed, other]), warm=2)
    with pool.acquire() as first:
        first.execute(["/bin/mv", "above", "moved"], cwd=directory).check()
        first.execute(["/bin/mkdir", "-p", "above/fixed"], cwd=directory).check()
    shutil.rmtree(other)
    create(other, "2")
    assert read(pool, other / "file")[0] == "2"
    assert "Read-only" in seen(pool, "/bin/touch", directory / "moved" / "fixed" / "x")[0]


@pytest.mark.parametrize("kind", ["file", "capability", "closed directory"])
@pytest.mark.parametrize("restarted", [False, True], ids=["live", "restarted"])
def test_what_gives_rights_is_covered_in_a_replaced_tree(
    place: Path, real_pool: OpenPool, kind: str, restarted: bool
) -> None:
    """Also when the zygote has died meanwhile: what was found when the pool was opened says nothing any more."""
    if kind == "capability" and os.geteuid() != 0:
        pytest.skip("only root gives a file capabilities")
    if kind == "closed directory" and os.geteuid() == 0:
        pytest.skip("root may look everywhere")
    tree = create(place / "tree", "1")
    (tree / "program").touch()
    (tree / "program").chmod(0o4755)
    pool = real_pool(SandboxConfig(fs_readwrite=[tree]), warm=1)
    _, zygote = seen(pool, "/bin/true")
    sub = create(place / "fresh", "2") / "sub" / "sub"
    sub.mkdir(parents=True)
    program = sub / "program"
    program.touch()
    program.chmod(0o755 if kind == "capability" else 0o4777)
    if kind == "capability":
        os.setxattr(program, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    if kind == "closed directory":
        sub.chmod(0)
    # It is whole before it takes the place: the pool may create a sandbox at any moment, and searches a tree once.
    tree.rename(place / "old")
    (place / "fresh").rename(tree)
    sub = tree / "sub" / "sub"
    program = sub / "program"
    if restarted:
        os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: pool.stats().idle_count == 0 or seen(pool, "/bin/true")[1] != zygote, "another zygote")
    script = f"chmod 755 {sub}; echo > {program}; mv {program} {tree}/away; echo > {tree}/file"
    assert "Read-only" in seen(pool, "/bin/sh", "-c", script)[0]
    sub.chmod(0o755)
    assert (program.stat().st_size, (tree / "file").read_text()) == (0, "\n")


def to_proc(path: Path) -> None:
    path.symlink_to("/proc")


@pytest.mark.parametrize(("instead", "err"), [(to_proc, errno.EINVAL), (None, errno.ENOENT)])
def test_what_may_not_be_shown_is_refused_until_it_has_gone(
    place: Path, real_pool: OpenPool, instead: Callable[[Path], None] | None, err: int
) -> None:
    path, other = create(place / "path", "first"), create(place / "other", "other")
    pool = real_pool(SandboxConfig(fs_readonly=[path, other]), warm=1)
    path.rename(place / "old")
    if instead is not None:
        instead(path)
    for _ in range(3):
        with pytest.raises(SandboxCreateError) as refused, pool.acquire() as lease:
            lease.execute(["/bin/true"])
        assert (refused.value.stage, refused.value.errno, refused.value.detail) == ("bind", err, str(path))
    if instead is not None:
        path.unlink()
    create(path, "again")
    assert (read(pool, path / "file")[0], read(pool, other / "file")[0]) == ("again", "other")


def test_a_rootfs_that_was_replaced(place: Path, real_pool: OpenPool) -> None:
    def make(text: str) -> Path:
        root = create(place / "root", text)
        for name in ("proc", "tmp", "dev", "bound"):
            (root / name).mkdir()
        busybox = root / "bin"
        busybox.mkdir()
        shutil.copy(shutil.which("busybox") or "/bin/busybox", busybox / "cat")
        return root

    if not (shutil.which("busybox") or Path("/bin/busybox").exists()):
        pytest.skip("no static program to put into a rootfs: busybox")
    root = make("first")
    pool = real_pool(SandboxConfig(rootfs=root), warm=1)
    with pool.acquire() as lease:
        assert lease.execute(["/bin/cat", "/file"]).check().stdout == b"first"
    root.rename(place / "old")
    make("second")
    with pool.acquire() as lease:
        assert lease.execute(["/bin/cat", "/file"]).check().stdout == b"second"
