"""Hosts that are root of a user namespace, or root without its capabilities: sandboxes run as an id that there is."""

from __future__ import annotations

import os

import pytest
from scripts import run_script

ENTER = """
import ctypes, os, struct
from pathlib import Path
from pysandpool import *

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *args):
    assert getattr(libc, name)(*args) == 0, (name, os.strerror(ctypes.get_errno()))

def become_user(uid):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    call("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: else it may not write its own maps

def become_root_of_one_id(more=0):
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", 0x10000000 | more)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)

CAP_SETFCAP = 31

def drop_capabilities(but=None):
    for number in range(64):
        if number != but:
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    kept = 0 if but is None else 1 << but
    call("capset", struct.pack("II", 0x20080522, 0), struct.pack("IIIIII", kept, kept, kept, 0, 0, 0))

NEW_MOUNTS = 0x00020000
"""

HOST = """
assert os.geteuid() == 0
config = SandboxConfig(fs_readonly=("/var/tmp",), scratch_size_mb=8)
try:
    with SandboxPool(config, PoolConfig(min_size=2)) as pool, pool.acquire() as lease:
        show = "id -u; id -g; echo x > /tmp/x && cat /tmp/x; cat"
        print(*lease.execute(["/bin/sh", "-c", show], input=b"hello").check().stdout.decode().split())
except SandboxCreateError as error:
    print(error.stage, error.errno, "|", error.hint)
"""


def run(code: str) -> str:
    done = run_script(ENTER + code + HOST)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("more", ["0", "NEW_MOUNTS"])
@pytest.mark.parametrize("then", ["", "drop_capabilities(CAP_SETFCAP)"], ids=["all capabilities", "one"])
def test_root_of_one_id(more: str, then: str) -> None:
    """It is an ordinary user outside, and so are its sandboxes."""
    assert run(f"become_user(12345)\nbecome_root_of_one_id({more})\n{then}\n") == "1000 1000 x hello\n"


def test_root_of_one_id_that_may_not_map_it() -> None:
    """The kernel wants CAP_SETFCAP of who passes uid 0 on to a user namespace of its own (Linux 5.12)."""
    done = run("become_user(12345)\nbecome_root_of_one_id()\ndrop_capabilities()\n")
    assert done == "1000 1000 x hello\n" or (done.startswith("id_map 1 | ") and "CAP_SETFCAP" in done)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(
    "enter", ["become_root_of_one_id()", "drop_capabilities()", "become_root_of_one_id()\ndrop_capabilities()"]
)
def test_the_real_root_is_nobody_to_run_as(enter: str) -> None:
    """The only id that there is would own the host's files."""
    failed, _, hint = run(f"{enter}\n").partition(" | ")
    assert failed in {"drop_root 22", "drop_root 1"}
    assert "CAP_SETUID" in hint or "--user 1000" in hint  # the second in a container
