"""The Landlock tier: sandboxes where the kernel refuses namespaces; PYSANDPOOL_TIER acts as if it did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eyes_linux import alive, children_of
from waiting import wait_until

from pysandpool import (
    Bind,
    NamespaceDegradation,
    PoolConfig,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxPool,
    SeccompProfile,
    Workspace,
)

IS_ROOT = os.geteuid() == 0
ALLOW = NamespaceDegradation.ALLOW_DEGRADATION


def config(**fields: object) -> SandboxConfig:
    # `Sandbox` shares the zygotes of equal configurations, and the variables of the environment are none of them.
    asked = {name: os.environ.get(f"PYSANDPOOL_{name}", "") for name in ("TIER", "LANDLOCK_ABI")}
    given = {"namespace_degradation": ALLOW, "timeout_secs": 20, "env_vars": asked, **fields}
    return SandboxConfig(**given)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _in_the_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSANDPOOL_TIER", "landlock")


# The last ABI, the last one without scopes, and the last one that does not check truncation.
@pytest.fixture(params=[7, 5, 2])
def abi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", str(request.param))
    return int(request.param)


@pytest.fixture
def pool(abi: int) -> Iterator[SandboxPool]:
    with SandboxPool(config(), PoolConfig(min_size=1, max_size=2)) as one:
        yield one


def with_mark(mark: str) -> list[int]:
    """The processes with this word on their command line."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            pass
    return found


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that the ids of a lease can pass, too."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def mark() -> str:
    """A number of seconds that only this test's processes sleep."""
    return f"9{os.getpid()}.{os.urandom(3).hex().translate(str.maketrans('abcdef', '012345'))}"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def bounding_set() -> int:
    """The capabilities that this process and its children could gain, as bits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("CapBnd:")).split()[1], 16)


def daemons(mark: str) -> list[str]:
    """Processes in groups and sessions of their own, one of them an orphan."""
    start = f"sleep {mark} & setsid sleep {mark} & (setsid sh -c 'sleep {mark} & exec sleep {mark}' &)"
    return ["sh", "-c", f"{start}; exec sleep {mark}"]


MOVES = """
import os
os.makedirs("a/d"); os.mkdir("b"); open("a/f", "w").close()
os.rename("a/f", "b/f"); os.rename("a/d", "b/d"); os.link("b/f", "a/f")
for outside in ({shown!r}, "/etc/hosts"):
    for call in (os.link, os.rename):
        try:
            call(outside, "a/stolen")
        except OSError:
            continue
        print("gained", call, outside)
for call in (os.link, os.rename):
    try:
        call("b/f", {shown!r} + "-new")
    except OSError:
        continue
    print("put outside by", call)
