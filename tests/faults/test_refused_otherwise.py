"""Calls of zygote, init and command, refused with another error than ENOMEM or granted against a filter.

test_refused_calls.py refuses all of a kind in their order; here is what has an answer of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eyes import children, open_fds
from strace import Tracer, needs_root, needs_strace, nothing_is_left, refused_to, trace_injected
from waiting import wait_until

from pysandpool import (
    PoolConfig,
    SandboxConfig,
    SandboxCreateError,
    SandboxError,
    SandboxPool,
    SeccompProfile,
)
from pysandpool._backend import cgroup as _cgroup

pytestmark = [needs_strace, pytest.mark.namespaces("the calls that make them")]


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    path = tempfile.mkdtemp(dir="/var/tmp")
    os.chmod(path, 0o755)
    for name in ("proc", "tmp", "dev", "usr"):
        os.mkdir(os.path.join(path, name))
    yield path
    shutil.rmtree(path)


def config_of(kind: str, folder: str) -> SandboxConfig:
    fields: dict[str, dict[str, Any]] = {
        "plain": {},
        "bind": {"fs_readonly": [folder]},
        "rootfs": {"rootfs": folder},
        "loopback": {"network": "loopback"},
        "host": {"deny_network": False, "seccomp_profile": SeccompProfile.NETWORK},
    }
    return SandboxConfig(**fields[kind])


@pytest.fixture
def cgroup_mount() -> Path:
    found = _cgroup._own_cgroup()
    if found is None or not _cgroup._usable(found[1], set()):
        pytest.skip("no cgroup v2 that may be written")
    return found[1]


def open_one(config: SandboxConfig) -> SandboxCreateError | None:
    try:
        with SandboxPool(config, PoolConfig(min_size=1)):
            return None
    except SandboxCreateError as error:
        return error


# --- of zygote and init ----------------------------------------------------------------------------------

TOLD = {
    "a map that is written in part": ("plain", ("id_map", "EIO", "id maps of the zygote"), ["write:retval=1:when=1"]),
    "a file that cannot be read": (
        "plain",
        ("root_template", "EIO", "/etc/ld.so.cache"),
        ["sendfile:error=EIO:when=1"],
    ),
    "a bind of no known file system": ("bind", ("bind", "ENOMEM", None), ["fstatfs:error=ENOMEM"]),
    "a rootfs that is no more": ("rootfs", ("rootfs", "EIO", None), ["newfstatat:error=EIO", "fstat:error=EIO"]),
    "a rootfs that nobody may enter": ("rootfs", ("rootfs", "EACCES", None), ["faccessat2:error=EACCES"]),
    "a rootfs that nobody may clone": ("rootfs", ("rootfs", "EPERM", None), ["open_tree:error=EPERM"]),
    "no /dev for a rootfs": ("rootfs", ("dev", "ENOSPC", "tmpfs of /dev"), ["mount:error=ENOSPC:when=4"]),
    "no socket to raise lo with": ("loopback", ("network_namespace", "ENOMEM", ""), ["socket:error=ENOMEM"]),
    "a limit that stays as it is": ("plain", ("limits", "EPERM", "RLIMIT_STACK"), ["prlimit64:error=EPERM:when=2+"]),
    "lo not raised": ("loopback", ("network_namespace", "ENOMEM", ""), ["ioctl:error=ENOMEM"]),
}

# What a sandbox has to prove of itself, and something between it and the kernel has answered without doing it.
NOT_PROVED = {
    "a template's filter that lets through": ("plain", "system call", ["keyctl:retval=0", "perf_event_open:retval=0"]),
    "another answer than its own": ("plain", "system call", ["keyctl:error=ENOSYS", "perf_event_open:error=ENOSYS"]),
    "an init's filter that lets through": ("host", "system call", ["setns:retval=0", "unshare:retval=0"]),
    "another answer than init's": ("host", "system call", ["setns:error=ENOSYS", "unshare:error=ENOSYS"]),
    "no answer about sockets": ("plain", "create an inet socket", ["socket:error=ENOMEM"]),
    "no answer about lo": ("loopback", "no network interface but lo", ["ioctl:error=ENOMEM:when=2"]),
    "a root that can be written": ("plain", "a root that cannot be written", ["openat:retval=1000"]),
}

# A gid map that groups may stay with, one filter or one call of two that says no: nothing is lost by it.
WITHOUT = {
    "setgroups forbidden": ("plain", ["setgroups:error=EPERM"]),
    "keyctl unknown": ("plain", ["keyctl:error=ENOSYS"]),
    "sethostname forbidden": ("plain", ["sethostname:error=EPERM"]),
    "sethostname forbidden by a module": ("plain", ["sethostname:error=EACCES"]),
    "sethostname unknown": ("plain", ["sethostname:error=ENOSYS"]),
    "setns unknown to init": ("host", ["setns:error=ENOSYS"]),
    "a netns that cannot be entered again": ("plain", ["setns:error=ENOMEM"]),
}


# The path is read from an init that is not dumpable; and where the host is no root, nobody sets groups.
OF_ROOT = {"a root that can be written", "setgroups forbidden"}


def cases(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(case, marks=needs_root if case in OF_ROOT else ()) for case in table]


def opened(tracer: Tracer, config: SandboxConfig, refusals: list[str], path: str = "") -> SandboxCreateError | None:
    before, fds = children(), open_fds()
    tracer.refuse(*refusals, path=path)
    error = open_one(config)
    nothing_is_left(before, fds)
    assert tracer.refused(), "control: the call is made"
    return error


@pytest.mark.parametrize("case", TOLD)
def test_it_is_reported(case: str, tracer: Tracer, folder: str) -> None:
    kind, (stage, name, detail), refusals = TOLD[case]
    error = opened(tracer, config_of(kind, folder), refusals)
    assert error is not None
    assert (error.stage, error.errno, error.detail) == (
        stage,
        getattr(errno, name),
        folder if detail is None else detail,
    )


@pytest.mark.parametrize("case", cases(NOT_PROVED))
def test_it_is_not_believed(case: str, tracer: Tracer, folder: str) -> None:
    kind, what, refusals = NOT_PROVED[case]
    error = opened(tracer, config_of(kind, folder), refusals, "/written" if "openat" in refusals[0] else "")
    assert error is not None
    assert (error.stage, error.errno) == ("proof", errno.ENOTSUP)
    assert what in error.detail


@pytest.mark.parametrize("case", cases(WITHOUT))
def test_nothing_is_lost_by_it(case: str, tracer: Tracer, folder: str) -> None:
    kind, refusals = WITHOUT[case]
    assert opened(tracer, config_of(kind, folder), refusals) is None


@pytest.mark.parametrize(
    ("err", "stage"), [(errno.EACCES, "cgroup"), (errno.ENOSYS, "cgroup"), (errno.ENOMEM, "clone")]
)
def test_a_birth_in_a_cgroup(err: int, stage: str, tracer: Tracer, cgroup_mount: Path) -> None:
    config = SandboxConfig(memory_limit_mb=None, max_processes=None, cgroup_parent=cgroup_mount)
    error = opened(tracer, config, [f"clone3:error={errno.errorcode[err]}"])
    assert error is not None
    assert (error.stage, error.errno) == (stage, err)
    assert not list(cgroup_mount.glob(f"pysandpool-{os.getpid()}-*"))


def test_a_directory_on_a_read_only_mount(tracer: Tracer, folder: str) -> None:
    """EROFS comes before EEXIST there: what counts is whether the mount that is to lie on it finds it."""
    missed = set()
    for number in range(1, 40):
        tracer.refuse(f"mkdir:error=EROFS:when={number}")
        error = open_one(config_of("bind", folder))
        if not tracer.refused():
            break
        if error is not None:
            assert error.errno in {errno.EROFS, errno.ENOENT}, error
        missed.add(error.errno if error is not None else None)
    assert missed == {errno.EROFS, errno.ENOENT, None}


# --- without strace: what the host itself is like --------------------------------------------------------

WITHOUT_ADMIN = """
import sys
from pysandpool import *
for fields in {"fs_readonly": [sys.argv[1]]}, {"rootfs": sys.argv[1]}:
    with Sandbox(SandboxConfig(**fields)) as sandbox:
        print(sandbox.isolation.mounts)
