"""The memory limit without a cgroup: what counts, when it ends a command, and that `oom_killed` is then set."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from pysandpool import CommandFailedError, Sandbox, SandboxConfig, SandboxResult
from pysandpool._backend import linux

pytestmark = pytest.mark.slow

PYTHON = "/usr/bin/python3"
LIMIT_MB = 64
# Each stays below what one process or one file may have, so that only their sum is too much.
PART_MB = 25

FORKS = """
for i in range(8):
    if os.fork() == 0:
        x = bytearray(PART)
        time.sleep(60)
"""
SHARED = """
m = mmap.mmap(-1, 8 * PART)
for at in range(0, 8 * PART, 4096):
    m[at] = 1
"""
MEMFDS = """
fds = [os.memfd_create("x") for i in range(8)]
for fd in fds:
    os.write(fd, bytes(PART))
"""
SEGMENTS = """
libc.shmat.restype, libc.shmdt.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for i in range(8):
    at = libc.shmat(libc.shmget(0, PART, 0o1600), None, 0)
    ctypes.memset(at, 1, PART)
    libc.shmdt(at)
"""
SCRATCH = """
for name in "/tmp/a", "/dev/shm/b":
    with open(name, "wb") as f:
        f.write(bytes(14 << 20))
if os.fork() == 0:
    x = bytearray(PART)
else:
    x = bytearray(PART)
"""
# The first thread ends, and with it what /proc shows of the process's memory under its pid.
HEADLESS = """
def hog():
    m = mmap.mmap(-1, 8 * PART)
    for at in range(0, 8 * PART, 4096):
        m[at] = 1
    time.sleep(60)
threading.Thread(target=hog).start()
libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""
PAGE_TABLES = """
step = 2 << 20
m = mmap.mmap(-1, 60_000 * step, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
for at in range(0, 60_000 * step, step):
    m[at]
"""
# As vfork(2), but the children have memory of their own. The main thread must sleep by then: in a copy of a process, a
# thread waits for ever for another one that wanted the interpreter's lock at that moment.
VFORKS = """
x = bytearray(PART)
def fill():
    if libc.syscall(56 if os.uname().machine == "x86_64" else 220, 0x4000 | 17, 0, 0, 0, 0) == 0:
        for at in range(0, PART, 4096):
            x[at] = 1
        fill()
        time.sleep(60)
threading.Timer(0.2, fill).start()
"""
HOGS = {name: text for name, text in globals().items() if name.isupper() and isinstance(text, str) and "\n" in text}


def config(**changes: Any) -> SandboxConfig:
    return SandboxConfig(**{"memory_limit_mb": LIMIT_MB, "scratch_size_mb": 32, **changes})


@pytest.fixture(autouse=True)
def _no_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "find_parent", lambda _: None)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(config()) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, script: str, timeout: float = 20) -> SandboxResult:
    before = f"import ctypes, mmap, os, threading, time\nPART = {PART_MB} << 20\nlibc = ctypes.CDLL(None)\n"
    return sandbox.execute([PYTHON, "-c", before + script], timeout=timeout)


@pytest.mark.parametrize("hog", HOGS)
def test_a_sum_above_the_limit_ends_the_command(sandbox: Sandbox, hog: str) -> None:
    script = HOGS[hog] + "\ntime.sleep(60)"
    result = run(sandbox, script)
    assert (result.oom_killed, result.timed_out) == (True, False), (result, result.stderr)
    assert (result.exit_code, result.signal) == (None, signal.SIGKILL)
    assert result.elapsed < 15
    with Sandbox(config(memory_limit_mb=None)) as unlimited:
        control = run(unlimited, script, timeout=1.5)
    assert (control.oom_killed, control.timed_out) == (False, True), (control, control.stderr)


