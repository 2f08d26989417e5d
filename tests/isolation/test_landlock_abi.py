"""PYSANDPOOL_LANDLOCK_ABI: the paths of older kernels run, and the report follows what a tenant can then do."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from test_isolation import kernel_abi

from pysandpool import SandboxConfig, SandboxPool, SeccompProfile
from pysandpool._backend.linux import landlock_abi_max

LEVELS = range(8)
ATTACK = """
import errno, os, socket, stat, sys
def outcome(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def move():
    os.makedirs("/tmp/a", exist_ok=True), os.makedirs("/tmp/b", exist_ok=True)
    open("/tmp/a/x", "w").close()
    os.rename("/tmp/a/x", "/tmp/b/x")
def dial():
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))
def knock(name):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\\0" + name)
device = outcome(os.mknod, "/tmp/device", stat.S_IFBLK, os.makedev(1, 0))
whiteout = outcome(os.mknod, "/tmp/whiteout", stat.S_IFCHR, os.makedev(0, 0))
print(device, whiteout, outcome(move), outcome(dial), outcome(knock, sys.argv[1]))
"""


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    """The name of an abstract socket of the host's."""
    name = f"pysandpool-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        yield name


def run(config: SandboxConfig, door: str) -> tuple[list[str], int, str]:
    with SandboxPool(config) as pool, pool.acquire() as sandbox:
        words = sandbox.execute(["/usr/bin/python3", "-c", ATTACK, door]).check().stdout.decode().split()
        return words, sandbox.isolation.landlock_abi, sandbox.isolation.landlock


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_enforces_what_it_has(level: int, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device and a rename by their right of ABI 1 and 2, TCP by that of 4."""
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", str(level))
    abi = min(level, kernel_abi())
    (device, whiteout, move, dial, _), reported, word = run(SandboxConfig(seccomp_profile=SeccompProfile.NETWORK), door)
    assert device == ("EACCES" if abi >= 1 else "EPERM"), "Landlock is asked before CAP_MKNOD"
    assert whiteout == "EPERM", "it needs no capability, so seccomp refuses it, with or without Landlock"
    assert move == ("EXDEV" if abi == 1 else "done")
    assert dial == ("EACCES" if abi >= 4 else "ENETUNREACH")
    assert (reported, word) == (abi, "none" if abi == 0 else "partial" if abi < 6 else "full")


@pytest.mark.parametrize("level", LEVELS)
def test_a_door_to_the_host_is_shut_by_scopes(level: int, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An abstract socket of the host's, in its network namespace, can be reached until ABI 6 scopes it."""
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", str(level))
    config = SandboxConfig(deny_network=False, seccomp_profile=SeccompProfile.NETWORK, allow_unix_sockets=True)
    words, _, _ = run(config, door)
    assert words[4] == ("EPERM" if min(level, kernel_abi()) >= 6 else "done")


def test_it_only_lowers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", "999")
    with SandboxPool() as pool, pool.acquire() as sandbox:
        assert sandbox.isolation.landlock_abi == kernel_abi()


def test_it_is_read_when_a_pool_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with SandboxPool() as pool:
        monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", "0")
        with pool.acquire() as sandbox:
            assert sandbox.isolation.landlock_abi == kernel_abi()


@pytest.mark.parametrize("text", ["-1", "x", "1.5", " 1", "1" * 20, "\u0661"])
def test_it_is_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", text)
    with pytest.raises(ValueError, match="PYSANDPOOL_LANDLOCK_ABI"):
        SandboxPool()


def test_unset_and_empty_are_no_limit() -> None:
    assert landlock_abi_max({}) == landlock_abi_max({"PYSANDPOOL_LANDLOCK_ABI": ""}) == 2**32 - 1
    assert landlock_abi_max({"PYSANDPOOL_LANDLOCK_ABI": "3"}) == 3
