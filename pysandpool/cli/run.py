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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pysandpool._config.bind import Bind
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig, SeccompProfile
from pysandpool._config.workspace import MODES, Workspace
from pysandpool._errors import CommandNotFoundError, SandboxError, SandpoolError
from pysandpool._execute.passage import Passage, Sink
from pysandpool._execute.result import SandboxResult
from pysandpool._pool.acquire import lease_by_ticket
from pysandpool._pool.core import PoolCore, open_core
from pysandpool._pool.lease import SHELL, PooledSandbox, execute_live
from pysandpool._pool.limits import PoolLimits
from pysandpool._pool.workspace import lease_with_workspace
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


def add_options(parser: argparse.ArgumentParser, handler: Callable[[argparse.Namespace], int]) -> None:
    """Adds the options of `run` to its parser. An option that is not given leaves its field to `SandboxConfig`."""
    option = parser.add_argument
    option("--timeout", type=_seconds, metavar="SECONDS", help="kill the command after this time, or inf")
    option("--cpu-time", type=_seconds, metavar="SECONDS", help="kill a process that uses more CPU time")
    option("--memory", "--memory-limit-mb", dest="memory_limit_mb", type=_limit, metavar="MIB", help="or inf")
    option("--max-processes", type=_limit, metavar="N", help="processes and threads at a time, or inf")
    option("--scratch", "--scratch-size-mb", dest="scratch_size_mb", type=_limit, metavar="MIB", help="size of /tmp")
    option("--max-output-bytes", type=_limit, metavar="N", help="pass on that much of each output, and drop the rest")
    option("--ro", action="append", default=[], metavar="PATH", help="show PATH inside, read-only")
    option("--rw", action="append", default=[], metavar="PATH", help="show PATH inside, writable")
    bind_help = "show SRC at DST; SRC:DST:ro read-only"
    option("--bind", action="append", default=[], type=_bind, metavar="SRC:DST[:ro]", help=bind_help)
    workspace_help = "attach DIR at /workspace and run there; rw by default, cow keeps the changes inside"
    option("--workspace", type=_workspace, metavar="DIR[:ro|cow]", help=workspace_help)
    option("--workdir", metavar="DIR", help="working directory inside, which a relative --cwd is relative to")
    option("--python", action="store_true", help="show the Python that runs pysandpool, and its packages")
    option("--rootfs", metavar="DIR", help="use this directory tree as the root, read-only")
    option("--env", action="append", default=[], metavar="K[=V]", type=_assignment, help="set K to V, or copy it")
    option("--cwd", metavar="DIR", help="working directory inside; the private /tmp by default")
    option("--network", choices=("none", "loopback", "host"), help="none by default")
    option("--unix-sockets", action="store_true", help="allow AF_UNIX sockets beside --ro and --rw")
    option("--allow-degradation", action="store_true", help="run with less isolation where not all can be had")
    keep = "pass standard input on even if it is a terminal"
    option("-i", "--interactive", "--stdin", dest="interactive", action="store_true", help=keep)
    option("-t", "--tty", action="store_true", help="run the command in a terminal; for a shell: -it")
    option("--json", action="store_true", help="print one JSON object with the result, in place of the output")
    option("command", nargs=argparse.REMAINDER, metavar="-- CMD ...")
    parser.set_defaults(handler=handler, usage_error=parser.error)


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
        result = execute_live(sandbox, command, streams, args.cwd, args.cpu_time)
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
        result = execute_live(sandbox, command, Passage(_stdin(args), None, None), args.cwd, args.cpu_time)
    _print_json({"error": None, **_as_json(result)})
    return _exit_code(result)


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


# ---- the options ----


def config_of(args: argparse.Namespace) -> SandboxConfig:
    """The configuration that the options ask for. Raises InvalidSandboxConfigError."""
    names = ("memory_limit_mb", "max_processes", "scratch_size_mb", "rootfs", "network", "max_output_bytes")
    fields: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.network == "host":
        fields.update(deny_network=False, seccomp_profile=SeccompProfile.NETWORK)
    if args.python:
        fields.update(fs_python=True)
    if args.unix_sockets:
        fields.update(allow_unix_sockets=True)
    if args.allow_degradation:
        fields.update(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)
    if args.timeout is not None:
        fields.update(timeout_secs=args.timeout)
    limits = {name: None for name, value in fields.items() if value == math.inf}
    return SandboxConfig(
        fs_readonly=[Path(path).absolute() for path in args.ro],
        fs_readwrite=[Path(path).absolute() for path in args.rw],
        binds=[Bind(Path(src).absolute(), dst, readonly) for src, dst, readonly in args.bind],
        workdir=args.workdir,
        env_vars=dict(args.env),
        **{**fields, **limits},
    )


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, or inf") from None


def _limit(text: str) -> float:
    try:
        return math.inf if text == "inf" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, or inf") from None


def _workspace(text: str) -> tuple[str, str]:
    """The directory, and the mode."""
    path, separator, mode = text.rpartition(":")
    if not separator or mode not in MODES:
        path, mode = text, "rw"
    if not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not DIR, DIR:ro, DIR:rw or DIR:cow")
    return path, mode


def _bind(text: str) -> tuple[str, str, bool]:
    """The source, the place inside, and whether it is read-only."""
    parts = text.split(":")
    if not (len(parts) == 2 or (len(parts) == 3 and parts[2] in ("ro", "rw"))) or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not SRC:DST, SRC:DST:ro or SRC:DST:rw")
    return parts[0], parts[1], parts[2:] == ["ro"]


def _assignment(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator and key in os.environ:
        return key, os.environ[key]
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is neither K=V nor a variable that is set here")
    return key, value
