"""The options of `run` and `shell`, and the configuration that they ask for."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysandpool._config.bind import Bind
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig, SeccompProfile
from pysandpool._config.workspace import MODES

DEGRADE = "accept less isolation where this machine cannot give all of it"


def add_options(parser: argparse.ArgumentParser, handler: Callable[[argparse.Namespace], int]) -> None:
    """Adds the options of `run` to its parser. An option that is not given leaves its field to `SandboxConfig`."""
    option = parser.add_argument
    default = SandboxConfig()
    timeout_help = f"kill the command after this time; inf: never (default: {default.timeout_secs:g}; of shell: inf)"
    option("--timeout", type=_seconds, metavar="SECONDS", help=timeout_help)
    option("--cpu-time", type=_seconds, metavar="SECONDS", help="kill each process that uses more CPU time")
    memory_help = f"memory of the sandbox; inf: no limit (default: {default.memory_limit_mb})"
    option("--memory", "--memory-limit-mb", dest="memory_limit_mb", type=_limit, metavar="MIB", help=memory_help)
    processes_help = f"processes and threads at a time; inf: no limit (default here: {default.max_processes})"
    option("--max-processes", type=_limit, metavar="N", help=processes_help)
    scratch_help = f"size of /tmp and /dev/shm together; inf: no limit (default: {default.scratch_size_mb})"
    option("--scratch", "--scratch-size-mb", dest="scratch_size_mb", type=_limit, metavar="MIB", help=scratch_help)
    output_help = "pass on that much of stdout and of stderr, and drop the rest (default: no limit; with --json 4 MiB)"
    option("--max-output-bytes", type=_limit, metavar="N", help=output_help)
    option("--ro", action="append", default=[], metavar="PATH", help="show PATH of the host inside, read-only")
    option("--rw", action="append", default=[], metavar="PATH", help="show PATH of the host inside, writable")
    bind_help = "show SRC of the host at DST inside: writable, or with :ro read-only"
    option("--bind", action="append", default=[], type=_bind, metavar="SRC:DST[:ro]", help=bind_help)
    workspace_help = (
        "attach DIR at /workspace and run there: writable, with :ro read-only, with :cow changes are discarded"
    )
    option("--workspace", type=_workspace, metavar="DIR[:ro|cow]", help=workspace_help)
    option("--workdir", metavar="DIR", help="working directory inside, which a relative --cwd is relative to")
    option("--python", action="store_true", help="show the Python that runs pysandpool, and its packages")
    option("--rootfs", metavar="DIR", help="use this directory tree as the root, read-only")
    env_help = "set the variable K to V, or copy K from this process"
    option("--env", action="append", default=[], metavar="K[=V]", type=_assignment, help=env_help)
    option("--cwd", metavar="DIR", help="working directory of the command inside (default: the private /tmp)")
    network_help = "loopback: TCP and UDP inside the sandbox; host: the network of the host (default: none)"
    option("--network", choices=("none", "loopback", "host"), help=network_help)
    option("--unix-sockets", action="store_true", help="allow unix sockets, which reach socket files of --ro and --rw")
    option("--allow-degradation", action="store_true", help=DEGRADE)
    keep = "pass standard input on even if it is a terminal"
    option("-i", "--interactive", "--stdin", dest="interactive", action="store_true", help=keep)
    option("-t", "--tty", action="store_true", help="run the command in a terminal of the sandbox; for a shell: -it")
    option("--json", action="store_true", help="print the result as one JSON object, in place of the output")
    option("command", nargs=argparse.REMAINDER, metavar="CMD ...", help="the command and its arguments, after --")
    parser.set_defaults(handler=handler, usage_error=parser.error)


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
    fields.update(degradation_of(args))
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


def degradation_of(args: argparse.Namespace) -> dict[str, Any]:
    """The field of SandboxConfig that --allow-degradation stands for."""
    return {"namespace_degradation": NamespaceDegradation.ALLOW_DEGRADATION} if args.allow_degradation else {}


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
