"""What "warm" means, proved from outside: live sandboxes before acquire, no fork and no syscall of the host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eyes import alive, identity, status_field
from full_tier import head_of_scripts, refusal
from pools import OpenPool, wait_idle
from scripts import SUPPORT
from waiting import wait_until

from pysandpool import PooledSandbox


def living() -> set[tuple[int, int]]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and alive(int(name)):
            try:
                found.add(identity(int(name)))
            except AssertionError:  # it ended meanwhile
                continue
    return found


def test_acquire_hands_out_what_was_alive_before(real_pool: OpenPool) -> None:
    pool = real_pool(warm=3)
    before = living()
    leases = [pool.acquire() for _ in range(3)]
    assert {identity(lease.pid) for lease in leases} <= before
    made = pool.acquire()
    assert identity(made.pid) not in before, "control: a miss is not among them"
    assert made.execute(["/bin/echo", "runs"]).stdout == b"runs\n"


@pytest.mark.namespaces("pids of its own")
def test_what_is_idle_is_isolated_already(real_pool: OpenPool) -> None:
    """Seen from the host, before any command: it is pid 1 of a namespace, unprivileged and confined."""
    pool = real_pool(warm=1)
    with pool.acquire() as lease:
        pid = lease.pid
        assert status_field(pid, "NSpid").split()[-1] == "1"
        assert int(status_field(pid, "CapEff"), 16) == int(status_field(pid, "CapBnd"), 16) == 0
        assert (status_field(pid, "NoNewPrivs"), status_field(pid, "Seccomp")) == ("1", "2")
        assert int(status_field(pid, "Seccomp_filters")) >= 2
        assert not status_field(pid, "Uid").startswith("0\t")


class Namespace:
    """A lease's pid namespace by its init: the only process that is pid 1 there. The namespace's inode number would be
    used again by the kernel; (pid, start time) of its first process is not."""

    def __init__(self, lease: PooledSandbox) -> None:
        assert status_field(lease.pid, "NSpid").split()[-1] == "1"
        self.init = identity(lease.pid)
        self.inside = lease.execute(["/bin/readlink", "/proc/self/ns/pid"]).check().stdout


@pytest.mark.namespaces("pids of its own")
def test_two_leases_in_a_row_never_share_a_pid_namespace(real_pool: OpenPool) -> None:
    pool = real_pool(warm=1, max_size=1)
    seen = []
    for _ in range(50):
        with pool.acquire() as lease:
            one = Namespace(lease)
            assert Namespace(lease).init == one.init, "control: a lease keeps its own"
        seen.append(one.init)
    assert len(set(seen)) == 50
    assert pool.stats().in_use_count == 0


@pytest.mark.namespaces("pids of its own")
def test_pid_namespaces_of_living_leases_differ(real_pool: OpenPool) -> None:
    pool = real_pool(warm=2)
    leases = [pool.acquire() for _ in range(6)]
    links = {Namespace(lease).inside for lease in leases}
    assert len(links) == 6
    assert os.readlink("/proc/self/ns/pid").encode() + b"\n" not in links


def test_used_init_ends(real_pool: OpenPool) -> None:
    """Nobody's next sandbox is the old one scrubbed: the old one dies, and the next was never used."""
    pool = real_pool(warm=1, max_size=1)
    used = []
    for _ in range(10):
        with pool.acquire() as lease:
            lease.execute(["/bin/true"]).check()
            used.append(identity(lease.pid))
        wait_idle(pool, 1)
        with pool.acquire() as lease:
            assert identity(lease.pid) not in used
    wait_until(lambda: not living() & set(used), "the used ones are dead")


# --- strace ----------------------------------------------------------------------------------------------

HOST = """
import os, time

def mark(name):
    try:
        os.write(-1, name)
    except OSError:
        pass

mark(b"MARK-start")
from pysandpool import PoolConfig, SandboxPool
# Not min_size=4: leases do not count for it, so a refill may come, and with it an eviction, whenever one is out.
pool = SandboxPool(None, PoolConfig(min_size=0, max_size=4, max_idle_duration=None))
pool.warm(4)
mark(b"MARK-open")
for _ in range(20):
    with pool.acquire() as sandbox:
        result = sandbox.execute(["/bin/echo", "hello"], input=b"x", timeout=20)
        assert result.stdout == b"hello\\n" and result.exit_code == 0
mark(b"MARK-jobs")
many = [pool.acquire() for _ in range(8)]
many.clear()
pool.warm(4)
while pool.stats().recycling_count:
    time.sleep(0.01)
mark(b"MARK-used")
for _ in range(200):
    with pool.acquire():
        pass
mark(b"MARK-hot")
for _ in range(2000):
    with pool.acquire():
        pass
for _ in range(2000):
    pool.acquire().release()
mark(b"MARK-cool")
pool.close()
mark(b"MARK-end")
"""


