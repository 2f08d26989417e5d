"""seccomp_allow: which calls a configuration may add to its profile, and that just these are added."""

from __future__ import annotations

import copy
import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

from pysandpool import InvalidSandboxConfigError, Sandbox, SandboxConfig, SandboxCreateError
from pysandpool._config.seccomp import ALLOWABLE, NEVER, UNREVIEWED
from pysandpool._config.syscalls import AARCH64, X86_64

pytestmark = pytest.mark.slow  # not in `make quick`

TABLE = (Path(__file__).parents[2] / "csrc" / "host" / "seccomp" / "table.h").read_text()
# What a process may do with itself. 64 KiB of locked memory are left, whatever is allowed.
USE = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def call(*args):
    return 0 if libc.syscall(*args) != -1 else ctypes.get_errno()
context = ctypes.c_ulong(0)
print(call(206 if x86 else 0, 1, ctypes.byref(context)), call(237 if x86 else 235, 0, 0, 0, 0, 0, 0))
print(call(444, None, 0, 1))
"""


def names_of(*rules: str) -> set[str]:
    """The names that seccomp/table.h has under these rules; SP_RULE_MAY_ stands for all that begin so."""
    groups = re.findall(r"\{(SP_RULE_\w+),\s*\{([^}]*)\}\}", TABLE)
    assert len(groups) > 20
    return {name for rule, text in groups if rule.startswith(rules) for name in re.findall(r'"(\w+)"', text)}


def test_the_lists_agree_with_the_table() -> None:
    may = names_of("SP_RULE_MAY_")
    free = names_of("SP_RULE_ALLOW")
    in_tier = names_of(
        "SP_RULE_TRUNCATE", "SP_RULE_ATTRIBUTE", "SP_RULE_SYSV", "SP_RULE_SESSION", "SP_RULE_SIGNAL", "SP_RULE_KILL"
    )
    every = {name for rule in set(re.findall(r"\{(SP_RULE_\w+), *\n? *\{", TABLE)) for name in names_of(rule)}
    assert set(ALLOWABLE) == may
    assert not set(NEVER) & (may | free)
    assert every - may - free - in_tier <= set(NEVER), "what is refused, or looked at, has its reason"
    assert set(NEVER) | may <= X86_64 | AARCH64
    assert (X86_64 | AARCH64) - set(NEVER) - may - free - in_tier == UNREVIEWED


def test_it_is_a_value() -> None:
    one = SandboxConfig(seccomp_allow=["mbind", "kcmp", "mbind"])
    assert one.seccomp_allow == ("kcmp", "mbind")
    assert one == SandboxConfig(seccomp_allow=("kcmp", "mbind")) == copy.deepcopy(one)
    assert hash(one) == hash(SandboxConfig(seccomp_allow=("mbind", "kcmp")))
    assert one != SandboxConfig()
    assert "seccomp_allow=('kcmp', 'mbind')" in repr(one)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["proces_vm_readv"], r"a known system call; did you mean process_vm_readv"),
        (["xyzzy"], r"a known system call$"),
        (["read"], r"the profile allows it already, so leave it out\)$"),
        (["listns"], r"\(listns: nobody has reviewed"),
        (["unshare"], r"\(unshare: it is allowed already, and the filter checks its arguments"),
        (["mount"], r"\(mount: .*leave its namespaces"),
        (["mbind", "setns"], r"\(setns: .*leave its namespaces"),
        (["keyctl"], r"\(keyctl: keyrings"),
        (["ustat"], r"\(ustat: .*scratch of other tenants"),
        (["mq_open"], r"\(mq_open: .*count against the host's user"),
        (["bpf"], r"\(bpf: .*programs"),
        (["io_uring_setup"], r"\(io_uring_setup: no filter sees"),
        (["fork"], r"\(fork: allow_fork"),
        ([""], r"a known system call"),
    ],
)
def test_the_error_says_why_a_call_cannot_be_allowed(value: Any, text: str) -> None:
    with pytest.raises(InvalidSandboxConfigError, match=text) as refused:
        SandboxConfig(seccomp_allow=value)
    assert refused.value.field == "seccomp_allow"
    assert refused.value.value == value[-1]
    assert not isinstance(refused.value, TypeError)


@pytest.mark.parametrize("value", ["mbind", b"mbind", None, 7, [b"mbind"], [None]])
def test_bad_types(value: Any) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(seccomp_allow=value)
    assert isinstance(refused.value, TypeError)


def test_a_name_of_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysandpool._config.seccomp._machine", lambda: "aarch64")
    with pytest.raises(InvalidSandboxConfigError, match="of aarch64, and this one is of other machines only"):
        SandboxConfig(seccomp_allow=["modify_ldt"])
    assert SandboxConfig(seccomp_allow=["mbind"]).seccomp_allow == ("mbind",)
    monkeypatch.setattr("pysandpool._config.seccomp._machine", lambda: "riscv64")
    assert SandboxConfig(seccomp_allow=["modify_ldt"]).seccomp_allow == ("modify_ldt",)


@pytest.mark.parametrize(
    ("allow", "found"),
    [
        ((), "38 38 38"),
        (("io_setup",), "0 38 38"),
        (("io_setup", "mbind"), "0 0 38"),
        (("landlock_create_ruleset",), "38 38 landlock"),
        (ALLOWABLE, "0 0 landlock"),
    ],
)
def test_just_these_calls_are_added(allow: Any, found: str) -> None:
    known = [name for name in allow if name in X86_64 & AARCH64]
    with Sandbox(SandboxConfig(seccomp_allow=known)) as sandbox:
        result = sandbox.execute(["python3", "-c", USE]).check()
    outside = ctypes.CDLL(None, use_errno=True)
    landlock = 0 if outside.syscall(444, None, 0, 1) != -1 else ctypes.get_errno()
    assert result.stdout.decode().split() == found.replace("landlock", str(landlock)).split()


# A file, its attribute, and its copy by one call, in each of the ways that a program may go.
STORE = """
import ctypes, os, shutil, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    return "done" if getattr(libc, name)(*args) >= 0 else os.strerror(ctypes.get_errno()).replace(" ", "-")
open("/tmp/a", "wb").write(b"x" * 9000)
memfd, out, (r, w) = os.memfd_create("m"), os.open("/tmp/b", os.O_RDWR | os.O_CREAT), os.pipe()
here = os.open("/tmp/a", os.O_RDONLY)
for where in b"/tmp/a", b"/dev/shm", b"/tmp":
    print(call("setxattr", where, b"user.x", b"1", 1, 0), call("lsetxattr", where, b"user.x", b"1", 1, 0), end=" ")
