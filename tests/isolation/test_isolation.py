"""The isolation report: it says what is so, and a birth that cannot prove what was asked for fails."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
from pathlib import Path

import pytest
from eyes_linux import children_of, command_name, zygote_of
from fake import FakeLauncher
from pools import OpenPool
from scripts import run_script
from waiting import wait_until

from pysandpool import (
    IsolationReport,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxLostError,
    SandboxReleasedError,
    SeccompProfile,
)
from pysandpool._pool import isolation as _isolation

NO_WORDS = ("landlock_abi", "seccomp_allow")
PARTS = [field.name for field in dataclasses.fields(IsolationReport) if field.name not in NO_WORDS]
OF_AGENTS = {"HOST_UNREAD", "HOST_UNWRITTEN", "HOST_UNSIGNALLED", "NO_CONNECTION", "NO_SET_ID"}
ALL = frozenset(_isolation._FACTS) - OF_AGENTS
KINDS = ["user", "pid", "mnt", "ipc", "uts", "cgroup", "net"]


def kernel_abi() -> int:
    """The Landlock ABI of this kernel, 7 at most; 0: none."""
    code = "import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))"
    return max(0, min(7, int(run_script(code).stdout)))


def words(report: IsolationReport, *names: str) -> list[str]:
    return [getattr(report, name) for name in names]


def test_what_holds_here(sandbox: PooledSandbox) -> None:
    report = sandbox.isolation
    assert words(report, "namespaces", "mounts", "seccomp", "no_new_privs", "network", "processes") == ["full"] * 6
    assert report.memory in ("full", "partial")
    assert report.cpu == "none", "no quota was asked for"
    assert report.landlock_abi == kernel_abi()
    assert report.landlock == ("full" if kernel_abi() >= 6 else "partial" if kernel_abi() else "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into an undumpable process")
def test_the_host_sees_the_same(sandbox: PooledSandbox) -> None:
    for kind in KINDS:
        assert os.readlink(f"/proc/{sandbox.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    root = Path(f"/proc/{sandbox.pid}/root")
    assert os.statvfs(root).f_flag & os.ST_RDONLY
    assert Path(root, "proc/self").is_symlink()


def test_ps_shows_what_each_process_is(sandbox: PooledSandbox) -> None:
    def shown(pid: int) -> tuple[str, str]:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
        return command_name(pid), words

    assert shown(sandbox.pid) == ("sandpool-init", "sandpool-init")
    assert shown(zygote_of(sandbox)) == ("sandpool-zygote", "sandpool-zygote")
    (standby,) = children_of(sandbox.pid)
    assert shown(standby) == ("sandpool-init", "sandpool-init")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SandboxConfig(network="loopback"), {"network": "full"}),
        (SandboxConfig(seccomp_profile=SeccompProfile.NETWORK), {"network": "full"}),
        (SandboxConfig(), {"network": "full", "unix_sockets": "partial"}),
        (SandboxConfig(allow_unix_sockets=True), {"network": "full", "unix_sockets": "partial"}),
        (SandboxConfig(allow_unix_sockets=False), {"network": "full", "unix_sockets": "full"}),
        (SandboxConfig(network="loopback"), {"network": "full", "unix_sockets": "partial"}),
        (SandboxConfig(fs_readonly=["/var/tmp"]), {"network": "full", "unix_sockets": "full"}),
        (SandboxConfig(deny_network=False, seccomp_profile=SeccompProfile.NETWORK), {"network": "none"}),
        (SandboxConfig(memory_limit_mb=None), {"memory": "none", "processes": "full"}),
        (SandboxConfig(memory_limit_mb=None, data_limit_mb=100), {"memory": "partial"}),
        (SandboxConfig(max_processes=None), {"processes": "none"}),
        (SandboxConfig(scratch_size_mb=None), {"mounts": "full"}),
        (SandboxConfig(allow_fork=False), {"seccomp": "full"}),
        (SandboxConfig(fs_readonly=["/etc/hostname"], fs_readwrite=[os.path.dirname(__file__)]), {"mounts": "full"}),
    ],
    ids=str,
)
def test_it_follows_the_configuration(config: SandboxConfig, expected: dict[str, str]) -> None:
    with Sandbox(config) as sandbox:
        assert {name: getattr(sandbox.isolation, name) for name in expected} == expected


def test_nothing_proved_is_none() -> None:
    report = _isolation.report(SandboxConfig(cpu_quota_us=1000), frozenset(), 7, 0)
    assert report == IsolationReport()
    assert words(report, *PARTS) == ["none"] * len(PARTS)
    with FakeLauncher() as fake, fake.open(warm=1) as pool, pool.acquire() as lease:
        assert lease.isolation == IsolationReport()


def test_each_fact_carries_a_part() -> None:
    """What is not proved takes a word away. The fixed limits have none, and their lack fails the birth all the same;
    RLIMIT_DATA has one only where no sum is measured."""
    full = _isolation.report(SandboxConfig(), ALL, 7, 0)
    either = {"NO_INET", "NO_LINK"}
    for fact in ALL - either:
        less = _isolation.report(SandboxConfig(), ALL - {fact}, 7, 0)
        assert (less == full) == (fact in ("LIMITS", "LIMIT_DATA")), fact
    assert _isolation.report(SandboxConfig(), ALL - either, 7, 0).network == "none"
    by_process = SandboxConfig(memory_limit_mb=None, data_limit_mb=100)
    without_proc = ALL - {"OWN_PROC", "MEMORY_WATCH"}
    for config, facts in ((by_process, ALL - {"MEMORY_WATCH"}), (SandboxConfig(), without_proc)):
        assert _isolation.report(config, facts, 7, 0).memory == "partial"
        assert _isolation.report(config, facts - {"LIMIT_DATA"}, 7, 0).memory == "none"


def test_limits_of_a_cgroup() -> None:
    config = SandboxConfig(cpu_quota_us=50_000)
    report = _isolation.report(config, frozenset(), 0, 7)
    assert words(report, "memory", "processes", "cpu") == ["full"] * 3
    unlimited = SandboxConfig(memory_limit_mb=None, max_processes=None)
    assert words(_isolation.report(unlimited, ALL, 0, 7), "memory", "processes", "cpu") == ["none"] * 3


def test_an_old_landlock_is_partial() -> None:
    reports = [_isolation.report(SandboxConfig(), ALL, abi, 0) for abi in range(8)]
    assert [report.landlock for report in reports] == ["none", *["partial"] * 5, "full", "full"]
    assert [report.landlock_abi for report in reports] == list(range(8))


def test_a_lease_that_is_over_has_none(real_pool: OpenPool) -> None:
    pool = real_pool()
    lease = pool.acquire()
    before = lease.isolation
    lease.release()
    with pytest.raises(SandboxReleasedError):
        _ = lease.isolation
    lease = pool.acquire()
    lease.execute(["/bin/true"])
    os.kill(lease.pid, signal.SIGKILL)
    with pytest.raises(SandboxLostError):
        lease.execute(["/bin/true"])
    with pytest.raises(SandboxLostError):
        _ = lease.isolation
    assert before.namespaces == "full"


def test_what_takes_a_dead_ones_place_brings_its_own(real_pool: OpenPool) -> None:
    with real_pool().acquire() as lease:
        first = lease.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{first}").exists(), "it is gone")
        lease.execute(["/bin/true"]).check()
        assert lease.pid != first
        assert lease.isolation.namespaces == "full"


# A kernel that says yes and does nothing: each of these calls succeeds without having any effect. (no_new_privs is not
# among them: without it the kernel refuses the filter.)
FAKED = {
    "landlock": [("landlock_restrict_self", 0)],
    "bounding set": [("prctl", 0, (0, 24))],
    "capabilities": [("capset", 0)],
    "read-only": [("mount_setattr", 0)],
    "filters": [("prctl", 0, (0, 22))],
    "network namespace": [("unshare", 0, (0, 0x40000000)), ("setns", 0)],
}
OPEN = """
import simulate, sys
from pysandpool import Sandbox, SandboxConfig, SandboxCreateError
simulate.become_ordinary()
for arguments in eval(sys.argv[1]):
    simulate.answer(*arguments)
try:
    with Sandbox(SandboxConfig()) as sandbox:
        print("works", sandbox.isolation.namespaces)
except SandboxCreateError as error:
    print(error.stage, error.errno, error.detail, sep="|")
"""


@pytest.mark.parametrize("what", FAKED)
def test_what_only_seems_to_have_happened_is_found_out(what: str) -> None:
    if what == "landlock" and not kernel_abi():
        pytest.skip("this kernel has no Landlock")
    control = run_script(OPEN, "[]")
    assert control.stdout == "works full\n", control.stderr
    done = run_script(OPEN, repr(FAKED[what]))
    stage, number, detail = done.stdout.strip().split("|")
    assert (stage, int(number)) == ("proof", errno.ENOTSUP), done.stdout + done.stderr
    assert detail