# Shared memory that no process shows as its own, and what else the kernel keeps for a tenant.
HIDDEN = {
    "undumpable": "libc.prctl(4, 0, 0, 0, 0)" + MEMFDS,
    "unreadable": """
import shutil, sys
shutil.copy("/usr/bin/python3", "/tmp/unreadable")
os.chmod("/tmp/unreadable", 0o111)
os.execv("/tmp/unreadable", ["python3", "-c", "import os, time; PART = %d" % PART + MEMFDS + "time.sleep(20)"])
""",
    "thread": """
full = threading.Event()
threading.Thread(target=lambda: (libc.unshare(0x400), fill(), full.set(), time.sleep(60)), daemon=True).start()
full.wait()
""",
    "socket": """
import socket
pair = socket.socketpair()
for i in range(8):
    fd = os.memfd_create("x")
    os.write(fd, bytes(PART))
    socket.send_fds(pair[0], [b"x"], [fd])
    os.close(fd)
""",
    "nested sockets": """
import socket
pairs = [socket.socketpair() for i in range(2)]
for i in range(8):
    fd = os.memfd_create("x")
    os.write(fd, bytes(PART))
    socket.send_fds(pairs[0][0], [b"x"], [fd])
    os.close(fd)
socket.send_fds(pairs[1][0], [b"x"], [pairs[0][0].fileno(), pairs[0][1].fileno()])
del pairs[0]
""",
    "unmapped": """
m = mmap.mmap(-1, 8 * PART)
for at in range(0, 8 * PART, 4096):
    m[at] = 1
    if at % (1 << 20) == 0:
        m.madvise(mmap.MADV_DONTNEED)
m.madvise(mmap.MADV_DONTNEED)
""",
    "worker": """
m = mmap.mmap(-1, 8 * PART)
for i in range(8):
    if os.fork() == 0:
        for at in range(i * PART, (i + 1) * PART, 4096):
            m[at] = 1
        os._exit(0)
    os.wait()
""",
    "cut": """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
for i in range(200):
    at = libc.mmap(None, 1 << 20, 3, 0x21, -1, 0)
    ctypes.memset(at, 1, 1 << 20)
    libc.munmap(at + 4096, (1 << 20) - 4096)
""",
    # Only the call that waits has them.
    "held by a poll": """
import select
for i in range(10):
    waiting, ends = select.poll(), []
    for j in range(100):
        ends += os.pipe2(os.O_NONBLOCK)
        try:
            while True:
                os.write(ends[-1], bytes(4096))
        except BlockingIOError:
            pass
        waiting.register(ends[-1], select.POLLOUT)
        waiting.register(ends[-2], select.POLLPRI)
    threading.Thread(target=waiting.poll, daemon=True).start()
    time.sleep(0.05)
    for end in ends:
        os.close(end)
""",
    # Nothing can be known of so many mappings and descriptors in the time that there is.
    "cut among many": """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
start = libc.mmap(None, 60_000 << 12, 1, 0x4022, -1, 0)
for i in range(30_000):
    libc.mprotect(start + (i << 13), 4096, 0)
if os.fork():
    for i in range(200):
        at = libc.mmap(None, 1 << 20, 3, 0x21, -1, 0)
        ctypes.memset(at, 1, 1 << 20)
        libc.munmap(at + 4096, (1 << 20) - 4096)
""",
    "descriptors": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
fds = [os.dup(0) for i in range(4000)]
for i in range(20):
    if os.fork() == 0:
        break
""",
    "messages": """
message = ctypes.create_string_buffer(b"x" * 4008)
for i in range(5000):
    queue = libc.msgget(0, 0o1600)
    for j in range(4):
        libc.msgsnd(queue, message, 4000, 0o4000)
""",
    "semaphores": """
for i in range(20):
    libc.semget(0, 32000, 0o1000)
""",
    "pipes": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
ends = []
for i in range(1500):
    ends += os.pipe2(os.O_NONBLOCK)
    try:
        while True:
            os.write(ends[-1], bytes(4096))
    except BlockingIOError:
        pass
    os.close(ends.pop())
""",
    "file locks": """
import fcntl
files = [open(f"/tmp/{i}", "w") for i in range(100)]
for file in files:
    for at in range(100):
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * at)
""",
    # Each keeps the text that the kernel has made for it, as long as the epoll set.
    "texts of /proc": """
import resource, select
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
watches = select.epoll()
for i in range(1000):
    watches.register(libc.eventfd(0, 0), select.EPOLLIN)
texts = [open(f"/proc/self/fdinfo/{watches.fileno()}", "rb", 0) for i in range(400)]
for text in texts:
    text.read(1)
""",
}
OPEN = {
    "cut": "the kernel shows nobody what lies behind a mapping's end",
    "held by a poll": "the kernel shows nobody which files a call that waits has",
}


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            way, marks=[pytest.mark.xfail(strict=True, raises=AssertionError, reason=OPEN[way])] if way in OPEN else []
        )
        for way in HIDDEN
    ],
)
def test_memory_that_hides(sandbox: Sandbox, way: str) -> None:
    fill = "\ndef fill():\n" + MEMFDS.strip().replace("\n", "\n    ").join(("    global fds\n    ", "\n"))
    keep = f"\ntime.sleep({1.5 if way in OPEN else 20})"  # what is held is ended long before, on any machine
    result = run(sandbox, f"MEMFDS = {MEMFDS!r}\n" + fill + HIDDEN[way] + keep, timeout=60)
    if result.timed_out or result.stderr:
        raise RuntimeError(f"the attack does not work: {result!r}, {result.stderr!r}")
    assert result.oom_killed