print(call("fsetxattr", memfd, b"user.x", b"1", 1, 0), call("removexattr", b"/tmp/a", b"user.x"), end=" ")
print(call("splice", here, None, w, None, 4096, 0), call("sendfile", w, here, None, 4096))
shutil.copy2("/tmp/a", "/tmp/c")
assert os.listxattr("/tmp/c") in ([], ["user.x"])
assert open("/tmp/c", "rb").read() == open("/tmp/a", "rb").read()
a, b = socket.socketpair()
assert a.sendfile(open("/tmp/a", "rb")) == 9000
"""


def test_attributes_and_pages_in_pipes_are_not_there() -> None:
    """Wherever a tenant has a file; and programs take it in their stride."""
    with Sandbox() as sandbox:
        result = sandbox.execute(["python3", "-c", STORE]).check()
    assert result.stdout.decode().split() == ["Operation-not-supported"] * 8 + ["Invalid-argument"] * 2
    names = ("fsetxattr", "lsetxattr", "removexattr", "sendfile", "setxattr", "splice")
    with Sandbox(SandboxConfig(seccomp_allow=names)) as sandbox:
        result = sandbox.execute(["python3", "-c", STORE]).check()
    # Before Linux 6.6 a tmpfs has no user attributes: then it answers the same.
    by_kernel = {"done"} if "done" in result.stdout.decode().split()[:8] else {"Operation-not-supported"}
    assert set(result.stdout.decode().split()[:6]) == by_kernel
    assert result.stdout.decode().split()[8:] == ["done"] * 2


def test_the_core_refuses_too() -> None:
    """Whoever passes by the configuration's own check."""
    config = SandboxConfig()
    object.__setattr__(config, "seccomp_allow", ("mount",))
    with pytest.raises(SandboxCreateError, match="Invalid argument"):
        Sandbox(config)
