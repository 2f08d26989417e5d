"""Each system call of zygote and init, until a sandbox is ready, refused: the first of its kind, the second, and so on.

strace refuses them. A pool then opens and is whole, or fails with stage and errno; it never hangs and nothing is left.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_stem import BareStem, run_here
from eyes import children, open_fds
from strace import Tracer, needs_root, needs_strace, nothing_is_left, refused_to, trace_injected

from pysandpool import Bind, IsolationReport, PoolConfig, SandboxConfig, SandboxCreateError, SandboxPool
from pysandpool._ffi import lib

pytestmark = pytest.mark.namespaces("the calls that make them")

# Not what carries the answer: without sendmsg and recvmsg nobody hears of it, and the deadline has to do.
FATAL = (
    *("capset", "chdir", "clone", "close_range", "dup2", "dup3", "fstatfs", "landlock_add_rule"),
    *("landlock_create_ruleset", "landlock_restrict_self", "mkdir", "mount", "mount_setattr", "openat"),
    *("pivot_root", "prctl", "prlimit64", "sethostname", "symlink", "umount2", "write"),
)
OF_ROOT = ("setgroups", "setresgid", "setresuid", "move_mount", "open_tree")
HARMLESS = ("access", "fcntl", "ioctl", "keyctl", "newfstatat", "read", "readlink", "socketpair", "statfs", "unshare")
# What init does as the zygote did before it.
OF_INIT = ("chdir", "close_range", "dup2", "dup3", "mkdir", "mount", "openat", "prctl", "prlimit64", "write")
# What was refused, or what comes of it: nothing is proved, an undumpable process may not write its map, nobody
# can find out where a bind's source leads.
ERRNOS = {errno.ENOMEM, errno.ENOTSUP, errno.EACCES, errno.EINVAL}
# Of each call the first ones; with SANDPOOL_REFUSED_CALLS=all, every one.
LAST = 1000 if os.environ.get("SANDPOOL_REFUSED_CALLS") == "all" else 3


@pytest.fixture(scope="module")
def config() -> Iterator[SandboxConfig]:
    """With something of the host to show, below /tmp and elsewhere."""
    with tempfile.TemporaryDirectory(dir="/tmp") as one, tempfile.TemporaryDirectory(dir="/var/tmp") as other:
        for path in (one, other):
            os.chmod(path, 0o777)
        yield SandboxConfig(fs_readonly=[one], fs_readwrite=[other])


@pytest.fixture(scope="module")
def whole(config: SandboxConfig) -> IsolationReport:
    """What is reported when nothing is refused."""
    with SandboxPool(config, PoolConfig(min_size=1)) as pool, pool.acquire() as sandbox:
        return sandbox.isolation


def attempt(config: SandboxConfig, whole: IsolationReport) -> SandboxCreateError | None:
    """A pool with one sandbox; it is what it says, or this is why it did not open."""
    try:
        with SandboxPool(config, PoolConfig(min_size=1)) as pool, pool.acquire() as sandbox:
            assert sandbox.isolation == whole
    except SandboxCreateError as error:
        return error
    return None


@needs_strace
@pytest.mark.parametrize("call", [*FATAL, *OF_ROOT, *HARMLESS])
def test_a_refused_call_is_reported_or_harms_nothing(
    call: str, tracer: Tracer, config: SandboxConfig, whole: IsolationReport
) -> None:
    before, fds = children(), open_fds()
    failures: list[str] = []
    for number in range(1, LAST + 1):
        tracer.refuse(f"{call}:error=ENOMEM:when={number}")
        error = attempt(config, whole)
        nothing_is_left(before, fds)
        if not tracer.refused():
            break
        if error is not None:
            assert error.stage
            assert error.errno in ERRNOS, error
            failures.append(error.stage)
    else:
        assert LAST == 3, "there is no end of such calls"
    if call in FATAL:
        assert failures


@needs_strace
def test_a_message_that_finds_no_memory_is_sent_again(
    tracer: Tracer, config: SandboxConfig, whole: IsolationReport
) -> None:
    """Five in a row, in the zygote's first process, in the zygote, and in init."""
    before, fds = children(), open_fds()
    tracer.refuse("sendmsg:error=ENOBUFS:when=1..5")
    assert attempt(config, whole) is None
    assert tracer.refused()
    nothing_is_left(before, fds)


def create_while_refused(config: SandboxConfig, call: str, number: int, log: Path) -> SandboxCreateError | None:
    """The zygote has its own calls behind it: what is counted from now on are those of each init."""
    with SandboxPool(config, PoolConfig(min_size=0)) as pool:
        zygote = lib.sp_pool_zygote_pid(pool._core.ptr)
        with refused_to(zygote, log, f"{call}:error=ENOMEM:when={number}") as tracer:
            try:
                pool.acquire().release()
            except SandboxCreateError as error:
                return error
            finally:
                pool.close()
                tracer.wait()
    return None


@needs_strace
@needs_root
@pytest.mark.parametrize("call", OF_INIT)
def test_a_call_refused_to_init_is_reported(call: str, tmp_path: Path, config: SandboxConfig) -> None:
    before, fds = children(), open_fds()
    log = tmp_path / "log"
    failures: list[str] = []
    for number in range(1, LAST + 1):
        error = create_while_refused(config, call, number, log)
        if error is not None:
            assert error.errno in ERRNOS, error
            failures.append(error.stage)
            error.__traceback__ = None  # it holds the pool
        nothing_is_left(before, fds)
        if not trace_injected(log):
            break
    assert failures


# How many of the first ones are refused: those of the zygote come before those of the interpreter.
OF_STEM = {"memfd_create": 3, "capget": 3, "capset": 3, "unshare": 3, "umount2": 4, "prctl": 3, "mount": 3}


def run_in_stem(stem: BareStem, config: SandboxConfig) -> str:
    """The stage of the failure; "": the interpreter has run code."""
    try:
        with stem.pool(config, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
            assert run_here(lease, "print(1)")[0].stdout == b"1\n"
    except SandboxCreateError as error:
        return error.stage
    return ""


@needs_strace
@pytest.mark.parametrize("call", OF_STEM)
def test_a_call_refused_to_a_stem_is_reported(call: str, tracer: Tracer, tmp_path: Path) -> None:
    """On the way to the interpreter, in it, and on its way to the loop of the zygote."""
    (tmp_path / "shown").mkdir(mode=0o777)
    config = SandboxConfig(binds=(Bind(tmp_path / "shown", "/data", readonly=False),))
    stem = BareStem()
    before, fds = children(), open_fds()
    stages: list[str] = []
    for number in range(1, max(LAST, OF_STEM[call]) + 1):
        tracer.refuse(f"{call}:error=ENOMEM:when={number}")
        stages.append(run_in_stem(stem, config))
        nothing_is_left(before, fds)
        stem.errors()
        if not tracer.refused():
            break
    assert any(stages)
    assert call != "memfd_create" or stages[:3] == ["preload", "preload", ""]