def test_what_another_lease_frees_makes_no_room(sandbox: Sandbox) -> None:
    """The shared memory of the machine falls by what the other had, and rises by what this one hides."""
    before = f"import mmap, os, sys, time\nPART = {PART_MB} << 20\n"
    ready = "\nprint('ready', flush=True)\nsys.stdin.readline()\n"
    keep = "\ntime.sleep(60)"
    with ExitStack() as stack:
        ends = stack.enter_context(ExitStack())
        other = ends.enter_context(Sandbox(config(memory_limit_mb=None)))
        commands = {other: MEMFDS + ready, sandbox: ready + HIDDEN["worker"]}
        for one, script in commands.items():
            process = one.popen([PYTHON, "-c", before + script + keep], stdin=PIPE, stdout=PIPE)
            assert process.stdin is not None
            assert process.stdout is not None
            stack.callback(process.stdin.close)
            stack.callback(process.stdout.close)
            assert process.stdout.readline() == b"ready\n"
        time.sleep(0.5)  # the figures of the machine are read when the command is that old
        ends.close()
        time.sleep(1)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(120) == -signal.SIGKILL  # a bound of a hang


def test_the_lease_goes_on_after_it(sandbox: Sandbox) -> None:
    assert run(sandbox, FORKS + "time.sleep(60)").oom_killed
    result = run(sandbox, "time.sleep(0.2); print('fine')")
    assert (result.stdout, result.oom_killed) == (b"fine\n", False)


# By commands that are over before anybody watches them.
KEPT = {
    "segments": "at = libc.shmat(libc.shmget(0, PART, 0o1600), None, 0)\nlibc.memset(at, 1, PART)",
    "semaphores": "for i in range(3): libc.semget(0, 32000, 0o1000)",
    "messages": """
for i in range(1000):
    queue = libc.msgget(0, 0o1600)
    for j in range(4):
        libc.msgsnd(queue, ctypes.create_string_buffer(b"x" * 4008), 4000, 0o4000)
""",
}
COUNT = "print(*(len(open(f'/proc/sysvipc/{kind}').readlines()) - 1 for kind in ('shm', 'sem', 'msg')))"


@pytest.mark.parametrize("kind", KEPT)
def test_what_short_commands_leave_is_bounded(sandbox: Sandbox, kind: str) -> None:
    script = (
        "libc.shmat.restype = ctypes.c_void_p\nlibc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_long\n"
    )
    counts = []
    for _ in range(6):
        result = run(sandbox, script + KEPT[kind])
        assert result.exit_code == 0 or result.oom_killed, result.stderr  # on a slow machine no command is short
        counts.append(sum(map(int, run(sandbox, COUNT).stdout.split())))
    assert counts[0] > 0, "within the limit it stays for the next command"
    assert 0 in counts, "above it all goes"


