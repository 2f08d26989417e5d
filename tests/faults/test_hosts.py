"""Hosts as they come: forked, preforked, without fds, limits, directory or terminal; and what they must keep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from full_tier import ALLOWING, head_of_scripts
from scripts import ROOT, SUPPORT, run_script

from pysandpool._backend.machine import kernel_version

# --- fork ------------------------------------------------------------------------------------------------

MULTIPROCESSING = """
import multiprocessing, os, sys
from pysandpool import PoolConfig, PoolStateError, SandboxPool

def refused(pool, parent):
    try:
        pool.acquire()
    except PoolStateError as error:
        return str(os.getpid()) in str(error) and str(parent) in str(error)
    return False

def job(answers, parent):
    inherited = POOL is None or refused(POOL, parent)
    with SandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
        look = "for fd in 0 1 2 3 4 5 6 7 8 9; do (: <&$fd) 2>/dev/null && echo $fd; done"
        inside = lease.execute(["/bin/sh", "-c", look]).stdout.split()
        answers.put((inherited, inside, lease.execute(["/bin/echo", "mine"]).stdout))

POOL = None

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    POOL = SandboxPool(None, PoolConfig(min_size=2, max_idle_duration=None))
    kept = POOL.acquire()
    before = POOL.stats()
    answers = context.Queue()
    workers = [context.Process(target=job, args=(answers, os.getpid())) for _ in range(3)]
    for worker in workers:
        worker.start()
    got = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0, worker.exitcode
    assert got == [(True, [b"0", b"1", b"2"], b"mine\\n")] * 3, got
    assert kept.execute(["/bin/echo", "undisturbed"]).stdout == b"undisturbed\\n"
    assert POOL.stats().in_use_count == before.in_use_count == 1
    assert POOL.stats().evict_count == before.evict_count
    POOL.close()
    print("well")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    """A script file: forkserver and spawn import it again."""
    script = tmp_path / "script.py"
    script.write_text(head_of_scripts() + MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, method],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


PREFORK = """
import os, signal, sys, threading, time
from eyes import alive, children, zygote_of
from waiting import wait_until
from pysandpool import PoolConfig, PoolStateError, SandboxPool

master = SandboxPool(None, PoolConfig(min_size=2, max_idle_duration=None))
kept = master.acquire()
zygote, master_pid = zygote_of(kept), os.getpid()
busy = threading.Event()

def load():
    while not busy.is_set():
        with master.acquire() as lease:
            assert lease.execute(["/bin/echo", "x"]).stdout == b"x\\n"

threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads:
    thread.start()

def worker(number):
    # locks of the parent's threads may be held for ever here
    for call in (master.acquire, master.stats, master.idle_len, lambda: master.warm(1), lambda: kept.execute(["true"])):
        try:
            call()
        except PoolStateError as error:
            assert str(os.getpid()) in str(error) and str(master_pid) in str(error), error
        else:
            raise AssertionError("not refused")
    with SandboxPool(None, PoolConfig(min_size=1)) as own:
        assert zygote_of(own.acquire()) != zygote
        for _ in range(5):
            with own.acquire() as lease:
                assert lease.execute(["/bin/echo", str(number)]).stdout == b"%d\\n" % number
    if number % 3 == 0:
        os._exit(0)
    if number % 3 == 1:
        sys.exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

for round in range(2):
    pids = {}
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                worker(number)
            except Exception as error:
                print("worker", number, error, flush=True)
                os._exit(9)
        pids[pid] = number
    for pid, number in pids.items():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == (-9 if number % 3 == 2 else 0), (number, code)
busy.set()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive()
assert kept.execute(["/bin/echo", "on"]).stdout == b"on\\n" and zygote_of(kept) == zygote
stats = master.stats()
assert stats.in_use_count == 1 and stats.created_count - stats.evict_count == stats.idle_count + 1, stats
master.close()
assert not alive(zygote)
print("well")
"""


def test_prefork() -> None:
    done = run_script("import warnings; warnings.simplefilter('ignore')\n" + PREFORK, timeout=120)
    assert (done.stdout, done.stderr) == ("well\n", "")


# --- signals and statuses --------------------------------------------------------------------------------


