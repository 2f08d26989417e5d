"""The command line: `python -m pysandpool {run,bench,doctor}`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pysandpool._config.sandbox import SandboxConfig, SeccompProfile
from pysandpool._errors import CommandNotFoundError, SandboxCreateError, SandpoolError
from pysandpool._pool.sandbox import Sandbox
from pysandpool.cli.bench import measure_pool, run_pool_benchmark
from pysandpool.cli.doctor import diagnose

# As timeout(1), env(1) and docker-run(1) have them.
EXIT_TIMEOUT = 124
EXIT_SETUP = 125
EXIT_NOT_FOUND = 127
EXIT_SIGNAL = 128

_RUN_EPILOG = (
    "Exit code: the command's; 128 + N when signal N killed it, 124 after the timeout, 127 when the command "
    "cannot be executed inside, 125 when no sandbox could be set up."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; argparse exits with 2 on a wrong command line."""
    args = _parser().parse_args(argv)
    code: int = args.handler(args)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pysandpool", description="Run untrusted commands in OS-level sandboxes.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="subcommand", required=True)
    _add_run(commands.add_parser("run", help="run one command in a fresh sandbox", epilog=_RUN_EPILOG))
    bench = commands.add_parser("bench", help="measure acquire and execute on this machine")
    bench.add_argument("--pool-size", type=int, default=8, metavar="N")
    bench.add_argument("--iterations", type=int, default=200, metavar="N")
    bench.add_argument("--json", action="store_true")
    bench.set_defaults(handler=_bench)
    doctor = commands.add_parser("doctor", help="report which isolation features work here, and how to enable the rest")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(handler=_doctor)
    return parser


class _Version(argparse.Action):
    # The action of argparse needs the version when the parser is made, and importing metadata takes 20 ms.
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        print(f"pysandpool {metadata.version('pysandpool')}")
        parser.exit()


def _add_run(run: argparse.ArgumentParser) -> None:
    defaults = SandboxConfig()
    run.add_argument("--memory-limit-mb", type=int, default=defaults.memory_limit_mb, metavar="MIB")
    run.add_argument("--max-processes", type=int, default=defaults.max_processes, metavar="N")
    run.add_argument("--scratch-size-mb", type=int, default=defaults.scratch_size_mb, metavar="MIB")
    run.add_argument("--timeout", type=float, default=defaults.timeout_secs, metavar="SECONDS", help="inf for no limit")
    run.add_argument("--ro", action="append", default=[], metavar="PATH", help="show PATH inside, read-only")
    run.add_argument("--rw", action="append", default=[], metavar="PATH", help="show PATH inside, writable")
    run.add_argument("--env", action="append", default=[], metavar="K=V", type=_assignment)
    run.add_argument("--cwd", metavar="DIR", help="working directory inside; the private /tmp by default")
    run.add_argument("--network", action="store_true", help="use the host's network")
    run.add_argument("--unix-sockets", action="store_true", help="allow AF_UNIX sockets")
    run.add_argument("--stdin", action="store_true", help="read standard input to its end, and pass it to the command")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD ...")
    run.set_defaults(handler=_run, usage_error=run.error)


def _assignment(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V")
    return key, value


def _config(args: argparse.Namespace) -> SandboxConfig:
    return SandboxConfig(
        memory_limit_mb=args.memory_limit_mb,
        max_processes=args.max_processes,
        scratch_size_mb=args.scratch_size_mb,
        timeout_secs=None if args.timeout == math.inf else args.timeout,
        fs_readonly=[Path(path).absolute() for path in args.ro],
        fs_readwrite=[Path(path).absolute() for path in args.rw],
        env_vars=dict(args.env),
        deny_network=not args.network,
        seccomp_profile=SeccompProfile.NETWORK if args.network else SeccompProfile.ESSENTIAL,
        allow_unix_sockets=args.unix_sockets,
    )


def _run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        args.usage_error("a command is missing: run [options] -- CMD ...")
    try:
        # ValueError: InvalidSandboxConfigError, and a NUL or the like in the command.
        with Sandbox(_config(args)) as sandbox:
            data = sys.stdin.buffer.read() if args.stdin else None
            result = sandbox.execute(command, input=data, cwd=args.cwd)
    except CommandNotFoundError as error:
        return _complain(error, EXIT_NOT_FOUND)
    except (SandpoolError, ValueError) as error:
        return _complain(error, EXIT_SETUP)
    _write(sys.stdout.buffer, result.stdout)
    _write(sys.stderr.buffer, result.stderr)
    if result.timed_out:
        return EXIT_TIMEOUT
    return EXIT_SIGNAL + (result.signal or 0) if result.exit_code is None else result.exit_code


def _write(stream: BinaryIO, data: bytes) -> None:
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        # The reader has closed the pipe. At exit Python flushes the rest, and would report the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _bench(args: argparse.Namespace) -> int:
    try:
        if args.json:
            print(json.dumps(dataclasses.asdict(measure_pool(args.pool_size, args.iterations))))
        else:
            run_pool_benchmark(args.pool_size, args.iterations)
    except (SandpoolError, ValueError) as error:
        return _complain(error, EXIT_SETUP)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    found = diagnose()
    print(json.dumps(dataclasses.asdict(found)) if args.json else "\n".join(found.lines()))
    return 0 if found.works else 1


def _complain(error: Exception, code: int) -> int:
    hint = error.hint if isinstance(error, SandboxCreateError) else ""
    message = str(error).replace(f"; hint: {hint}", "") if hint else str(error)
    print(f"pysandpool: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return code