def test_programs_that_mean_well(sandbox: Sandbox) -> None:
    """Much of what hides memory is what programs do every day; they stay below the limit, and are let alone."""
    script = """
import socket
libc.prctl(4, 0, 0, 0, 0)
assert libc.prctl(3, 0, 0, 0, 0) == 1, "it believes that it is undumpable, and is not"
pairs = [socket.socketpair() for i in range(20)]
for a, b in pairs:
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    socket.send_fds(a, [b"x"], [0])
pipes = [os.pipe() for i in range(60)]
sparse = mmap.mmap(-1, 300 << 20)
sparse[0] = 1
import fcntl, select
locked = open("/tmp/locked", "w")
for at in range(500):
    fcntl.lockf(locked, fcntl.LOCK_EX, 1, 2 * at)
sets = [select.epoll() for i in range(4)]
for s in sets:
    for pair in pairs:
        s.register(pair[0], select.EPOLLIN)
read_only = [mmap.mmap(-1, 4096, prot=mmap.PROT_READ) for i in range(2000)]
memory = mmap.mmap(-1, 10 << 20)
if os.fork() == 0:
    for at in range(0, 10 << 20, 4096):
        memory[at] = 1
    os._exit(0)
os.wait()
threading.Thread(target=time.sleep, args=(0.2,)).start()
time.sleep(0.5)
"""
    result = run(sandbox, script)
    assert (result.exit_code, result.oom_killed, result.stderr) == (0, False, b"")


def test_shared_pages_count_once(sandbox: Sandbox) -> None:
    script = """
x = bytearray(20 << 20)
m = mmap.mmap(-1, 15 << 20)
for at in range(0, 15 << 20, 4096):
    m[at] = 1
for i in range(6):
    if os.fork() == 0:
        break
time.sleep(0.5)
"""
    result = run(sandbox, script)
    assert (result.exit_code, result.oom_killed) == (0, False), result


# Programs of C with 40 MiB, and with 30.
SHARERS = {
    # Until it has execed, which takes long on a busy machine, a child of vfork shows the memory of its parent. The
    # threads of a program may each have such a child.
    "vfork": """
static void *spawn(void *unused) {
    if (vfork() == 0) {
        usleep(600 * 1000);
        _exit(0);
    }
    return unused;
}
int main(void) {
    pthread_t threads[4];
    memset(mmap(0, 40 << 20, 3, 0x22, -1, 0), 1, 40 << 20);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, spawn, 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
}""",
    # Each child makes the others' share smaller.
    "fork": """
int main(void) {
    memset(mmap(0, 30 << 20, 3, 0x22, -1, 0), 1, 30 << 20);
    for (int i = 0; i < 20; i++) {
        if (fork() == 0) pause();
        usleep(20 * 1000);
    }
    usleep(200 * 1000);
}""",
}


@pytest.mark.parametrize("way", SHARERS)
def test_memory_of_parent_and_child_counts_once(hog: Path, way: str) -> None:
    program = hog.with_name(way)
    head = "".join(f"#include <{name}.h>\n" for name in ("pthread", "string", "sys/mman", "unistd"))
    command = ["cc", "-O1", "-w", "-pthread", "-x", "c", "-", "-o", program]
    subprocess.run(command, input=head + SHARERS[way], text=True, check=True)
    with Sandbox(config(fs_readonly=(program,))) as sandbox:
        result = sandbox.execute([program], timeout=20)
    assert (result.exit_code, result.oom_killed) == (0, False), result


def test_other_ends_are_not_the_limits(sandbox: Sandbox) -> None:
    assert not run(sandbox, "os.kill(os.getpid(), 9)").oom_killed
    late = run(sandbox, "x = bytearray(30 << 20); time.sleep(60)", timeout=0.3)
    assert late.timed_out
    assert not late.oom_killed
    with Sandbox(config(data_limit_mb=50)) as bounded:
        refused = run(bounded, "bytearray(200 << 20)")
    assert refused.exit_code == 1
    assert b"MemoryError" in refused.stderr
    assert not refused.oom_killed


@pytest.fixture(scope="module")
def hog() -> Iterator[Path]:
    program = Path(tempfile.mkdtemp(prefix="sandpool-hog-", dir="/var/tmp"), "hog")
    program.parent.chmod(0o755)
    source = Path(__file__).resolve().parents[2] / "bench" / "hog.c"
    subprocess.run(["cc", "-O1", "-static", "-pthread", source, "-o", program], check=True)
    yield program
    shutil.rmtree(program.parent)