print(sorted(os.listdir("b")))
"""


def test_files_move_between_the_directories_of_a_lease_and_not_out_of_it(abi: int, directory: Path) -> None:
    """A domain without rules for files denies it all the same, unless it says otherwise."""
    directory.chmod(0o777)
    shown = directory / "shown"
    shown.write_text("of the host\n")
    shown.chmod(0o666)
    with Sandbox(config(fs_readonly=[str(directory)])) as sandbox:
        code = MOVES.format(shown=str(shown))
        assert sandbox.execute(["/usr/bin/python3", "-c", code], text=True).check().stdout == "['d', 'f']\n"
        sandbox.rename("b/f", "a/g")
        deep = "import os\nfor _ in range(1500): os.mkdir('deep'); os.chdir('deep')"
        sandbox.execute(["/usr/bin/python3", "-c", deep]).check()
        sandbox.remove("deep", recursive=True)
        assert sorted(sandbox.list_files()) == ["a", "b"]
    assert [one.name for one in directory.iterdir()] == ["shown"]


def test_a_command_runs_and_the_report_says_in_which_tier(pool: SandboxPool, abi: int) -> None:
    with pool.acquire() as lease:
        assert lease.execute(["/bin/echo", "hi"]).check().stdout == b"hi\n"
        found = lease.isolation
    assert (found.tier, found.namespaces, found.mounts) == ("landlock", "none", "partial")
    assert (found.landlock_abi, found.landlock) == (abi, "full" if abi >= 6 else "partial")
    assert (found.seccomp, found.network, found.unix_sockets, found.memory) == ("full", "partial", "full", "partial")
    # Only root can give a lease ids of its own.
    assert found.processes == ("full" if IS_ROOT else "partial")
    # Whoever is not root cannot empty the bounding set, but it may be empty already.
    assert found.no_new_privs == ("full" if IS_ROOT or bounding_set() == 0 else "partial")


def test_it_is_taken_only_where_the_configuration_allows_it() -> None:
    with pytest.raises(SandboxCreateError) as caught:
        Sandbox(config(namespace_degradation=NamespaceDegradation.FAIL_CLOSED))
    assert caught.value.stage == "user_namespace"


def test_without_landlock_there_is_no_such_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", "0")
    with pytest.raises(SandboxCreateError) as caught:
        Sandbox(config())
    assert caught.value.stage == "landlock"


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"network": "loopback"}, "a network"),
        ({"deny_network": False, "seccomp_profile": SeccompProfile.NETWORK}, "a network"),
        ({"seccomp_profile": SeccompProfile.NETWORK}, "a network"),
        ({"allow_unix_sockets": True}, "allow_unix_sockets"),
        ({"scratch_dirs": ("/var/tmp",)}, "scratch_dirs"),
        ({"binds": (Bind("/usr/share", "/data"),)}, "a bind at another place"),
    ],
)
def test_what_it_cannot_give_is_refused_by_name(fields: dict[str, object], detail: str) -> None:
    with pytest.raises(SandboxCreateError, match=detail) as caught:
        Sandbox(config(**fields))
    assert caught.value.stage == "tier"
    assert "ALLOW_DEGRADATION" in caught.value.hint


def test_a_rootfs_and_a_read_only_path_in_a_writable_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for fields, detail in (
        ({"rootfs": tmp_path}, "rootfs"),
        ({"fs_readwrite": (tmp_path,), "fs_readonly": (tmp_path / "part",)}, "a read-only path"),
    ):
        with pytest.raises(SandboxCreateError, match=detail):
            Sandbox(config(**fields))


def test_a_set_id_file_in_a_writable_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "program").touch()
    (tmp_path / "program").chmod(0o4755)
    with pytest.raises(SandboxCreateError, match="a set-id file"):
        Sandbox(config(fs_readwrite=(tmp_path,)))


def test_a_link_that_a_tenant_may_have_made_is_not_followed(directory: Path) -> None:
    """A path of the configuration that lies in a writable one."""
    directory.chmod(0o777)
    (directory / "part").symlink_to("/etc")
    with pytest.raises(SandboxCreateError) as caught:
        Sandbox(config(fs_readwrite=(directory, directory / "part")))
    assert caught.value.stage == "bind"


def test_a_workspace_is_refused(tmp_path: Path) -> None:
    with SandboxPool(config(), PoolConfig(min_size=1)) as pool:
        with pytest.raises(SandboxError) as caught:
            pool.acquire(workspace=Workspace(tmp_path))
        assert caught.value.stage == "tier"
        assert "fs_readwrite" in caught.value.hint
        assert "upload()" in caught.value.hint
        assert pool.stats().in_use_count == 0


def test_home_scratch_and_directory_are_the_leases_own(pool: SandboxPool) -> None:
    with pool.acquire() as lease, pool.acquire() as other:
        home, scratch, cwd = lease.execute(["sh", "-c", "echo $HOME; echo $TMPDIR; pwd"]).check().stdout.split()
        assert home == scratch == cwd
        other.execute(["sh", "-c", "echo secret > mine; cat mine"]).check()
        reached = lease.execute(["sh", "-c", "cat ../*/mine || ls .. || ls /tmp || cat /proc/self/status"])
        assert reached.exit_code != 0
        assert reached.stdout == b""
        lease.write_file("made/by/the/host", b"data")
        assert lease.execute(["cat", "made/by/the/host"]).check().stdout == b"data"
        assert os.path.isdir(os.fsdecode(home))
    wait_until(lambda: not os.path.exists(os.fsdecode(home)), "the directory of the lease is gone")


def test_nothing_is_left_of_what_a_tenant_has_started(pool: SandboxPool, mark: str) -> None:
    with pool.acquire() as lease:
        lease.popen(daemons(mark))
        wait_until(lambda: len(with_mark(mark)) >= 5, "the processes have started")
        assert lease.execute(daemons(mark), timeout=0.2).timed_out
    wait_until(lambda: with_mark(mark) == [], "all processes have ended")


def test_a_command_leaves_nothing_and_processes_beside_it_live_on(abi: int, mark: str) -> None:
    with Sandbox(config()) as lease:
        lease.execute(["sh", "-c", f"setsid sleep {mark} & sleep {mark} &"]).check()
        assert with_mark(mark) == []
        with lease.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            lease.execute(["sh", "-c", f"setsid sleep {mark} & sleep {mark} &"]).check()
            assert with_mark(mark) == []
            # In one process group they cannot be told apart: then all end with the command.
            if abi >= 6 or IS_ROOT:
                assert process.communicate(b"alive")[0] == b"alive"


def test_a_standby_that_takes_no_request_ends_with_its_sandbox(pool: SandboxPool) -> None:
    """The timeout holds all the same. With namespaces, the kernel ends both."""
    with pool.acquire() as lease:
        init = lease.pid
        wait_until(lambda: children_of(init), "the standby, which starts right after READY")
        for standby in children_of(init):
            os.kill(standby, signal.SIGSTOP)
        assert lease.execute(["/bin/echo", "never"], timeout=0.3).timed_out
        assert not alive(init)


@pytest.mark.parametrize("victim", ["init", "zygote"])
def test_nothing_is_left_when_init_or_the_zygote_is_killed(pool: SandboxPool, mark: str, victim: str) -> None:
    lease = pool.acquire()
    lease.popen(daemons(mark))
    wait_until(lambda: len(with_mark(mark)) >= 4, "the processes have started")
    os.kill(lease.pid if victim == "init" else parent_of(lease.pid), signal.SIGKILL)
    wait_until(lambda: with_mark(mark) == [], "all processes have ended")
    lease.release()
    assert pool.run(["echo", "again"]).stdout == b"again\n"


def test_nothing_is_left_when_both_are_killed_at_once(pool: SandboxPool, mark: str) -> None:
    """The host does so where a machine is so busy that neither answers in time."""
    lease = pool.acquire()
    zygote = parent_of(lease.pid)
    lease.popen(daemons(mark))
    wait_until(lambda: len(with_mark(mark)) >= 4, "the processes have started")
    os.kill(zygote, signal.SIGSTOP)  # else it would kill what init leaves
    for pid in (lease.pid, zygote):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: with_mark(mark) == [], "all processes have ended")
    lease.release()
    assert pool.run(["echo", "again"]).stdout == b"again\n"


def test_nothing_is_left_when_the_host_is_killed(abi: int, mark: str, directory: Path) -> None:
    script = f"""
        import time
        from pysandpool import *
        lease = Sandbox(SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION))
        lease.popen({daemons(mark)!r})
        time.sleep(60)
    """
    environ = {**os.environ, "TMPDIR": str(directory)}
    host = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environ)
    wait_until(lambda: len(with_mark(mark)) >= 4, "the processes have started")
    host.kill()
    host.wait()
    wait_until(lambda: with_mark(mark) == [], "all processes have ended")
    # The next host removes what that one has left.
    assert list(directory.iterdir()) != []
    subprocess.run([sys.executable, "-c", textwrap.dedent(script).replace("60", "0")], env=environ, check=True)
    wait_until(lambda: list(directory.iterdir()) == [], "the directories are gone")


def test_a_closed_pool_leaves_no_file(abi: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    with SandboxPool(config(), PoolConfig(min_size=2)) as pool:
        pool.run(["sh", "-c", "mkdir -p a/b/c && touch a/b/c/d && chmod 0 a || true"])
        assert len(list(directory.iterdir())) == 1
    assert list(directory.iterdir()) == []


def test_a_pool_closes_while_directories_are_still_removed(abi: int) -> None:
    """The janitor removes them until it ends, which is after the launcher was shut down."""
    for _ in range(8):
        pool = SandboxPool(config(), PoolConfig(min_size=1, max_size=4))
        leases = [pool.acquire() for _ in range(3)]
        for lease in leases:
            lease.execute(["sh", "-c", "mkdir -p a/b && echo x > a/b/c"]).check()
        leases[0].release()
        leases[1].release()
        pool.close()
        assert pool.closed


def test_memory_of_all_its_processes_is_limited(abi: int) -> None:
    hog = "import os, time\nfor _ in range(6):\n if os.fork() == 0: x = bytearray(20 << 20); time.sleep(9); os._exit(0)"
    with Sandbox(config(memory_limit_mb=64)) as lease:
        assert lease.execute(["python3", "-c", "print(len(bytearray(30 << 20)))"]).ok
        assert lease.execute(["python3", "-c", "import time; x = bytearray(200 << 20); time.sleep(9)"]).oom_killed
        assert lease.execute(["python3", "-c", hog + "\ntime.sleep(9)"]).oom_killed


def test_the_number_of_its_processes_is_limited(abi: int) -> None:
    """With ids of its own the kernel counts those of the lease; an ordinary user's are counted by init."""
    fork = "import os, sys, time\nfor n in range(int(sys.argv[1])):\n if not os.fork(): time.sleep(60); os._exit(0)\n"
    with Sandbox(config(max_processes=20)) as lease:
        assert lease.isolation.processes == ("full" if IS_ROOT else "partial")
        assert lease.execute(["python3", "-c", fork + "time.sleep(0.5); print('all')", "19"]).check().stdout == b"all\n"
        more = lease.execute(["python3", "-c", fork + "time.sleep(60)", "40"])
        if IS_ROOT:
            assert b"BlockingIOError" in more.stderr
        else:
            assert (more.signal, more.oom_killed, more.timed_out) == (signal.SIGKILL, False, False)
        assert lease.execute(["echo", "usable"]).check().stdout == b"usable\n"


