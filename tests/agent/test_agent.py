"""The launcher of macOS over a stand-in for `sandbox-exec`: births that fail, ends of every kind, and what is left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent import STAND_IN, AgentLauncher, stand_in
from eyes import alive, children
from waiting import Call, wait_until

from pysandpool import SandboxConfig, SandboxCreateError, SandboxLostError, SandboxPool, UnsupportedPlatformError
from pysandpool._backend.seatbelt import canonical

HOSTILE_TREE = """
mkdir -p deep && cd deep && i=0
while [ $i -lt 300 ]; do mkdir d && : > d/f && cd d && i=$((i+1)); done
cd "$HOME" && mkdir closed full && : > closed/f && ln -s "$1" link && ln -s "$1" closed/link && chmod 000 closed
i=0; while [ $i -lt 1500 ]; do : > full/$i; i=$((i+1)); done
mkfifo pipe
"""


@pytest.fixture
def pool() -> Iterator[SandboxPool]:
    before = children()
    launcher = AgentLauncher()
    with launcher.open(warm=1, max_size=2) as opened:
        yield opened
    launcher.close()
    # An orphan of a killed agent is this process's to reap, where it stands for launchd.
    wait_until(lambda: not any(alive(pid) for pid in children() - before), "nobody is left")


@pytest.mark.parametrize(
    ("body", "err", "words"),
    [
        ("echo 'sandbox-exec: sandbox_apply: Operation not permitted' >&2; exit 71", errno.EPERM, "sandbox_apply"),
        ("echo 'sandbox-exec: <input string>:3:1: syntax error' >&2; exit 65", errno.EPROTO, "syntax error"),
        ("exit 1", errno.EPROTO, "ended before it was ready"),
        ("kill -9 $$", errno.EPROTO, "ended before it was ready"),
        (f'shift; exec {STAND_IN} "$@"', errno.EPROTO, "8 words expected"),
    ],
)
def test_the_reason_of_a_failed_birth_is_reported(tmp_path: Path, body: str, err: int, words: str) -> None:
    before = children()
    launcher = AgentLauncher(stand_in=stand_in(tmp_path, body))
    with pytest.raises(SandboxCreateError, match=words) as caught:
        launcher.open(warm=1)
    assert (caught.value.stage, caught.value.errno) == ("seatbelt", err)
    launcher.close()
    wait_until(lambda: children() <= before, "the failed ones are reaped")


def test_each_lease_has_a_scratch_of_its_own_that_goes_with_it(pool: SandboxPool) -> None:
    with pool.acquire() as one, pool.acquire() as other:
        script = ["sh", "-c", "pwd; echo $HOME $TMPDIR; : > mark; ls"]
        env = {"HOME": None, "TMPDIR": None}
        first, second = (lease.execute(script, env=env).check().stdout.decode().split() for lease in (one, other))
    assert first[0] == first[1] == first[2] != second[0]
    assert first[3:] == second[3:] == ["mark"]
    wait_until(lambda: not Path(first[0]).exists() and not Path(second[0]).exists(), "both are gone")


def test_a_hostile_tree_is_removed_and_no_link_is_followed(pool: SandboxPool, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept", encoding="utf-8")
    with pool.acquire() as lease:
        lease.execute(["sh", "-c", HOSTILE_TREE, "sh", tmp_path], env={"HOME": None}).check()
        scratch = Path(lease.execute(["pwd"]).stdout.decode().strip())
    wait_until(lambda: not scratch.exists(), "the tree is gone")
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "kept"


def test_an_agent_starts_no_processes_beside_commands(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        with pytest.raises(UnsupportedPlatformError, match="can only execute commands; hint: use execute"):
            lease.popen(["true"])
        with pytest.raises(UnsupportedPlatformError, match=r"no file calls; hint: execute\(\) a command"):
            lease.read_file("/etc/localtime")
        assert lease.execute(["echo", "x"]).stdout == b"x\n"


def test_what_a_command_left_is_gone_when_its_end_is_reported(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        done = lease.execute(["sh", "-c", "(setsid sleep 600 & echo $!) ; sleep 600 >&- 2>&- & echo $!"]).check()
        assert not any(alive(int(pid)) for pid in done.stdout.split())


def test_a_timeout_ends_the_tree_and_the_lease_is_usable(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        done = lease.execute(["sh", "-c", "setsid sleep 600 & echo $!; sleep 600"], timeout=0.3)
        assert (done.timed_out, done.signal) == (True, signal.SIGKILL)
        assert not alive(int(done.stdout))
        assert lease.execute(["echo", "on"]).check().stdout == b"on\n"


def test_a_tenant_that_kills_its_agent_loses_its_own_sandbox(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        with pytest.raises(SandboxLostError):
            lease.execute(["sh", "-c", "kill -9 $PPID; exec sleep 600"])
    with pool.acquire() as lease:
        assert lease.execute(["echo", "on"]).check().stdout == b"on\n"


def test_an_agent_that_was_stopped_is_ended_from_outside(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        pid = lease.pid
        call = Call(lease.execute, ["sh", "-c", "kill -STOP $PPID; exec sleep 600"], timeout=0.2)
        call.result()
    wait_until(lambda: not alive(pid), "the agent is gone")


def test_what_a_killed_agent_left_is_ended(pool: SandboxPool) -> None:
    """A command is the agent's child and ends with it here; what has left it is looked for."""
    with pool.acquire() as lease:
        scratch = Path(lease.execute(["pwd"]).stdout.decode().strip())
        call = Call(lease.execute, ["sh", "-c", "(setsid sleep 600 & echo $! > stray); sleep 600"])
        wait_until(lambda: (scratch / "stray").exists() and (scratch / "stray").read_text().strip(), "it runs")
        stray = int((scratch / "stray").read_text())
        os.kill(lease.pid, signal.SIGKILL)
        with pytest.raises(SandboxLostError):
            call.result()
        wait_until(lambda: not alive(stray), "it is ended")
    wait_until(lambda: not scratch.exists(), "and its directory is gone")


def test_one_that_was_used_in_peace_has_no_strays_to_look_for(pool: SandboxPool) -> None:
    """The control: an agent that ends by itself has seen to it. Nobody else's process is touched."""
    with pool.acquire() as lease:
        scratch = Path(lease.execute(["pwd"]).stdout.decode().strip())
        outside = subprocess.Popen(["sleep", "600"], cwd="/")
        os.kill(lease.pid, signal.SIGKILL)
    wait_until(lambda: not scratch.exists(), "its directory is gone")
    assert outside.poll() is None
    outside.kill()
    outside.wait()


def test_the_stand_in_gets_a_profile_that_denies_by_default(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    launcher = AgentLauncher(
        SandboxConfig(fs_readonly=[tmp_path]),
        stand_in(tmp_path, f'printf \'%s\' "$6" > {seen}; exec {STAND_IN} "$@"'),
    )
    with launcher.open(warm=1):
        text = seen.read_text(encoding="utf-8")
    launcher.close()
    assert text.startswith("(version 1)\n(deny default)\n")
    assert f'(allow file-read* (subpath "{canonical(os.path.realpath(tmp_path))}"))' in text


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(SandboxCreateError, match="no-such-path") as caught:
        AgentLauncher(SandboxConfig(fs_readonly=["/no-such-path"]))
    assert (caught.value.stage, caught.value.errno) == ("bind", errno.ENOENT)
