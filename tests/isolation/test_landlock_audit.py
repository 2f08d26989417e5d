"""What Landlock denies writes no records into the host's audit log: a tenant could fill it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_isolation import kernel_abi

from pysandpool import Sandbox, SandboxConfig

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root switches the audit of the kernel on"),
    # The kernel's audit is one for the machine; see also test_filters_of_tenants.py.
    pytest.mark.alone,
]
# linux/audit.h
NETLINK_AUDIT, AUDIT_GET, AUDIT_SET, AUDIT_LANDLOCK_ACCESS = 9, 1000, 1001, 1423
RULES = ("landlock_create_ruleset", "landlock_restrict_self")
STATUS = struct.Struct("=10I")  # mask, enabled, failure, pid, ...

# Denied by Landlock alone: the mounts let /tmp be written, and seccomp lets mknod through. The directory's name
# distinguishes the records from those of other programs on this machine.
MARK = f"denied-{os.getpid()}"
DENIED = f"""
import os, stat
os.makedirs("/tmp/{MARK}", exist_ok=True)
for n in range(100):
    try:
        os.mknod("/tmp/{MARK}/device", stat.S_IFBLK, os.makedev(1, 0))
    except PermissionError:
        pass
"""
CONTROL = f"""
import ctypes, struct
libc = ctypes.CDLL(None)
ruleset = libc.syscall(444, struct.pack("=Q", 1 << 11), 8, 0)
libc.prctl(38, 1, 0, 0, 0)
libc.syscall(446, ruleset, 0)
{DENIED}
"""


class Audit:
    """The kernel's audit, switched on, as a listener sees it; and as it was afterwards."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT)
        self.socket.bind((0, 0))
        self.socket.settimeout(5)
        self.heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT)
        self.heard.bind((0, 1))  # AUDIT_NLGRP_READLOG
        self.heard.settimeout(0.5)
        self.heard.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        _, self.enabled, _, self.daemon, *_ = self.status()

    def ask(self, kind: int, payload: bytes = b"") -> None:
        # With an acknowledgement, which comes before or after the answer.
        self.socket.send(struct.pack("=IHHII", 16 + len(payload), kind, 5, 1, 0) + payload)

    def status(self) -> tuple[int, ...]:
        self.ask(AUDIT_GET)
        answers = [self.socket.recv(8192) for _ in range(2)]
        [answer] = [one for one in answers if struct.unpack("=H", one[4:6])[0] == AUDIT_GET]
        return STATUS.unpack(answer[16 : 16 + STATUS.size].ljust(STATUS.size, b"\0"))

    def enable(self, value: int) -> None:
        self.ask(AUDIT_SET, STATUS.pack(1, value, *[0] * 8))
        self.socket.recv(8192)

    def denials(self) -> int:
        count = 0
        try:
            while True:
                record = self.heard.recv(65536)
                of_access = struct.unpack("=H", record[4:6])[0] == AUDIT_LANDLOCK_ACCESS
                count += of_access and MARK.encode() in record
        except socket.timeout:
            return count


@pytest.fixture
def audit() -> Iterator[Audit]:
    try:
        audit = Audit()
    except OSError as error:
        pytest.skip(f"this kernel's audit is out of reach: {error}")
    if audit.daemon:
        pytest.skip("an audit daemon runs here, and would keep what this test provokes")
    audit.enable(1)
    yield audit
    audit.enable(audit.enabled)
    audit.socket.close()
    audit.heard.close()


@pytest.mark.skipif(kernel_abi() < 7, reason="Landlock writes audit records from ABI 7 on")
def test_denials_write_no_audit_records(audit: Audit) -> None:
    try:
        subprocess.run([sys.executable, "-c", CONTROL], check=True)
        assert audit.denials() > 0, "the control's are written"
    finally:
        Path("/tmp", MARK).rmdir()
    with Sandbox(SandboxConfig(seccomp_allow=RULES)) as sandbox:
        sandbox.execute(["/usr/bin/python3", "-c", DENIED]).check()
        # A domain of the tenant's own, below init's.
        sandbox.execute(["/usr/bin/python3", "-c", CONTROL]).check()
    assert audit.denials() == 0