@dataclass
class Call:
    thread: int
    text: str

    @property
    def name(self) -> str:
        return self.text.partition("(")[0]

    @property
    def makes_process(self) -> bool:
        return self.name in ("fork", "vfork") or (self.name in ("clone", "clone3") and "CLONE_THREAD" not in self.text)


def whole_calls(text: str) -> Iterator[Call]:
    """The calls of `strace -f -o`, in the order in which they began; one that others interrupted is joined again."""
    calls = []
    unfinished: dict[int, Call] = {}
    for line in text.splitlines():
        thread, said = int(line.partition(" ")[0]), line.partition(" ")[2].strip()
        resumed = re.match(r"<\.\.\. \w+ resumed>", said)
        if resumed and thread in unfinished:
            unfinished.pop(thread).text += said[resumed.end() :]
            continue
        calls.append(Call(thread, said.replace("<unfinished ...>", "")))
        if said.endswith("<unfinished ...>"):
            unfinished[thread] = calls[-1]
    yield from calls


class Trace:
    """The system calls of the host's own threads, by the marks between which they were made."""

    def __init__(self, text: str) -> None:
        self.calls: list[Call] = []
        self.threads: set[int] = set()
        for call in whole_calls(text):
            if not self.threads:
                self.main = call.thread
                self.threads.add(self.main)
            if call.thread not in self.threads:
                continue
            self.calls.append(call)
            made = re.search(r"= (\d+)$", call.text) if "CLONE_THREAD" in call.text else None
            if made:
                self.threads.add(int(made[1]))

    def between(self, start: str, end: str) -> list[Call]:
        at = {mark: next(i for i, call in enumerate(self.calls) if f'"{mark}"' in call.text) for mark in (start, end)}
        return self.calls[at[start] + 1 : at[end]]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace | dnf install strace | apk add strace")
    output = tmp_path_factory.mktemp("strace") / "trace"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-s", "64", "-o", output, sys.executable, "-c", head_of_scripts() + HOST],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=SUPPORT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return Trace(output.read_text(errors="replace"))


def test_trace_shows_the_one_spawn(trace: Trace) -> None:
    """Control: what is looked for below is seen when it happens."""
    made = [call for call in trace.between("MARK-start", "MARK-open") if call.makes_process]
    # Where namespaces are refused: with them; one that asks for Landlock, as a filter may kill it; and without them.
    assert len(made) == (3 if refusal() else 1), made
    assert len(trace.threads) >= 2, "the janitor"


def test_host_never_forks_after_open(trace: Trace) -> None:
    calls = trace.between("MARK-open", "MARK-end")
    assert len(calls) > 200, "control: 20 jobs were run, and are seen"
    kinds = {"fork", "vfork", "clone", "clone3", "execve", "execveat"}
    assert [call for call in calls if call.name in kinds] == []


def test_host_spawns_and_does_not_fork(trace: Trace) -> None:
    """What starts the zygote shares the memory: its cost does not grow with the host's. It has no exit signal."""
    calls = [call for call in trace.between("MARK-start", "MARK-open") if call.makes_process]
    assert calls
    for call in calls:
        assert call.name == "clone"
        assert "CLONE_VM" in call.text
        assert "SIGCHLD" not in call.text


def test_acquire_and_release_make_no_syscall(trace: Trace) -> None:
    calls = trace.between("MARK-hot", "MARK-cool")
    main = [call for call in calls if call.thread == trace.main]
    assert [call for call in main if call.name != "futex"] == []
    # Of 4,000 pairs a few may meet the janitor's tick, which holds the lock that they need.
    assert len(main) < 20, main
    # The janitor's own clock may tick; it is not woken by 4,000 acquires. In the Landlock tier it may also still tend
    # what is left of earlier leases.
    assert len(calls) < (400 if refusal() else 40), calls


def test_execute_makes_few_syscalls(trace: Trace) -> None:
    """No measurement, only a net: a job that polls by sleeping, or copies by single bytes, would be caught in it."""
    calls = [call for call in trace.between("MARK-open", "MARK-jobs") if call.thread == trace.main]
    assert len(calls) < 20 * 150
    assert not {"nanosleep", "clock_nanosleep"} & {call.name for call in calls}
