"""Attacks that take more than one process: each gives the verdict of its control and that of the sandbox."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from file_calls import FILE_CALLS
from stage import MARK, Stage, verdict_of

from pysandpool import (
    PoolConfig,
    Sandbox,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
    SeccompProfile,
)

Verdicts = tuple[str, str]
# x86_64, elsewhere the generic numbers
_ADD_KEY, _KEYCTL = (248, 250) if platform.machine() == "x86_64" else (217, 219)
_KEYCTL_JOIN_SESSION_KEYRING, _SESSION_KEYRING = 1, -3


def _judge(reached: bool, what: str) -> str:
    return f"{'REACHED' if reached else 'HELD'} {what}"


def other_sandbox(stage: Stage) -> Verdicts:
    control = stage.run_control("bare", "process", ("exists", "{target}"))
    with stage.pool().acquire() as mine, stage.pool().acquire() as other:
        result = mine.execute([stage.programs / "process", "exists", str(other.pid)])
    return control, verdict_of(result.stdout, result.exit_code or 0)


def _grows(path: Path, seconds: float) -> str:
    before = path.stat().st_size
    until = time.monotonic() + seconds
    while path.stat().st_size == before and time.monotonic() < until:
        time.sleep(0.02)
    return _judge(path.stat().st_size > before, "a daemon writes on")


def daemon_outlives(stage: Stage) -> Verdicts:
    outside, inside = stage.rw / "daemon-outside", stage.rw / "daemon-inside"
    subprocess.run([stage.programs / "process", "daemon", outside], check=True)
    control = _grows(outside, 10)  # a busy machine may not let it run for a while
    with stage.pool().acquire() as sandbox:
        sandbox.execute([stage.programs / "process", "daemon", inside]).check()
        return control, _grows(inside, 0.2) if inside.exists() else "ERROR it never started"


def starting(stage: Stage, what: str) -> Verdicts:
    """A process that lives while others are started, and wants something of them before they have execed."""
    program = str(stage.programs / "neighbour")
    with subprocess.Popen([program, "starter"], start_new_session=True) as starter:
        try:
            control = stage.run_control("bare", "neighbour", (what, str(starter.pid)))
        finally:
            starter.kill()
    with stage.pool().acquire() as sandbox:
        hostile = sandbox.popen([program, what, stage.inside(sandbox)["target"]], stdout=subprocess.PIPE)
        while hostile.poll() is None:
            sandbox.execute(["true"]).check()
            sandbox.popen(["true"]).wait()
        out, _ = hostile.communicate()
        unseen = stage.tier == "landlock" and b"no process was met" in out
        return control, "HELD it sees no process" if unseen else verdict_of(out, hostile.returncode or 0)


def passed_file(stage: Stage, probe: str) -> Verdicts:
    """A file that the host's user has opened for reading, and that anybody may write, is the standard input of a
    process in a sandbox with no writable path."""
    command = [str(stage.programs / "neighbour"), probe]
    verdicts = []
    with stage.pool(fs_readwrite=()).acquire() as sandbox:
        for start in (subprocess.Popen, sandbox.popen):
            path = stage.outside / f"passed-{len(verdicts)}"
            path.write_text("of the host")
            path.chmod(0o666)
            with path.open("rb") as file, start(command, stdin=file, stdout=subprocess.PIPE) as process:
                out, _ = process.communicate()
            verdicts.append(verdict_of(out, process.returncode or 0))
            path.unlink()
    return verdicts[0], verdicts[1]


def trace_me(stage: Stage) -> Verdicts:
    command = str(stage.programs / "process")
    pid = os.posix_spawn(command, [command, "trace-me"], {})
    _, status = os.waitpid(pid, 0)
    control = _judge(os.WIFSTOPPED(status), "a wait() for its end hears of a stop")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with stage.pool().acquire() as sandbox:
        try:
            result = sandbox.execute([command, "trace-me"], timeout=1)
        except SandboxLostError as error:
            return control, _judge(True, str(error))
        return control, _judge(False, repr(result))


def output_flood(stage: Stage) -> Verdicts:
    """40 writers that end by themselves after 2 s, against a reader that goes on as long as there is something."""
    command = [str(stage.programs / "hoard"), "flood", "40", "2"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        while time.monotonic() < started + 1 and process.stdout.read(1 << 16):
            pass
        os.killpg(process.pid, signal.SIGKILL)
    control = _judge(time.monotonic() - started >= 1, "the reader never came to an end")
    with stage.pool().acquire() as sandbox:
        result = sandbox.execute(command, timeout=0.3)
    return control, _judge(result.elapsed > 1.2, f"a timeout of 0.3 s came after {result.elapsed:.1f} s")


def queued_signals_of_others(stage: Stage) -> Verdicts:
    """Two tenants of one pool: the first fills the queue, the second shall be killed at its timeout."""
    control = stage.run_control("bare", "hoard", ("signals", "8192"))
    with stage.pool().acquire() as first, stage.pool().acquire() as second:
        command = [stage.programs / "hoard", "fill-signals"]
        thread = threading.Thread(target=first.execute, args=(command,), kwargs={"timeout": 1.5})
        thread.start()
        time.sleep(0.3)
        result = second.execute(["sleep", "20"], timeout=0.3)
        thread.join()
    return control, _judge(result.elapsed > 1, f"a timeout of 0.3 s came after {result.elapsed:.1f} s")


_TARGET = """\
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
time.sleep(0.6)
senders = []
while (info := signal.sigtimedwait([signal.SIGUSR1], 0)) is not None and len(senders) < 2:
    senders.append(info.si_pid)