def test_a_host_that_reaps_everything_and_one_that_runs_subprocesses() -> None:
    """The pool neither needs nor takes a wait status."""
    done = run_script(
        """
import os, signal, subprocess, threading
from contextlib import suppress
from pysandpool import PoolConfig, SandboxPool

reaped = []

def reap(*_):
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            reaped.append((pid, os.waitstatus_to_exitcode(status)))

signal.signal(signal.SIGCHLD, reap)
for turn in range(10):
    own = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {turn}"], {})
    with SandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
        assert lease.execute(["/bin/sh", "-c", "exit 4"]).exit_code == 4
    while own not in dict(reaped):
        signal.sigtimedwait([], 0.01)
    assert dict(reaped)[own] == turn, (own, reaped)

signal.signal(signal.SIGCHLD, signal.SIG_DFL)
wrong, over = [], threading.Event()

def others():
    while not over.is_set():
        code = subprocess.run(["/bin/sh", "-c", "exit 7"]).returncode
        if code != 7:
            wrong.append(code)

thread = threading.Thread(target=others)
thread.start()
for _ in range(15):
    with SandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
        assert lease.execute(["/bin/sh", "-c", "exit 4"]).exit_code == 4
over.set()
thread.join()
assert not wrong, wrong
print("well")
"""
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_handlers_and_masks_stay() -> None:
    done = run_script(
        """
import signal, threading
from pathlib import Path
from pysandpool import PoolConfig, SandboxPool

def state():
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]

def live():
    with SandboxPool(None, PoolConfig(min_size=1)) as pool:
        for _ in range(3):
            with pool.acquire() as lease:
                lease.execute(["/bin/cat"], input=b"x" * 1000)
                lease.execute(["/bin/true"], input=b"x" * 1000000)
            assert state() == before, (state(), before)

threading.Thread(target=int).start()  # the C library catches two signals of its own from then on
before = state()
live()
assert state() == before

def in_thread():
    global before
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
    before = state()
    live()
    assert state() == before
    print("well")

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; not every host does
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
"""
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


# --- hosts as they come ----------------------------------------------------------------------------------

WORKS = """
from pysandpool import PoolConfig, SandboxConfig, SandboxPool
with SandboxPool(None, PoolConfig(min_size=2)) as pool:
    for _ in range(3):
        with pool.acquire() as lease:
            script = "cat; echo x >f && cat f; echo e >&2; ls /etc/passwd /usr"
            result = lease.execute(["/bin/sh", "-c", script], input=b"in ")
            assert result.stdout.startswith(b"in x\\n") and b"passwd" in result.stdout, result
            assert result.stderr == b"e\\n" and result.exit_code == 0, result
            assert lease.execute(["/bin/sh", "-c", "exit 3"]).exit_code == 3
"""
SAY = "import os\nos.write(out, b'well')\n"

SETTINGS = {
    "without fds 0-2": "for fd in (0, 1, 2): os.close(fd)",
    "without fd 0": "os.close(0)",
    "without fds 1 and 2": "os.close(1); os.close(2)",
    "stdin closed": "import sys; sys.stdin.close()",
    "deleted cwd": "import tempfile; path = tempfile.mkdtemp(); os.chdir(path); os.rmdir(path)",
    "umask 0777": "os.umask(0o777)",
    "umask 0": "os.umask(0)",
    "session leader": "os.setsid()",
    "nice": "os.nice(5)",
    "no core": "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "small stack": "resource.setrlimit(resource.RLIMIT_STACK, (256 * 1024, 256 * 1024))",
    "no locked memory": "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))",
    "no queued signals": "resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))",
    "no message queues": "resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))",
    "2 GiB of addresses": "resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))",
    "128 MiB of data": "resource.setrlimit(resource.RLIMIT_DATA, (1 << 27, 1 << 27))",
    "signals blocked": "import signal; signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))",
    "signals ignored": "import signal\nfor n in range(1, 32):\n    n in (9, 19) or signal.signal(n, signal.SIG_IGN)",
    "keyrings": "import ctypes; ctypes.CDLL(None).syscall(250, 1, b'host')",
    "undumpable": "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)",
    "no new privileges": "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",
    "subreaper": "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)",
    "many fds": "for _ in range(200):\n    os.set_inheritable(os.open('/dev/null', os.O_RDONLY), True)",
    "a terminal": "import pty; pid, fd = pty.fork()\nif pid:\n    os.waitpid(pid, 0)\n    os._exit(0)",
}


@pytest.mark.parametrize("tier", [pytest.param("full", marks=pytest.mark.namespaces), "landlock"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_hosts(setting: str, tier: str) -> None:
    if tier == "landlock" and kernel_version() < (5, 13):
        pytest.skip("this kernel has no Landlock")
    allowing = "" if tier == "full" else ALLOWING
    near, far = os.pipe()
    code = f"import os, resource\nout = {far}\n" + SETTINGS[setting] + allowing + WORKS + SAY
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[far],
        cwd=SUPPORT,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT), **({"PYSANDPOOL_TIER": tier} if allowing else {})},
    ) as host:
        os.close(far)
        with open(near, "rb") as answers:
            told = answers.read()
        _, errors = host.communicate(timeout=60)
    assert told == b"well", errors.decode()


@pytest.mark.namespaces("a root of its own")
def test_a_limit_that_the_template_cannot_be_built_under_is_reported() -> None:
    done = run_script(
        """
import errno, os, resource
from pysandpool import SandboxCreateError, SandboxPool
resource.setrlimit(resource.RLIMIT_FSIZE, (32, 32))
if os.getuid() == 0:  # which may raise it again
    os.setresgid(12345, 12345, 12345)
    os.setresuid(12345, 12345, 12345)
try:
    SandboxPool()
except SandboxCreateError as error:
    assert (error.stage, error.errno) == ("root_template", errno.EFBIG), error
    print("told")
"""
    )
    assert (done.stdout, done.stderr) == ("told\n", "")


def test_a_tenant_has_no_terminal_of_the_host() -> None:
    """The host is a session leader with a controlling terminal; nothing of it is inside."""
    done = run_script(
        """
import os, pty
pid, fd = pty.fork()
if pid == 0:
    from pysandpool import SandboxPool
    assert os.isatty(0) and os.ttyname(0)
    with SandboxPool() as pool, pool.acquire() as lease:
        result = lease.execute(["/bin/sh", "-c", "exec 3<>/dev/tty"])
        assert result.exit_code != 0 and b"/dev/tty" in result.stderr, result
        assert lease.execute(["/usr/bin/tty"]).stdout == b"not a tty\\n"
    print("well", flush=True)
    os._exit(0)
told = b""
try:
    while True:
        told += os.read(fd, 1000)
except OSError:
    pass
os.waitpid(pid, 0)
print(told.decode().strip())
"""
    )
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_ld_preload_is_the_hosts_own(tmp_path: Path) -> None:
    """A library that is preloaded into the host reaches neither the zygote (static, no environment) nor a command."""
    source, library = tmp_path / "noise.c", tmp_path / "noise.so"
    source.write_text(
        '#include <unistd.h>\n__attribute__((constructor)) static void noise(void) { write(2, "NOISE\\n", 6); }\n'
    )
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    code = WORKS + 'assert b"NOISE" not in Sandbox().execute(["/usr/bin/env"]).stdout\nprint("well")'
    done = subprocess.run(
        [sys.executable, "-c", head_of_scripts() + "from pysandpool import Sandbox\n" + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "LD_PRELOAD": os.fspath(library), "PYTHONPATH": os.fspath(ROOT)},
    )
    assert (done.stdout, set(done.stderr.split())) == ("well\n", {"NOISE"})


def test_an_execute_without_free_fds_fails_and_harms_nothing() -> None:
    done = run_script(
        """
import errno, resource
from host_state import leave_free_fds
from pysandpool import PoolConfig, SandboxError, SandboxPool

pool = SandboxPool(None, PoolConfig(min_size=1, max_idle_duration=None))
lease = pool.acquire()
before = resource.getrlimit(resource.RLIMIT_NOFILE)
for free in range(6):
    leave_free_fds(free)
    try:
        lease.execute(["/bin/true"], input=b"x")
    except SandboxError as error:
        assert error.errno == errno.EMFILE, error
        print(free, end=" ")
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert lease.execute(["/bin/echo", "on"]).stdout == b"on\\n"
leave_free_fds(0)
lease.release()
pool.close()
print("well")
"""
    )
    assert (done.stdout, done.stderr) == ("0 1 2 3 4 5 well\n", "")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="subinterpreters with a lock of their own came with Python 3.12")
def test_subinterpreters() -> None:
    """Where cffi cannot be loaded there, the import says so; nothing crashes, and the main one goes on."""
    done = run_script(
        """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
from pysandpool import SandboxPool
pool = SandboxPool()
inner = interpreters.create()
code = '''
try:
    import pysandpool
    with pysandpool.SandboxPool() as pool, pool.acquire() as lease:
        assert lease.execute(["/bin/true"]).exit_code == 0
except ImportError as error:
    assert "interpreter" in str(error), error
'''
failure = interpreters.run_string(inner, code)
assert failure is None, failure
interpreters.destroy(inner)
with pool.acquire() as lease:
    assert lease.execute(["/bin/echo", "on"]).stdout == b"on\\n"
print("well")
"""
    )
    assert (done.stdout, done.stderr) == ("well\n", "")
