"""The errors: who is what, what they carry, that they cross processes; and the hints of failed creations."""

from __future__ import annotations

import errno
import pickle
from typing import Any

import pytest

import pysandpool
from pysandpool import (
    AcquireTimeoutError,
    CommandFailedError,
    CommandNotFoundError,
    InvalidPoolConfigError,
    InvalidSandboxConfigError,
    PoolError,
    PoolStateError,
    SandboxCreateError,
    SandboxError,
    SandboxLostError,
    SandboxReleasedError,
    SandboxResult,
    SandpoolError,
    UnsupportedPlatformError,
)
from pysandpool._backend import hints as _hints

FAILED = SandboxResult(stdout=b"", stderr=b"no \x1b[31mway\n", exit_code=3)
BASES: dict[type[SandpoolError], tuple[type[BaseException], ...]] = {
    PoolError: (SandpoolError,),
    SandboxError: (SandpoolError,),
    InvalidPoolConfigError: (PoolError, ValueError),
    PoolStateError: (PoolError,),
    AcquireTimeoutError: (PoolError, TimeoutError),
    InvalidSandboxConfigError: (SandboxError, ValueError),
    SandboxCreateError: (SandboxError,),
    SandboxReleasedError: (SandboxError,),
    SandboxLostError: (SandboxError,),
    CommandNotFoundError: (SandboxError,),
    CommandFailedError: (SandboxError,),
    UnsupportedPlatformError: (SandboxError,),
}
SAMPLES: list[tuple[SandpoolError, dict[str, Any]]] = [
    (PoolStateError("forked", 7), {"owner_pid": 7}),
    (PoolStateError(), {"owner_pid": None}),
    (AcquireTimeoutError("late", 0.5), {"timeout": 0.5}),
    (SandboxError("no cwd", errno.ENOENT, "cwd"), {"errno": errno.ENOENT, "stage": "cwd"}),
    (
        InvalidPoolConfigError("min_size", 5, "0 ... 4", 5, 4),
        {"field": "min_size", "value": 5, "allowed": "0 ... 4", "min_size": 5, "max_size": 4},
    ),
    (InvalidSandboxConfigError("x", "y", "z"), {"field": "x", "value": "y", "allowed": "z"}),
    (
        SandboxCreateError("bind", errno.ENOENT, "make it", "/nope"),
        {"stage": "bind", "errno": errno.ENOENT, "hint": "make it", "detail": "/nope"},
    ),
    (SandboxReleasedError(), {"errno": None, "stage": None}),
    (SandboxLostError(), {"errno": None, "stage": None}),
    (CommandNotFoundError(errno.EACCES, "./x"), {"errno": errno.EACCES, "filename": "./x"}),
    (CommandFailedError(FAILED), {"result": FAILED}),
    (UnsupportedPlatformError("plan9"), {}),
]


@pytest.mark.parametrize(("error", "bases"), BASES.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_hierarchy(error: type[SandpoolError], bases: tuple[type[BaseException], ...]) -> None:
    assert all(issubclass(error, base) for base in bases)
    assert issubclass(error, PoolError) != issubclass(error, SandboxError)
    assert error.__name__ in pysandpool.__all__


@pytest.mark.parametrize(("error", "facts"), SAMPLES, ids=lambda one: type(one).__name__)
def test_facts_survive_pickle(error: SandpoolError, facts: dict[str, Any]) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error) != ""
    for one in (error, twin):
        assert {name: getattr(one, name) for name in facts} == facts