print(os.getppid() in senders)
"""


def _is_drowned(stage: Stage) -> bool:
    """Whether a process that has SIGUSR1 blocked misses its parent's while others send it, too."""
    target = subprocess.Popen(
        ["/usr/bin/python3", "-c", _TARGET], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert target.stdout is not None
    target.stdout.readline()
    flood = subprocess.Popen([stage.programs / "process", "drown-signals", str(target.pid)], start_new_session=True)
    time.sleep(0.3)
    target.send_signal(signal.SIGUSR1)
    heard = target.communicate()[0].strip() == "True"
    os.killpg(flood.pid, signal.SIGKILL)
    flood.wait()
    return not heard


def kill_among_forged(stage: Stage) -> Verdicts:
    """A timeout kills while the tenant sends init the same signal without pause, and the lease goes on."""
    control = _judge(_is_drowned(stage), "a signal among forged ones is lost")
    with stage.pool().acquire() as sandbox:
        result = sandbox.execute(
            [stage.programs / "process", "drown-signals", stage.inside(sandbox)["target"]], timeout=0.3
        )
        lost = ""
        try:
            sandbox.execute(["true"]).check()
        except SandboxLostError as error:
            lost = str(error)
    late = result.elapsed > 1
    return control, _judge(late or lost != "", f"a timeout of 0.3 s came after {result.elapsed:.1f} s; {lost}")


def filter_log(stage: Stage) -> Verdicts:
    """With a socket as an audit daemon has one."""
    control = stage.run_control("bare", "filters", ("log",))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:
        audit.bind((0, 0))
        return control, stage.run_inside("filters", ("log",), env_vars={"FOR": "audit"})


def host_keys(stage: Stage) -> Verdicts:
    """Of a zygote that is started by a process with a key in its session keyring."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None)
    libc.syscall(_ADD_KEY, b"user", MARK.encode(), b"secret", 6, _SESSION_KEYRING)
    control = _judge(MARK in Path("/proc/keys").read_text(), "named in /proc/keys")
    with Sandbox(stage.config(env_vars={"FOR": "keys"})) as sandbox:
        result = sandbox.execute(["cat", "/proc/keys"])
    return control, _judge(MARK.encode() in result.stdout, "named in /proc/keys")


def _written(path: Path, text: str) -> str:
    return _judge(path.read_text() == text, f"{path.name} changed")


def readonly_below_readwrite(stage: Stage) -> Verdicts:
    part = stage.rw / "part"
    part.mkdir(mode=0o777)
    part.chmod(0o777)
    file = part / "kept"
    file.write_text("control")
    file.chmod(0o666)
    control = _written(file, "control")
    config = stage.config(fs_readwrite=(stage.rw,), fs_readonly=(part,))
    try:
        with Sandbox(config) as sandbox:
            sandbox.execute(["sh", "-c", f"printf tenant > {file}"])
    except SandboxCreateError as error:
        return control, _judge(False, str(error))
    return control, _written(file, "tenant")


def bind_swapped_for_symlink(stage: Stage) -> Verdicts:
    """A tenant replaces what a later configuration binds; /etc/hosts is a file that no sandbox without network has."""
    hosts = Path("/etc/hosts").read_bytes()
    part = stage.rw / "swapped"
    part.mkdir(mode=0o777)
    part.chmod(0o777)
    up = "../" * len(stage.rw.parts[1:])
    with stage.pool().acquire() as sandbox:
        sandbox.execute(["sh", "-c", f"cd {stage.rw} && mv swapped moved && ln -s {up}etc swapped"]).check()
    control = _judge((part / "hosts").read_bytes() == hosts, "the host follows the link")
    try:
        with Sandbox(stage.config(fs_readwrite=(stage.rw, part))) as sandbox:
            result = sandbox.execute(["cat", "/etc/hosts", part / "hosts"])
    except SandboxCreateError as error:
        return control, _judge(False, str(error))
    finally:
        part.unlink()
    return control, _judge(hosts in result.stdout, "the host's /etc")


def left(stage: Stage, channel: str) -> Verdicts:
    """The control is the same lease: there it may stay, so that the next lease's silence means something."""
    program = stage.programs / "leave"

    with SandboxPool(stage.config(), PoolConfig(min_size=1, max_size=1)) as pool:
        with pool.acquire() as sandbox:
            sandbox.execute([program, "leave", channel]).check()
            control = verdict_of(sandbox.execute([program, "find", channel]).stdout, 0)
        with pool.acquire() as sandbox:
            return control, verdict_of(sandbox.execute([program, "find", channel]).stdout, 0)


def sockets_of_the_last(stage: Stage, kind: str = "sockets", **fields: Any) -> Verdicts:
    """Several leases at once after each release: one of them may be where the former tenant was, a moment later."""
    leave = [stage.programs / "leave", "leave", kind]
    find = [stage.programs / "leave", "find", kind]
    control, found = "HELD never", False
    with stage.refusals():
        opened = SandboxPool(stage.config(**fields), PoolConfig(min_size=1, max_size=1))
    with opened as pool:
        for _ in range(40):
            with pool.acquire() as sandbox:
                sandbox.execute(leave).check()
                verdict = verdict_of(sandbox.execute(find).stdout, 0)
                control = verdict if verdict.startswith("REACHED ") else control
            leases = [pool.acquire() for _ in range(4)]
            found = found or any(b"REACHED" in sandbox.execute(find).stdout for sandbox in leases)
            for sandbox in leases:
                sandbox.release()
            pool.settle(5)
    return control, _judge(found, "sockets of a former tenant")


def listeners_of_the_last(stage: Stage) -> Verdicts:
    return sockets_of_the_last(stage, "listeners", allow_unix_sockets=True)


def _knock(stage: Stage, address: str, **fields: Any) -> Verdicts:
    """The address of a unix socket, from a sandbox to which nothing but `fields` is shown; the probe is copied in."""
    control = stage.run_control("bare", "network", ("unix", address))
    with stage.refusals():
        lease = Sandbox(stage.bare_config(**fields))
    with lease as sandbox:
        sandbox.write_file("probe", (stage.programs / "network").read_bytes(), mode=0o755)
        result = sandbox.execute(["./probe", "unix", address])
    return control, verdict_of(result.stdout, result.exit_code or 0)


def abstract_socket_by_default(stage: Stage) -> Verdicts:
    return _knock(stage, stage.values["abstract"])


def abstract_socket_of_host_network(stage: Stage) -> Verdicts:
    return _knock(
        stage, stage.values["abstract"], deny_network=False, seccomp_profile=SeccompProfile.NETWORK, network="host"
    )


def socket_file_by_default(stage: Stage) -> Verdicts:
    return _knock(stage, str(stage.ro / "stream"))


def socket_file_bound_alone(stage: Stage) -> Verdicts:
    return _knock(stage, str(stage.ro / "stream"), fs_readwrite=(stage.ro / "stream",))


SCENARIOS: dict[str, Callable[..., Verdicts]] = {
    "other-sandbox": other_sandbox,
    "daemon-outlives": daemon_outlives,
    "trace-me": trace_me,
    "output-flood": output_flood,
    "queued-signals-of-others": queued_signals_of_others,
    "kill-among-forged": kill_among_forged,
    "filter-log": filter_log,
    "host-keys": host_keys,
    "sockets-of-the-last": sockets_of_the_last,
    "listeners-of-the-last": listeners_of_the_last,
    "abstract-socket-by-default": abstract_socket_by_default,
    "abstract-socket-of-host-network": abstract_socket_of_host_network,
    "socket-file-by-default": socket_file_by_default,
    "socket-file-bound-alone": socket_file_bound_alone,
    "readonly-below-readwrite": readonly_below_readwrite,
    "bind-swapped-for-symlink": bind_swapped_for_symlink,
    **FILE_CALLS,
}