# As bench/overshoot.py has more of them: how it touches memory, whether by a process or a thread for each processor,
# and milliseconds before it begins.
TOUCHERS = {
    "threads": ("private", False, True, 0),
    "processes": ("private", True, False, 0),
    "processes after a while": ("private", True, False, 437),
    "huge pages": ("huge", True, False, 0),
    "shared mappings": ("shared", True, False, 0),
    "memfds": ("memfd", True, False, 100),
}


@pytest.mark.parametrize("name", TOUCHERS)
@pytest.mark.parametrize("limit_mb", [32, LIMIT_MB])
def test_what_touches_as_fast_as_it_can_is_soon_gone(hog: Path, name: str, limit_mb: int) -> None:
    """From passing twice the limit, which the hog notes, to the end of `execute`, when all of its memory is free."""
    way, processes, threads, sleep_ms = TOUCHERS[name]
    cores = os.cpu_count() or 1
    counts = hog.with_name("counts") / "counts"
    counts.parent.mkdir(exist_ok=True)
    counts.parent.chmod(0o777)
    counts.write_bytes(bytes(4096))
    counts.chmod(0o666)
    numbers = [cores if processes else 1, cores if threads else 1, sleep_ms, 2 * limit_mb << 20, 6 << 30]
    shown = config(memory_limit_mb=limit_mb, fs_readonly=(hog,), fs_readwrite=(counts.parent,))
    with Sandbox(shown) as sandbox:
        result = sandbox.execute([hog, counts, way, *map(str, numbers)], timeout=20)
        ended = time.monotonic_ns()
    touched, _, passed = struct.unpack("3q", counts.read_bytes()[:24])
    assert (result.oom_killed, result.timed_out) == (True, False), result
    assert touched > 0.9 * limit_mb * (1 << 20)
    over_ms = (ended - passed) / 1e6 if passed else 0.0
    assert over_ms < 100, f"{touched >> 20} MiB"


RESERVES = {
    "address space": "m = mmap.mmap(-1, 1 << 34, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)",
    "stacks of threads": """
threading.stack_size(64 << 20)
done = threading.Event()
threads = [threading.Thread(target=done.wait) for _ in range(40)]
for thread in threads:
    thread.start()
time.sleep(0.3)
done.set()
""",
}


@pytest.mark.parametrize("way", RESERVES)
def test_what_is_only_reserved_does_not_count(sandbox: Sandbox, way: str) -> None:
    script = RESERVES[way] + "\nprint('fine')"
    assert run(sandbox, script).stdout == b"fine\n"
    with Sandbox(config(data_limit_mb=LIMIT_MB)) as bounded:
        refused = run(bounded, script)
    assert (refused.exit_code, refused.oom_killed) == (1, False), refused


def test_the_error_names_the_limit(sandbox: Sandbox) -> None:
    with pytest.raises(CommandFailedError, match="raise memory_limit_mb"):
        run(sandbox, "x = bytearray(200 << 20); time.sleep(60)").check()


# How one of four processes takes another MiB. Page tables of an empty address space are what takes longest to look at.
GROWTH = {
    "pages": """
m = mmap.mmap(-1, 400 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
def grow(mb):
    for at in range(mb << 20, (mb + 1) << 20, 4096):
        m[at] = 1
""",
    "page tables": """
step = 2 << 20
m = mmap.mmap(-1, 400 * 256 * step, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
def grow(mb):
    for at in range(mb * 256 * step, (mb + 1) * 256 * step, step):
        m[at]
""",
}


@pytest.mark.parametrize("way", GROWTH)
def test_never_above_twice_the_limit_for_longer_than_100_ms(sandbox: Sandbox, way: str) -> None:
    """Four processes report when they have touched another MiB, as fast as they can."""
    forks = """
for i in range(3):
    if os.fork() == 0:
        break
"""
    report = """
for mb in range(400):
    grow(mb)
    os.write(1, b"%d\\n" % time.monotonic_ns())
"""
    result = run(sandbox, forks + GROWTH[way] + report)
    assert result.oom_killed
    times = sorted(int(line) for line in result.stdout.split())
    over = times[2 * LIMIT_MB :]
    assert not over or (over[-1] - over[0]) / 1e6 < 100, f"{len(times)} MiB, above twice for {over[-1] - over[0]} ns"
