"""Scratch directories of the launcher of macOS: made, swept after a killed host, and never another's."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent import AgentLauncher, program
from eyes import alive, children
from scripts import SUPPORT, run_script
from waiting import wait_until

from pysandpool import SandboxConfig, SandboxCreateError
from pysandpool._backend import macos as _macos

PREFIX = "pysandpool-"
# A host with one agent, which it has let leave a file; then it waits to be killed.
HOST = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from agent import AgentLauncher
launcher = AgentLauncher()
pool = launcher.open(warm=1)
lease = pool.acquire()
print(lease.execute(["sh", "-c", "pwd; mkdir d; : > d/f"]).check().stdout.decode().strip(), lease.pid, flush=True)
time.sleep(600)
"""

# The same, while a command runs that has left one behind.
BUSY_HOST = HOST.replace(
    "time.sleep(600)", 'lease.execute(["sh", "-c", "(setsid sleep 600 & echo $! > stray); sleep 600"])'
)


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is the temporary directory here, open to everybody."""
    program()  # it is not to be made in there
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(shared))
    return shared


class Host:
    """A host process of its own, and where its sandbox's scratch directory is."""

    def __init__(self, parent: Path, code: str = HOST) -> None:
        command = [sys.executable, "-c", code, os.fspath(parent)]
        self.process = subprocess.Popen(command, cwd=SUPPORT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        scratch, pid = self.process.stdout.readline().split()
        self.scratch, self.agent = Path(scratch), int(pid)

    def kill(self) -> None:
        """And wait until its agent has ended."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        wait_until(lambda: not alive(self.agent), "the agent has ended")


@pytest.fixture
def host(parent: Path) -> Iterator[Host]:
    one = Host(parent)
    yield one
    one.kill()


def start_another() -> None:
    """What begins with a sweep."""
    launcher = AgentLauncher()
    with launcher.open(warm=1):
        pass
    launcher.close()


def test_what_a_killed_host_left_is_swept(parent: Path, host: Host) -> None:
    host.kill()
    assert (host.scratch / "d" / "f").exists(), "nobody has removed it"
    start_another()
    assert list(parent.iterdir()) == []


def test_what_its_tenants_left_running_is_ended(parent: Path) -> None:
    """Their agent cannot see to it: it was stopped when the host died, and killed then."""
    host = Host(parent, BUSY_HOST)
    told = host.scratch / "stray"
    wait_until(lambda: told.exists() and told.read_text(), "it runs")
    stray = int(told.read_text())
    os.kill(host.agent, signal.SIGSTOP)
    host.process.kill()
    os.kill(host.agent, signal.SIGKILL)
    host.kill()
    assert alive(stray)
    start_another()
    wait_until(lambda: not alive(stray), "it is ended")
    wait_until(lambda: not list(parent.iterdir()) or start_another() or False, "its directory is gone")


def test_a_live_host_keeps_its_own(parent: Path, host: Host) -> None:
    start_another()
    assert (host.scratch / "d" / "f").exists()
    assert list(parent.iterdir()) == [host.scratch.parent]


def test_hosts_that_start_at_once_leave_each_others(parent: Path) -> None:
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from agent import AgentLauncher\n"
        "for _ in range(200):\n    AgentLauncher().close()\n"
        "launcher = AgentLauncher()\nlauncher.open(warm=1).close()\nlauncher.close()"
    )
    hosts = [subprocess.Popen([sys.executable, "-c", code, os.fspath(parent)], cwd=SUPPORT) for _ in range(3)]
    assert [one.wait() for one in hosts] == [0, 0, 0]
    assert list(parent.iterdir()) == []


def test_a_link_in_a_shared_directory_leads_nowhere(parent: Path, tmp_path: Path) -> None:
    """To a directory that looks like a dead host's, and from inside of one that is."""
    precious = tmp_path / "precious"
    (precious / "s1").mkdir(parents=True)
    (precious / "s1" / "kept").touch()
    (parent / f"{PREFIX}planted").symlink_to(precious)
    dead = parent / f"{PREFIX}dead"
    (dead / "s1").mkdir(parents=True)
    (dead / "s2").symlink_to(precious)
    (dead / "s1" / "up").symlink_to(precious / "s1")
    start_another()
    assert (precious / "s1" / "kept").exists()
    assert [path.name for path in parent.iterdir()] == [f"{PREFIX}planted"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is somebody else's")
def test_what_is_somebody_elses_is_left(parent: Path) -> None:
    other = parent / f"{PREFIX}other"
    (other / "s1").mkdir(parents=True)
    os.chown(other, 12345, 12345)
    start_another()
    assert (other / "s1").exists()


def test_a_child_of_a_host_that_lives_on_keeps_the_directory(parent: Path) -> None:
    """It holds the same lock; without that, what it might still use would go. It goes with the child."""
    code = (
        "import os, signal, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from agent import AgentLauncher\nlauncher = AgentLauncher()\n"
        "if os.fork() == 0:\n    os.close(1); os.close(2); signal.pause()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    before = children()
    assert run_script(code, os.fspath(parent)).returncode == -signal.SIGKILL
    [child] = children() - before
    start_another()
    assert len(list(parent.iterdir())) == 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    start_another()
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize(("name", "err"), [("gone", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_no_place_for_them_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, err: int) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / name))
    with pytest.raises(SandboxCreateError) as caught:
        AgentLauncher()
    assert (caught.value.stage, caught.value.errno) == ("scratch", err)
    assert os.fspath(tmp_path / name) in str(caught.value)


def test_a_shown_directory_does_not_show_the_scratch_of_others(parent: Path) -> None:
    """Whatever the configuration opens, the directory of all scratch directories is closed behind it."""
    text = _macos.seatbelt_profile(SandboxConfig(fs_readwrite=[parent]), "/agent")
    closed = text.index('(deny file-read* file-write* (subpath (param "ROOT")))')
    assert text.index(os.fspath(parent)) < closed
    assert closed < text.index('(allow file-read* file-write* (subpath (param "SCRATCH")))')