"""


@needs_root
def test_a_containers_root_shows_what_nobody_may_see(folder: str) -> None:
    """root without CAP_SYS_ADMIN clones no mount of the host's; the zygote, in its user namespace, does."""
    without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*without, sys.executable, "-c", WITHOUT_ADMIN, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["full", "full"], "")


PROC_ELSEWHERE = """
import subprocess, sys
from pysandpool import *
for kind in "proc", "sysfs":
    subprocess.run(["mount", "-t", kind, "none", sys.argv[1]], check=True)
    try:
        Sandbox(SandboxConfig(fs_readonly=[sys.argv[1]]))
    except SandboxCreateError as error:
        print(error.stage, error.errno)
"""


@needs_root
def test_what_describes_the_host_is_shown_under_no_name(folder: str) -> None:
    """In a mount namespace of the test's own, so that nothing has to be unmounted."""
    command = ["unshare", "--mount", sys.executable, "-c", PROC_ELSEWHERE, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == ([f"bind {errno.EINVAL}"] * 2, "")


def test_a_file_is_no_rootfs(folder: str, tmp_path: Path) -> None:
    file = Path(folder) / "file"
    file.write_text("")
    error = open_one(SandboxConfig(rootfs=file))
    assert error is not None
    assert (error.stage, error.errno) == ("rootfs", errno.ENOTDIR)


# --- of a command, before it is one ----------------------------------------------------------------------

OF_COMMAND = {
    "limits": ("spawn", errno.EPERM, "prlimit64:error=EPERM"),
    "session": ("spawn", errno.EPERM, "setsid:error=EPERM"),
    "filter": ("seccomp", errno.ENOMEM, "prctl:error=ENOMEM"),
    "exec": ("exec", errno.ENOMEM, "execve:error=ENOMEM"),
}


def standby_of(init: int) -> int:
    """The process that will be the next command."""
    path = Path(f"/proc/{init}/task/{init}/children")
    wait_until(path.read_text, "a standby")
    return int(path.read_text())


@needs_root
@pytest.mark.parametrize("case", OF_COMMAND)
def test_a_command_that_does_not_start_says_why(case: str, tmp_path: Path) -> None:
    stage, err, refusal = OF_COMMAND[case]
    with SandboxPool(SandboxConfig(allow_fork=False), PoolConfig(min_size=1)) as pool, pool.acquire() as sandbox:
        log = tmp_path / "log"
        with refused_to(standby_of(sandbox.pid), log, refusal), pytest.raises(SandboxError) as raised:
            sandbox.execute(["true"])
        assert trace_injected(log)
        assert (raised.value.stage, raised.value.errno) == (stage, err)
        assert sandbox.execute(["/bin/echo", "usable"]).stdout == b"usable\n"
