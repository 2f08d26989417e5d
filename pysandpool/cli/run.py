"""`run`: runs one command in a fresh sandbox, with the streams of this process."""

from __future__ import annotations

import argparse
import base64
import contextlib
import errno
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pysandpool._config.sandbox import SandboxConfig
from pysandpool._config.workspace import Workspace
from pysandpool._errors import CommandNotFoundError, SandboxError, SandpoolError
from pysandpool._execute.encode import SHELL
from pysandpool._execute.passage import Passage, Sink
from pysandpool._execute.result import SandboxResult
from pysandpool._execute.run import run_command
from pysandpool._pool.acquire import lease_by_ticket
from pysandpool._pool.core import PoolCore, open_core
from pysandpool._pool.lease import PooledSandbox
from pysandpool._pool.limits import PoolLimits
from pysandpool._pool.workspace import lease_with_workspace
from pysandpool.cli.options import config_of
from pysandpool.cli.say import (
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_SETUP,
    EXIT_SIGNAL,
    EXIT_TIMEOUT,
    complain,
    explain,
    say,
)
from pysandpool.cli.terminal import run_in_terminal

EXIT_CODES = (
    "Exit code: the command's; 128 + N when signal N killed it (137 when it used too much memory), 124 after the "
    "timeout, 141 when nobody reads the output any more, 130 after Ctrl-C, 127 when there is no such command inside, "
    "126 when it cannot be executed, 125 when no sandbox could be created or the output could not be written."
)
_BEST_SHELL = "command -v bash >/dev/null && exec bash; exec sh"
_FIELDS = (
    *("exit_code", "signal", "timed_out", "oom_killed", "cpu_time_exceeded"),
    *("elapsed", "user_time", "system_time", "max_rss_bytes"),
)


def run(args: argparse.Namespace) -> int:
    """Runs the command, and returns the exit code."""
    _occupy_standard_streams()
    _refuse_with_tty(args)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        args.usage_error("a command is missing: run [options] -- CMD ...")
    try:
        return _try_to_run(args, command)
    except BrokenPipeError:
        return EXIT_SIGNAL + signal.SIGPIPE
    except OSError as error:
        say(f"pysandpool: cannot write the output: {error.strerror}")
        return EXIT_SETUP


def shell(args: argparse.Namespace) -> int:
    """Runs a shell, or another command, in a terminal if there is one here."""
    args.interactive = True
    args.tty = os.isatty(0) and os.isatty(1)
    args.timeout = math.inf if args.timeout is None else args.timeout
    args.command = args.command or [SHELL, "-c", _BEST_SHELL]
    return run(args)


def _refuse_with_tty(args: argparse.Namespace) -> None:
    for option in ("json", "max_output_bytes", "cpu_time"):
        if args.tty and getattr(args, option):
            args.usage_error(f"--{option.replace('_', '-')} cannot be used with --tty")


def _try_to_run(args: argparse.Namespace, command: list[str]) -> int:
    way = _run_in_terminal if args.tty else _run_for_json if args.json else _run_and_pass
    try:
        return way(args, command)
    except CommandNotFoundError as error:
        return _fail(args, error, EXIT_NOT_FOUND if error.errno == errno.ENOENT else EXIT_NOT_EXECUTABLE)
    except (SandpoolError, ValueError) as error:  # ValueError: a NUL or the like in the command
        return _fail(args, error, EXIT_SETUP)


