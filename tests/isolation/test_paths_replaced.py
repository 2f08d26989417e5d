"""A path of the host means what it leads to now: replaced directories, files, links, mounts and owners."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from eyes import alive, zygote_of
from host_state import replace_file
from pools import OpenPool, wait_idle
from waiting import wait_until

from pysandpool import PooledSandbox, Sandbox, SandboxConfig, SandboxCreateError, SandboxPool

pytestmark = pytest.mark.slow  # not in `make quick`

BINDS = ["fs_readonly", "fs_readwrite"]


@pytest.fixture(params=["/tmp", "/var/tmp"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """One that the sandbox's private /tmp hides, and one that it does not."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-test-", dir=request.param))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def create(directory: Path, text: str) -> Path:
    """Often gets the inode number of the directory that was there before."""
    directory.mkdir()
    directory.joinpath("file").write_text(text)
    return directory


def recreate(directory: Path, text: str) -> None:
    shutil.rmtree(directory)
    create(directory, text)


def read(sandbox: Sandbox | PooledSandbox, path: Path) -> str:
    return sandbox.execute(["/bin/cat", path]).check().stdout.decode()


def read_with_lease(pool: SandboxPool, path: Path) -> str:
    with pool.acquire() as lease:
        return read(lease, path)


@pytest.mark.parametrize("field", BINDS)
def test_a_directory_that_was_created_anew(place: Path, real_pool: OpenPool, field: str) -> None:
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(**{field: [directory]}), warm=2)  # type: ignore[arg-type]
    for text in ("second", "third"):
        recreate(directory, text)
        assert [read_with_lease(pool, directory / "file") for _ in range(3)] == [text] * 3
    stats = pool.stats()
    assert stats.evictions.outdated >= 2
    assert (stats.zygote_restart_count, stats.lost_count) == (0, 0)


@pytest.mark.parametrize("field", BINDS)
def test_a_file_that_was_renamed_into_place(place: Path, field: str) -> None:
    file = place / "file"
    for text in ("first", "second", "third"):
        replace_file(file, text)
        with Sandbox(SandboxConfig(**{field: [file]})) as sandbox:  # type: ignore[arg-type]
            assert read(sandbox, file) == text


def test_a_link_that_leads_elsewhere(place: Path, real_pool: OpenPool) -> None:
    link = place / "current"
    for name in ("first", "second"):
        create(place / name, name)
    link.symlink_to("first")
    pool = real_pool(SandboxConfig(fs_readonly=[link]), warm=1)
    assert read_with_lease(pool, link / "file") == "first"
    link.unlink()
    link.symlink_to("second")
    assert read_with_lease(pool, link / "file") == "second"


def test_a_directory_above_that_was_renamed(place: Path, real_pool: OpenPool) -> None:
    above = place / "above"
    above.mkdir()
    directory = create(above / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readonly=[directory]), warm=1)
    above.rename(place / "old")
    above.mkdir()
    create(directory, "second")
    assert read_with_lease(pool, directory / "file") == "second"


def test_a_file_directly_in_a_writable_directory(place: Path, real_pool: OpenPool) -> None:
    """It is mounted on, so that no tenant can move it: the host has replaced it."""
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readwrite=[directory], fs_readonly=[directory / "file"]), warm=1)
    replace_file(directory / "file", "second")
    assert read_with_lease(pool, directory / "file") == "second"


def test_a_tenant_opens_no_read_only_directory_by_moving_what_is_above_it(place: Path, real_pool: OpenPool) -> None:
    """It moves the real one away and creates another one. The next tenant must not find the real one writable."""
    directory = place / "directory"
    (directory / "above" / "fixed").mkdir(parents=True)
    for path in (directory, directory / "above", directory / "above" / "fixed"):
        path.chmod(0o777)
    pool = real_pool(SandboxConfig(fs_readwrite=[directory], fs_readonly=[directory / "above" / "fixed"]), warm=2)
    with pool.acquire() as first:
        first.execute(["/bin/mv", "above", "moved"], cwd=directory).check()
        first.execute(["/bin/mkdir", "-p", "above/fixed"], cwd=directory).check()
    for _ in range(3):
        with pool.acquire() as later:
            assert later.execute(["/bin/touch", "moved/fixed/x"], cwd=directory).stderr.endswith(
                b"Read-only file system\n"
            )


def test_what_changes_inside_replaces_nothing(place: Path, real_pool: OpenPool) -> None:
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readwrite=[directory]), warm=2)
    (directory / "file").unlink()
    (directory / "file").write_text("second")
    directory.chmod(0o755)
    assert read_with_lease(pool, directory / "file") == "second"
    assert pool.stats().evictions.outdated == 0


