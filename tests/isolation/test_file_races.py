"""A tenant changes the files during every file call: nothing hangs, and the host is not fooled."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import Call, wait_until

from pysandpool import PooledSandbox, SandboxConfig, SandboxPool

pytestmark = pytest.mark.slow

MARK = b"only on the host"
SECONDS = 1.5
ENOUGH = 6  # of both outcomes

# Keeps replacing /tmp/t/x, /tmp/t/d and names below by whatever may be found there, in a random order.
SWAP = """
import os, random, socket, sys
random.seed(int(sys.argv[1]))
secret, base = sys.argv[2], "/tmp/t"
own = "/tmp/own%s" % sys.argv[1]
os.makedirs(own + "/full/deep", exist_ok=True)
for n in range(5):
    open(own + "/full/f%d" % n, "w").write("tenant")
def spare():
    return own + "/spare%d" % random.randrange(1 << 30)
def a_file(path):
    with open(path, "w") as file:
        file.write("tenant" * random.choice((0, 1, 1000)))
def huge(path):
    with open(path, "w") as file:
        file.truncate(50_000_000)
def a_socket(path):
    os.mknod(path, 0o140644)
ways = [
    a_file, a_file, a_file, huge, os.mkfifo, a_socket, os.mkdir,
    lambda path: os.symlink(secret, path),
    lambda path: os.symlink("/proc/self/mem", path),
    lambda path: os.symlink("/dev/zero", path),
    lambda path: os.symlink(path, path),
    lambda path: os.symlink("..", path),
    lambda path: os.symlink(own + "/full", path),
    lambda path: os.link(own + "/full/f1", path),
]
targets = [base + name for name in ("/x", "/d", "/d/x", "/d/d", "/d/d/x", "/y")] + [base]
while True:
    try:
        fresh, target = spare(), random.choice(targets)
        random.choice(ways)(fresh)
        if random.random() < 0.3:
            os.rename(target, spare())
        os.rename(fresh, target)
    except OSError:
        pass
    if random.random() < 0.02:
        for name in os.listdir(own):
            if name.startswith("spare"):
                os.system("chmod -R u+rwx %s/spare* 2>/dev/null; rm -rf %s/spare*" % (own, own))
                break