def _occupy_standard_streams() -> None:
    """A standard descriptor that is closed would be used for something else, and output would go there."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run_and_pass(args: argparse.Namespace, command: list[str]) -> int:
    config = config_of(args)
    with _sandbox(config, args) as sandbox:
        streams = Passage(_stdin(args), 1, 2, args.max_output_bytes)
        result = _execute(sandbox, command, streams, args)
    for line in _notes(result, config, args):
        say(f"pysandpool: {line}")
    return _exit_code(result)


def _run_in_terminal(args: argparse.Namespace, command: list[str]) -> int:
    config = config_of(args)
    env = {} if "TERM" in config.env_vars else {"TERM": os.environ.get("TERM", "dumb")}
    with _sandbox(config, args) as sandbox:
        stdin = 0 if args.interactive else None
        process = run_in_terminal(sandbox, command, stdin, env=env, cwd=args.cwd, timeout=config.timeout_secs)
    code = process.returncode or 0
    result = SandboxResult(
        b"",
        b"",
        code if code >= 0 else None,
        -code if code < 0 else None,
        process.timed_out,
        oom_killed=process.oom_killed,
    )
    for line in _notes(result, config, args):
        say(f"pysandpool: {line}")
    return _exit_code(result)


def _run_for_json(args: argparse.Namespace, command: list[str]) -> int:
    with _sandbox(config_of(args), args) as sandbox:
        result = _execute(sandbox, command, Passage(_stdin(args), None, None), args)
    _print_json({"error": None, **_as_json(result)})
    return _exit_code(result)


def _execute(lease: PooledSandbox, command: list[str], streams: Passage, args: argparse.Namespace) -> SandboxResult:
    """`PooledSandbox.execute` with these streams."""
    core, handle, defaults = lease._core, lease._live_handle(), lease._defaults()  # noqa: SLF001 - of this package
    defaults = defaults if args.cpu_time is None else defaults.limiting(args.cpu_time)
    return run_command(core.ptr, handle, command, (None, None, args.cwd, None), defaults, streams)


def _fail(args: argparse.Namespace, error: Exception, code: int) -> int:
    if not args.json:
        return complain(error, code)
    message, hint = explain(error)
    _print_json({"error": {"type": type(error).__name__, "message": message, "hint": hint}})
    return code


@contextlib.contextmanager
def _sandbox(config: SandboxConfig, args: argparse.Namespace) -> Iterator[PooledSandbox]:
    workspace = None if args.workspace is None else Workspace(Path(args.workspace[0]).absolute(), args.workspace[1])
    core = open_core(config, PoolLimits())
    try:
        with _lease(core, workspace) as sandbox:
            yield sandbox
    finally:
        core.close(5_000_000_000)


def _lease(core: PoolCore, workspace: Workspace | None) -> PooledSandbox:
    if workspace is None:
        return lease_by_ticket(core)
    try:
        return lease_with_workspace(lambda: lease_by_ticket(core), workspace)
    except OSError as error:
        raise SandboxError(f"cannot use {workspace.path!r} as a workspace: {error.strerror}", error.errno) from None


def _stdin(args: argparse.Namespace) -> int | None:
    return 0 if args.interactive or not os.isatty(0) else None


# ---- the result ----


def _exit_code(result: SandboxResult) -> int:
    if result.timed_out:
        return EXIT_TIMEOUT
    return EXIT_SIGNAL + (result.signal or 0) if result.exit_code is None else result.exit_code


def _notes(result: SandboxResult, config: SandboxConfig, args: argparse.Namespace) -> Iterator[str]:
    """What the streams do not show."""
    if result.timed_out:
        yield f"the command ran longer than {config.timeout_secs:g} s and was killed (--timeout)"
    if result.cpu_time_exceeded:
        yield f"the command used {args.cpu_time:g} s of CPU time or more (--cpu-time)"
    if result.oom_killed:
        yield f"the command used more than {config.memory_limit_mb} MiB of memory and was killed (--memory)"
    for name in ("stdout", "stderr"):
        if getattr(result, f"{name}_truncated"):
            yield f"{name} was truncated after {args.max_output_bytes} bytes (--max-output-bytes)"


def _as_json(result: SandboxResult) -> dict[str, Any]:
    fields = {name: getattr(result, name) for name in _FIELDS}
    for name in ("stdout", "stderr"):
        data: bytes = getattr(result, name)
        text = data.decode(errors="replace")
        fields[name] = text
        fields[f"{name}_base64"] = None if text.encode() == data else base64.b64encode(data).decode()
        fields[f"{name}_truncated"] = getattr(result, f"{name}_truncated")
    return fields


def _print_json(value: dict[str, Any]) -> None:
    Sink(1).end(json.dumps(value).encode() + b"\n")