def test_a_missing_path_is_named_and_missed_no_longer_than_it_is_missing(place: Path, real_pool: OpenPool) -> None:
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readonly=[directory]), warm=1)
    shutil.rmtree(directory)
    for _ in range(2):
        with pytest.raises(SandboxCreateError) as missing, pool.acquire() as lease:
            lease.execute(["/bin/true"])
        assert (missing.value.stage, missing.value.errno) == ("bind", errno.ENOENT)
        assert str(directory) in str(missing.value)
    create(directory, "second")
    assert read_with_lease(pool, directory / "file") == "second"


def test_a_used_lease_keeps_its_sandbox(place: Path, real_pool: OpenPool) -> None:
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readwrite=[directory]), warm=1)
    with pool.acquire() as used:
        used.execute(["/bin/touch", "/tmp/mine"]).check()
        directory.rename(place / "old")
        create(directory, "second")
        assert read_with_lease(pool, directory / "file") == "second"
        assert (read(used, directory / "file"), used.execute(["/bin/ls", "/tmp/mine"]).exit_code) == ("first", 0)
    wait_idle(pool, pool.stats().idle_count)
    assert pool.stats().lost_count == 0


def replace_by_a_file(directory: Path) -> None:
    """A mount point for a directory is of no use for it, so that another zygote has to be started."""
    shutil.rmtree(directory)
    directory.write_text("a file")


def test_the_old_zygote_ends_after_its_last_sandbox(place: Path, real_pool: OpenPool) -> None:
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readwrite=[directory]), warm=1)
    with pool.acquire() as used:
        used.execute(["/bin/true"]).check()
        old = zygote_of(used)
        replace_by_a_file(directory)
        assert read_with_lease(pool, directory) == "a file"
        used.execute(["/bin/true"]).check()
        assert alive(old)
    wait_until(lambda: not alive(old), "nothing needs the old zygote any more")
    assert (pool.stats().lost_count, pool.stats().zygote_restart_count) == (0, 0)


def test_old_zygotes_end_with_the_pool(place: Path, real_pool: OpenPool) -> None:
    directory = create(place / "directory", "first")
    pool = real_pool(SandboxConfig(fs_readwrite=[directory]), warm=1)
    lease = pool.acquire()
    lease.execute(["/bin/true"]).check()
    old = zygote_of(lease)
    replace_by_a_file(directory)
    assert read_with_lease(pool, directory) == "a file"
    pool.close(0)
    wait_until(lambda: not alive(old), "it ends with the pool")


def test_a_path_that_exists_at_all_times_is_never_missed(place: Path, real_pool: OpenPool) -> None:
    """While the host renames, each lease sees the old or the new file of a moment."""
    file = place / "file"
    replace_file(file, "0")
    pool = real_pool(SandboxConfig(fs_readonly=[file]), warm=1)
    over = threading.Event()

    def rename() -> None:
        number = 0
        while not over.wait(0.1):
            number += 1
            replace_file(file, str(number))

    renamer = threading.Thread(target=rename)
    renamer.start()
    try:
        for _ in range(25):
            before = int(file.read_text())
            assert int(read_with_lease(pool, file)) >= before
    finally:
        over.set()
        renamer.join()
    last = file.read_text()
    assert read_with_lease(pool, file) == last
    assert pool.stats().create_error_count == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_another_owner(place: Path, real_pool: OpenPool) -> None:
    directory = create(place / "directory", "text")
    pool = real_pool(SandboxConfig(fs_readonly=[directory]), warm=1)
    for path in (directory / "file", directory):
        os.chown(path, 1234, 1234)
    with pool.acquire() as lease:
        stat = lease.execute(["/usr/bin/stat", "-c", "%u", directory, directory / "file"])
    assert stat.check().stdout == b"1000\n1000\n"


MOUNTS = """
import subprocess, sys
from pathlib import Path
from pysandpool import *
directory = Path(sys.argv[1])
below, elsewhere = directory / "be low", directory.parent / "elsewhere"
below.mkdir(), elsewhere.mkdir()
def seen(pool):
    with pool.acquire() as lease:
        return lease.execute(["/bin/ls", below]).check().stdout.decode().split()
def do(*command):
    subprocess.run(command, check=True)
with SandboxPool(SandboxConfig(fs_readonly=[directory]), PoolConfig(min_size=1)) as pool:
    print(seen(pool))
    do("mount", "-t", "tmpfs", "none", elsewhere)
    print(seen(pool), pool.stats().evictions)
    do("mount", "-t", "tmpfs", "none", below)
    (below / "on the mount").touch()
    print(seen(pool))
    do("umount", below)
    print(seen(pool))
    do("mount", "--bind", elsewhere, directory)
    below.mkdir()
    (below / "another").touch()
    print(seen(pool))
"""


def test_mounts_below_and_on_it(place: Path) -> None:
    """In namespaces of the test's own. A mount elsewhere on the host changes nothing."""
    directory = create(place / "directory", "text")
    mapped = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", "--mount", *mapped, sys.executable, "-c", MOUNTS, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    expected = ["[]", "[] Evictions()", "['on', 'the', 'mount']", "[]", "['another']"]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")