"""


@pytest.fixture(params=["command", "process"])
def hostile(request: pytest.FixtureRequest, shared_pool: SandboxPool, tmp_path: Path) -> Iterator[PooledSandbox]:
    """A lease in which three processes replace names without end; init serves beside each kind otherwise."""
    secret = tmp_path / "secret"
    secret.write_bytes(MARK)
    # Processes that the shell starts, so that they run while the command does.
    script = 'for n in 1 2 3; do python3 -c "$0" $n $1 & done; wait'
    words = ["/bin/sh", "-c", script, SWAP, os.fspath(secret)]
    with shared_pool.acquire() as sandbox:
        sandbox.mkdir("t")
        if request.param == "command":
            command = Call(sandbox.execute, words, timeout=SECONDS + 10)
            time.sleep(0.2)
            yield sandbox
            assert not command.done
        else:
            with sandbox.popen(words) as process:
                time.sleep(0.2)
                yield sandbox
                assert process.poll() is None
                process.kill()
    # The lease has ended, and the command with it.


def repeat(use: Callable[[], object], expect: Callable[[object], bool]) -> tuple[int, int]:
    """How often the call gave something, and how often it raised OSError. Each call is short."""
    given = failed = 0
    end = time.monotonic() + SECONDS
    # On a busy machine the two meet less often.
    while time.monotonic() < end or (min(given, failed) < ENOUGH and time.monotonic() < end + 10):
        started = time.monotonic()
        try:
            found = use()
        except OSError as error:
            if error.filename is None:
                raise
            failed += 1
        else:
            assert expect(found), found
            given += 1
        assert time.monotonic() - started < 5
    return given, failed


def of_tenant(data: object) -> bool:
    return isinstance(data, bytes) and MARK not in data and not data.strip(b"tenant\0host")


def test_read(hostile: PooledSandbox) -> None:
    given, failed = repeat(lambda: hostile.read_file("t/x"), of_tenant)
    assert given > 5
    assert failed > 5


def test_open(hostile: PooledSandbox) -> None:
    def use() -> bytes:
        with hostile.open("t/x", "rb") as file:
            return bytes(file.read(1000))

    given, failed = repeat(use, of_tenant)
    assert given > 5
    assert failed > 5


def test_write(hostile: PooledSandbox) -> None:
    given, failed = repeat(lambda: hostile.write_file("t/d/x", b"host"), lambda found: found is None)
    assert given > 5
    assert failed > 5


def test_append(hostile: PooledSandbox) -> None:
    def use() -> None:
        with hostile.open("t/x", "ab") as file:
            file.write(b"host")

    given, _ = repeat(use, lambda found: found is None)
    assert given > 5


def test_names(hostile: PooledSandbox) -> None:
    def use() -> bool:
        hostile.exists("t/d")
        hostile.mkdir("t/d/d", parents=True, exist_ok=True)
        hostile.rename("t/d", "t/y")
        return "/" not in "".join(hostile.list_files("t"))

    given, failed = repeat(use, lambda found: found is True)
    assert given + failed > 20


def test_remove(hostile: PooledSandbox) -> None:
    given, failed = repeat(lambda: hostile.remove("t/d", recursive=True), lambda found: found is None)
    assert given > 5
    assert failed > 5


def test_download(hostile: PooledSandbox, tmp_path: Path) -> None:
    outside, before = tmp_path / "outside", os.listdir(tmp_path)

    def use() -> bool:
        outside.mkdir()
        try:
            hostile.download("t", outside / "copy", max_bytes=1_000_000)
        finally:
            for path in outside.rglob("*"):
                if path.is_symlink():
                    assert outside in (_led(path), *_led(path).parents), path
                elif path.is_file():
                    assert MARK not in path.read_bytes()
            shutil.rmtree(outside)
        return True

    given, failed = repeat(use, lambda found: found is True)
    assert given > 2
    assert failed > 2
    assert os.listdir(tmp_path) == before


def _led(path: Path) -> Path:
    """Where a link leads, as far as the names exist; a loop leads to itself."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.parent.resolve() / path.name


def test_upload(hostile: PooledSandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "x").write_bytes(b"host")
    (source / "link").symlink_to("d/x")
    given, failed = repeat(lambda: hostile.upload(source, "t"), lambda found: found is None)
    assert given + failed > 20


def test_the_lease_is_in_order_after_it(shared_pool: SandboxPool, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(MARK)
    with shared_pool.acquire() as sandbox:
        sandbox.mkdir("t")
        command = Call(sandbox.execute, ["/usr/bin/python3", "-c", SWAP, "1", os.fspath(secret)], timeout=1)
        before = len(os.listdir("/proc/self/fd"))
        while not command.done:
            try:
                sandbox.read_file("t/x")
            except OSError:
                continue
        assert command.result().timed_out
        sandbox.write_file("after", b"1")
        assert sandbox.execute(["/bin/cat", "after"]).stdout == b"1"
        assert len(os.listdir("/proc/self/fd")) <= before


GROW = """
import os
fd = os.open("/tmp/log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
while True:
    os.write(fd, b"tenant" * 1000)
"""
FILL = """
n = 0
while True:
    n += 1
    try:
        open(f"/tmp/full/{n}", "w").close()
    except OSError:
        pass
"""


def test_a_file_that_grows_and_a_directory_that_fills() -> None:
    with SandboxPool(SandboxConfig(scratch_size_mb=200)) as pool, pool.acquire() as sandbox:
        sandbox.mkdir("full")
        sandbox.write_file("log", b"")
        both = 'python3 -c "$0" & python3 -c "$1" & wait'
        command = Call(sandbox.execute, ["/bin/sh", "-c", both, GROW, FILL], timeout=60)
        wait_until(lambda: sandbox.stat("log").st_size > 2_000_000, "the log grows")
        started = time.monotonic()
        with pytest.raises(OSError, match="Larger than max_bytes = 1000000"):
            sandbox.read_file("log", max_bytes=1_000_000)
        assert len(sandbox.list_files("full")) <= 16_384
        try:
            sandbox.remove("full", recursive=True)
        except OSError as error:
            if error.filename != "full":
                raise
        assert time.monotonic() - started < 50  # of the 60 s of the command
        assert not command.done