def test_messages_name_the_facts() -> None:
    text = str(SandboxCreateError("bind", errno.ENOENT, "make it", "/nope"))
    assert all(word in text for word in ("bind", "ENOENT", "make it", "/nope"))
    assert all(word in str(CommandNotFoundError(errno.ENOEXEC, "run.sh")) for word in ("ENOEXEC", "run.sh"))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (SandboxResult(b"", b"", 3), "exited with 3"),
        (SandboxResult(b"", b"", None, signal=11), "signal 11"),
        (SandboxResult(b"", b"", None, signal=9, timed_out=True, elapsed=1.5), "timed out after 1.500 s"),
        (
            SandboxResult(b"cut", b"", 0, stdout_truncated=True),
            "exited with 0, and wrote more than max_output_bytes to stdout",
        ),
        (SandboxResult(b"", b"", 0, stderr_truncated=True), "max_output_bytes to stderr"),
        (SandboxResult(b"", b"", 1, None, False, 0.0, True, True), "exited with 1, and .* to stdout and stderr"),
        (SandboxResult(b"", b"", 0, user_time=1.5, system_time=0.5, cpu_time_exceeded=True), "and used 2.000 s of CPU"),
    ],
)
def test_check_raises_with_the_result(result: SandboxResult, text: str) -> None:
    with pytest.raises(CommandFailedError, match=text) as failed:
        result.check()
    assert failed.value.result is result


def test_a_field_of_a_value_has_the_name_of_its_class() -> None:
    with pytest.raises(InvalidSandboxConfigError, match=r"^Bind\.src = 'x' is not allowed"):
        pysandpool.Bind("x")
    with pytest.raises(InvalidSandboxConfigError, match=r"^Workspace\.path = b'/x' is not allowed"):
        pysandpool.Workspace(b"/x")  # type: ignore[arg-type]
    with pytest.raises(InvalidSandboxConfigError, match=r"^Interpreter\.preload = 'json' is not allowed"):
        pysandpool.Interpreter(preload="json")
    with pytest.raises(InvalidSandboxConfigError, match=r"^SandboxConfig\.workdir = 'x' is not allowed"):
        pysandpool.SandboxConfig(workdir="x")


def test_check_returns_a_good_result() -> None:
    result = SandboxResult(b"out", b"err", 0)
    assert result.check() is result


def test_a_command_cannot_send_control_characters_to_the_log() -> None:
    assert "way" in str(CommandFailedError(FAILED))
    assert "\x1b" not in str(CommandFailedError(FAILED))


@pytest.mark.parametrize(
    ("stage", "err", "part"),
    [
        ("user_namespace", errno.ENOSPC, "user.max_user_namespaces"),
        ("clone", errno.ENOSPC, "user.max_user_namespaces"),
        ("clone", errno.EAGAIN, "pids"),
        ("host_socket", errno.EMFILE, "ulimit -n"),
        ("clone", errno.EMFILE, "RLIMIT_NOFILE"),
        ("mount_proc", errno.EPERM, "ALLOW_DEGRADATION"),
        ("bind", errno.ENOENT, "fs_readonly"),
        ("timeout", errno.ETIMEDOUT, "10 s"),
        ("limits", errno.ENOTSUP, "cpu_quota_us"),
        ("cgroup", errno.EACCES, "cgroup_parent"),
        ("cgroup", errno.EOPNOTSUPP, "Delegate=cpu memory pids"),
        ("spawn_zygote", errno.ENOENT, "pip install"),
        ("user_namespace", errno.ENOSYS, "CONFIG_USER_NS"),
    ],
)
def test_hint_names_the_fix(stage: str, err: int, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hints, "is_filtered", lambda: False)  # a container's filter may answer with ENOSYS, too
    assert part in _hints.hint_for(stage, err)


def test_no_hint_is_no_text() -> None:
    assert _hints.hint_for("exec", errno.EIO) == ""


def test_read_sysctl() -> None:
    assert _hints.read_sysctl("kernel.ostype") == "Linux"
    assert _hints.read_sysctl("kernel.no_such_setting") is None


def test_every_hinted_stage_exists() -> None:
    """The words of csrc/common/stage.h: a rule for another word would never match."""
    from fake import stages

    hinted = set().union(*(rule[0] for rule in _hints._RULES))
    assert hinted <= set(stages())