@contextmanager
def forking(sandbox: Sandbox, most: int) -> Iterator[None]:
    """While a process of this sandbox has started that many others, or as many as it may."""
    bomb = textwrap.dedent("""
        import os, sys, time
        try:
            for _ in range(int(sys.argv[1])):
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
        except OSError:
            pass
        print("no more", flush=True)
        time.sleep(60)
    """)
    with sandbox.popen(["python3", "-c", bomb, str(most)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"no more\n"
        yield
        running.kill()


@pytest.mark.skipif(IS_ROOT, reason="root's leases have ids, and so counts, of their own")
def test_processes_of_another_sandbox_do_not_end_this_one(abi: int) -> None:
    """They count against the limit of the user, above which init still starts a command, but that cannot fork."""
    asked = config(max_processes=20, memory_limit_mb=None)
    other = config(max_processes=600, memory_limit_mb=None)
    with Sandbox(asked) as first, Sandbox(other) as last, forking(last, 400):
        for _ in range(3):
            assert first.execute(["true"]).ok
        assert b"BlockingIOError" in first.execute(["python3", "-c", "import os; os.fork()"]).stderr


@pytest.mark.skipif(not IS_ROOT, reason="only root's leases have ids of their own")
def test_a_fork_bomb_beside_it_does_not_keep_a_start_out(abi: int) -> None:
    """The exec of a process that has taken an id above its limit fails (setuid(2)): there is room for four."""
    with Sandbox(config(max_processes=20)) as sandbox, forking(sandbox, 40):
        with sandbox.popen(["sleep", "60"]) as above:
            assert sandbox.popen(["true"]).wait(10) == 0
            assert sandbox.execute(["true"]).ok
            above.kill()


def test_shown_paths_can_be_read_or_written(abi: int, directory: Path) -> None:
    for name in ("ro", "rw"):
        (directory / name).mkdir()
        (directory / name / "file").write_text("of the host")
        (directory / name).chmod(0o777)
    with Sandbox(config(fs_readonly=(directory / "ro",), fs_readwrite=(directory / "rw",))) as lease:
        assert lease.execute(["cat", directory / "ro/file", directory / "rw/file"]).ok
        assert not lease.execute(["sh", "-c", f"echo x > {directory}/ro/new"]).ok
        assert lease.execute(["sh", "-c", f"echo x > {directory}/rw/new"]).ok
        assert not lease.execute(["ls", directory]).ok
