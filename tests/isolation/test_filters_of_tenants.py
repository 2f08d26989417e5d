"""Filters that a tenant installs: ordinary ones work, and there is a bound on all of one task."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import simulate
from scripts import run_script
from strace import needs_strace

from pysandpool import Sandbox, SandboxConfig
from pysandpool._backend import machine as _machine

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp is Linux's"),
    # A zygote that is started while any process of the machine listens to the kernel's audit allows its tenants no
    # filters. Some of these tests listen, and the others, like the attack filter-log, must not meet a listener.
    pytest.mark.alone,
]

# Installs filters of the given numbers of instructions that vary with their call, and prints 0 or the error of each.
INSTALL = f"""
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def install(n, flags=0, end=0x7fff0000):
    insns = [(0x20, 0, 0, 0)] * (n - 1) + [(0x06, 0, 0, end)]  # load the number of the call; allow
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in insns))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", n, ctypes.addressof(code)))
    result = libc.syscall({simulate.number_of("seccomp") if sys.platform == "linux" else 0}, 1, flags, program)
    return 0 if result != -1 else ctypes.get_errno()
"""
COUNT = """
large = install(1500)
small = 0
while install(1) == 0:
    small += 1
print(large, small, install(1))
"""
FLAGS = "print(*(install(2, flags) for flags in (0, 1, 4, 2, 8, 0x28, 1 << 31)))"


def installed(*statements: str, config: SandboxConfig | None = None) -> list[str]:
    with Sandbox(config) as sandbox:
        result = sandbox.execute(["python3", "-c", INSTALL + "\n".join(statements)]).check()
    return result.stdout.decode().split()


def test_a_large_filter_fits_and_all_have_a_bound() -> None:
    large, small, error = map(int, installed(COUNT))
    assert large == 0
    assert 100 < small < 300, "a filter of one instruction counts nine"
    assert error == errno.ENOMEM


UNDER_OTHERS = """
import sys
import simulate
sys.path.append(sys.argv[2])
from test_filters_of_tenants import COUNT, installed
for _ in range(int(sys.argv[1])):
    simulate.answer("swapon", 1)
print(*installed(COUNT))
"""


@pytest.mark.parametrize("times", ["1", "400"])
def test_the_same_under_filters_of_a_container(times: str) -> None:
    """Whatever has been used up before: what is left for a tenant is the same."""
    done = run_script(UNDER_OTHERS, times, os.fspath(Path(__file__).parent))
    assert done.returncode == 0, done.stderr
    large, small, error = map(int, done.stdout.split())
    assert (large, error) == (0, errno.ENOMEM)
    assert 100 < small < 300


ROOM_UNKNOWN = """
import os, sys
from pathlib import Path
import simulate
from strace import Tracer
from pysandpool import Sandbox, SandboxCreateError
from pysandpool._backend import linux
simulate.answer("swapon", 1)
tracer = Tracer(Path(sys.argv[1]))
tracer.refuse(f"wait4:error=ECHILD:when={sys.argv[2]}")
linux.zygote_path = lambda: os.fspath(tracer.program)
try:
    Sandbox()
except SandboxCreateError as error:
    print(error.stage, error.errno, tracer.refused())
"""


@needs_strace
def test_room_that_cannot_be_found_out_is_reported(tmp_path: Path) -> None:
    # The zygote waits for other children before this one, and signals interrupt these waits: its number varies.
    wanted = ["seccomp", str(errno.ECHILD), "True"]
    numbers = [*range(1, 13)] * 8
    assert any(run_script(ROOM_UNKNOWN, str(tmp_path), str(nth)).stdout.split() == wanted for nth in numbers)


def test_no_listener_and_no_log() -> None:
    """Neither may be asked for: EINVAL, as a kernel answers that does not know the flag."""
    assert installed(FLAGS) == ["0"] * 3 + [str(errno.EINVAL)] * 4


def test_the_way_back() -> None:
    allowed = SandboxConfig(seccomp_allow=("seccomp",))
    # A listener's descriptor is no error, and what it cannot be had with is one of the kernel's own.
    assert installed("print(install(2, 2), install(2, 8), install(2, 0x28))", config=allowed) == ["0", "0", "16"]


@pytest.fixture
def listener() -> Iterator[None]:
    """As an audit daemon has one. Whoever is not root is given no records by it, but is seen all the same."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:
        audit.bind((0, 0))
        yield


EITHER_WAY = """
print(install(2), install(2, 1), end=" ")
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)))
print(0 if libc.prctl(22, 2, program, 0, 0) == 0 else ctypes.get_errno())
"""


@pytest.mark.parametrize("allow_fork", [True, False])
def test_no_filters_where_an_audit_daemon_listens(listener: None, allow_fork: bool) -> None:
    """Whether by seccomp(2) or by prctl(2): EINVAL, as a kernel without filters answers."""
    assert _machine.audit_listener() is True
    # It is looked for when a zygote is started: not one of a test before this one.
    refused = SandboxConfig(allow_fork=allow_fork, env_vars={"FOR": "audit"})
    assert installed(EITHER_WAY, config=refused) == [str(errno.EINVAL)] * 3
    allowed = dataclasses.replace(refused, seccomp_allow=("seccomp",))
    assert installed(EITHER_WAY, config=allowed) == ["0"] * 3


TABLE = "sk Eth Pid Groups\n0 9 0 00000000\n0 16 77 00000000\n"


@pytest.mark.parametrize(
    ("actions", "table", "in_host", "found"),
    [
        ("kill_process log", TABLE, True, False),
        ("kill_process log", TABLE, False, None),
        ("kill_process log", TABLE + "0 9 412 00000001\n", True, True),
        ("kill_process log", TABLE + "0 9 412 00000001\n", False, True),
        ("kill_process errno", TABLE + "0 9 412 00000001\n", True, False),
        ("kill_process log", "", True, False),
        ("", TABLE + "0 9 412 00000001\n", True, False),
    ],
)
def test_who_listens(
    monkeypatch: pytest.MonkeyPatch, actions: str, table: str, in_host: bool, found: bool | None
) -> None:
    texts = {"/proc/sys/kernel/seccomp/actions_logged": actions, "/proc/net/netlink": table}
    monkeypatch.setattr(_machine, "_read", lambda path: texts[str(path)])
    monkeypatch.setattr(Path, "exists", lambda self: in_host)
    assert _machine.audit_listener() is found
