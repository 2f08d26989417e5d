"""renew(): another zygote takes the place of the one that creates sandboxes, and leases go on."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from bare_stem import RUN, BareStem, run_here
from eyes import open_fds
from waiting import wait_until

from pysandpool import (
    AsyncSandboxPool,
    Bind,
    Interpreter,
    PoolConfig,
    PoolStateError,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxPool,
)

ASK = "import sys; print(sys.modules['mine'].answer)"


@pytest.fixture(params=["/opt/library", "/tmp/library"])
def place(request: pytest.FixtureRequest) -> str:
    """Where the sandboxes see the module; what lies below /tmp is mounted by each init, and for the stem."""
    return str(request.param)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text("answer = 1\n")
    return tmp_path


def stem_of(place: str) -> BareStem:
    return BareStem(f"import sys\nsys.path.append({place!r})\nimport mine\n" + RUN)


def change(library: Path, text: str) -> None:
    fresh = library / "fresh"
    fresh.write_text(text)
    fresh.replace(library / "mine.py")


def answer(pool: SandboxPool) -> bytes:
    with pool.acquire() as lease:
        return run_here(lease, ASK)[0].stdout


def test_a_changed_file_renews_the_interpreter_when_a_sandbox_is_created(library: Path, place: str) -> None:
    config = SandboxConfig(binds=(Bind(library, place),))
    with stem_of(place).pool(config) as pool:
        assert answer(pool) == b"1\n"
        with pool.acquire() as kept:
            first = run_here(kept, ASK)[0].stdout
            change(library, "answer = 2\n")
            wait_until(lambda: answer(pool) == b"2\n", "the renewal")
            assert (first, run_here(kept, ASK)[0].stdout) == (b"1\n", b"1\n")


def test_files_that_stay_as_they_are_renew_nothing(library: Path) -> None:
    with stem_of("/opt/library").pool(SandboxConfig(binds=(Bind(library, "/opt/library"),))) as pool:
        with pool.acquire() as lease:
            zygote = parent_of(lease.pid)
        for _ in range(3):
            answer(pool)
            time.sleep(0.5)
        assert pool.stats().evictions.outdated == 0
        with pool.acquire() as lease:
            assert parent_of(lease.pid) == zygote


def test_renew_replaces_what_is_idle_and_ends_no_lease() -> None:
    with BareStem("import os\n" + RUN).pool(None, PoolConfig(min_size=2)) as pool, pool.acquire() as kept:
        ask = "print(hash('of the stem'))"
        before = run_here(kept, ask)[0].stdout
        idle = pool.settle() and pool.idle_len()
        assert pool.renew() is True
        assert pool.stats().evictions.outdated == idle == 2
        with pool.acquire() as lease:
            assert run_here(lease, ask)[0].stdout != before
        assert run_here(kept, ask)[0].stdout == before


def test_an_idle_sandbox_of_the_old_one_is_replaced_at_its_first_command() -> None:
    with BareStem().pool(None, PoolConfig(min_size=0)) as pool, pool.acquire() as idle:
        assert pool.renew()
        assert run_here(idle, "print(1)")[0].stdout == b"1\n"
        assert pool.stats().evictions.outdated == 1


def test_a_request_that_cannot_be_sent_leaves_the_replacement_to_the_lease() -> None:
    with SandboxPool(None, PoolConfig(min_size=0)) as pool, pool.acquire() as idle:
        assert pool.renew(timeout=20)
        for _ in range(2):
            with pytest.raises(SandboxError) as found:
                idle.execute(["/bin/true", *["x" * 100_000] * 100])
            assert found.value.errno == errno.E2BIG
        assert idle.execute(["/bin/true"]).ok
        stats = pool.stats()
        assert (stats.lost_count, stats.evictions.outdated) == (0, 1)


def test_the_old_one_stays_if_the_new_one_cannot_start(library: Path) -> None:
    config = SandboxConfig(binds=(Bind(library, "/opt/library"),))
    with stem_of("/opt/library").pool(config) as pool:
        change(library, "1 / 0\n")
        with pytest.raises(SandboxCreateError) as found:
            pool.renew()
        assert (found.value.stage, found.value.errno) == ("preload", errno.ECONNRESET)
        assert answer(pool) == b"1\n"
        change(library, "answer = 3\n")
        assert pool.renew()
        assert answer(pool) == b"3\n"


def interpreter_of(library: Path) -> SandboxConfig:
    setup = "import sys\nsys.path.append('/opt/library')\nimport mine"
    return SandboxConfig(interpreter=Interpreter(setup=setup), binds=(Bind(library, "/opt/library"),))


def test_a_failed_renewal_raises_the_traceback_of_this_start(library: Path) -> None:
    with SandboxPool(interpreter_of(library), PoolConfig(min_size=1)) as pool:
        change(library, "def first():\n    raise OSError('x' * 200)  # of the first\nfirst()\n")
        with pytest.raises(SandboxCreateError) as found:
            pool.renew()
        assert "    raise OSError('x' * 200)  # of the first\n" in found.value.traceback
        assert found.value.traceback in str(found.value)
        change(library, "import time\ndef second():\n    raise OSError\nsecond()\n")
        with pytest.raises(SandboxCreateError, match="in second") as found:
            pool.renew()
        assert "of the first" not in found.value.traceback
        assert pool.run_code("1").text == "1"


def test_a_creation_after_a_crash_raises_the_traceback_to_all(library: Path) -> None:
    with SandboxPool(interpreter_of(library), PoolConfig(min_size=0)) as pool:
        change(library, "1 / 0\n")
        lost = pool.acquire()
        os.kill(parent_of(lost.pid), signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(SandboxCreateError) as found:
                pool.acquire()
            assert "    1 / 0\n" in found.value.traceback


@pytest.mark.slow
def test_an_interpreter_that_hangs_when_it_starts_again_has_its_own_time(library: Path) -> None:
    setup = "import os, time\nif os.path.exists('/opt/library/slow'): time.sleep(60)"
    interpreter = Interpreter(setup=setup, preload_timeout=10)
    config = SandboxConfig(interpreter=interpreter, binds=(Bind(library, "/opt/library"),))
    with SandboxPool(config, PoolConfig(min_size=0)) as pool:
        (library / "slow").touch()
        lost = pool.acquire()
        os.kill(parent_of(lost.pid), signal.SIGKILL)
        with pytest.raises(SandboxCreateError, match="is not ready after") as found:
            pool.acquire()
        assert (found.value.stage, found.value.errno) == ("preload", errno.ETIMEDOUT)
        (library / "slow").unlink()
        assert pool.run_code("1").text == "1"


def pipes_to_read() -> set[tuple[int, str]]:
    """Numbers and inodes, because a number that was free before the listing may be that of the listing itself."""
    found = set()
    for fd, link in open_fds().items():
        with suppress(OSError):  # the janitor opens and closes descriptors
            if link.startswith("pipe:") and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                found.add((fd, link))
    return found


def test_a_foreign_file_with_the_number_of_the_pipe_is_neither_read_nor_closed(library: Path) -> None:
    before = pipes_to_read()
    with SandboxPool(interpreter_of(library), PoolConfig(min_size=0)) as pool:
        [(ours, _)] = pipes_to_read() - before
        with open(library / "fresh", "w+") as file:
            file.write("of the application")
            file.flush()
            file.seek(0)
            os.dup2(file.fileno(), ours)
        change(library, "1 / 0\n")
        with pytest.raises(SandboxCreateError, match="ZeroDivisionError") as found:
            pool.renew()
        assert found.value.traceback == ""
    os.close(ours)


def test_a_timeout_leaves_the_renewal_under_way(library: Path) -> None:
    config = SandboxConfig(binds=(Bind(library, "/opt/library"),))
    with stem_of("/opt/library").pool(config) as pool:
        change(library, "import time\ntime.sleep(1)\nanswer = 4\n")
        assert pool.renew(timeout=0.05) is False
        assert answer(pool) == b"1\n"
        wait_until(lambda: answer(pool) == b"4\n", "the renewal")


def test_a_renewal_that_takes_too_long_fails(library: Path) -> None:
    stem = stem_of("/opt/library")
    stem.preload_timeout = 0.5
    with stem.pool(SandboxConfig(binds=(Bind(library, "/opt/library"),))) as pool:
        change(library, "import time\ntime.sleep(60)\n")
        with pytest.raises(SandboxCreateError) as found:
            pool.renew()
        assert (found.value.stage, found.value.errno) == ("preload", errno.ETIMEDOUT)
        assert answer(pool) == b"1\n"


def test_the_last_of_two_renewals_counts(library: Path) -> None:
    with stem_of("/opt/library").pool(SandboxConfig(binds=(Bind(library, "/opt/library"),))) as pool:
        change(library, "import time\ntime.sleep(60)\n")
        assert pool.renew(timeout=0.01) is False
        change(library, "answer = 5\n")
        assert pool.renew()
        assert answer(pool) == b"5\n"


def test_a_pool_without_an_interpreter_gets_another_zygote() -> None:
    with SandboxPool() as pool, pool.acquire() as kept:
        kept.execute(["/bin/true"]).check()
        assert pool.renew(timeout=10)
        assert pool.acquire().execute(["/bin/true"]).ok
        assert kept.execute(["/bin/true"]).ok
        assert pool.stats().zygote_restart_count == 0
    with pytest.raises(PoolStateError):
        pool.renew()


def test_an_old_zygote_ends_with_its_last_sandbox() -> None:
    with SandboxPool() as pool:
        with pool.acquire() as lease:
            lease.execute(["/bin/true"])
            old = parent_of(lease.pid)
            assert pool.renew()
            assert os.path.exists(f"/proc/{old}")
        wait_until(lambda: not os.path.exists(f"/proc/{old}"), "the end of the old zygote")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_an_event_loop_runs_on_while_the_interpreter_starts() -> None:
    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.005)

        async with AsyncSandboxPool() as pool:
            counting = asyncio.create_task(count())
            assert await pool.renew(timeout=20)
            counting.cancel()
        return turns

    with BareStem("import time; time.sleep(0.5)\n" + RUN).everywhere():
        assert asyncio.run(main()) > 20
