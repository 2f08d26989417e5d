"""The command line: `python -m pysandpool {run,shell,bench,doctor}`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pysandpool._backend.forbidden import apparmor_text
from pysandpool._backend.seccomp_profile import for_sandboxes
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandpoolError
from pysandpool.cli.bench import format_result, measure_pool
from pysandpool.cli.doctor import diagnose
from pysandpool.cli.options import DEGRADE, add_options, degradation_of
from pysandpool.cli.plot import PlotError, check_plot, curves, draw
from pysandpool.cli.run import EXIT_CODES, run, shell
from pysandpool.cli.say import EXIT_SETUP, EXIT_SIGNAL, complain


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; argparse exits with 2 on a wrong command line."""
    try:
        args = parser_of_all().parse_args(argv)
        code: int = args.handler(args)
    except KeyboardInterrupt:
        code = EXIT_SIGNAL + signal.SIGINT
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Only the exit of the program is left. An interrupt ends it at once, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def parser_of_all() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="pysandpool", description="Run untrusted commands in OS-level sandboxes.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="subcommand", required=True)

    def command(name: str, does: str, **more: Any) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", **more)

    usage = "%(prog)s [options] -- CMD ..."
    add_options(command("run", "run one command in a fresh sandbox", usage=usage, epilog=EXIT_CODES), run)
    usage = "%(prog)s [options] [-- CMD ...]"
    add_options(command("shell", "run a shell, or CMD, in a terminal of a fresh sandbox", usage=usage), shell)
    bench = command("bench", "measure acquire and execute on this machine")
    option = bench.add_argument
    option("--pool-size", type=int, default=8, metavar="N", help="idle sandboxes of the pool (default: %(default)s)")
    option("--iterations", type=int, default=200, metavar="N", help="calls of each kind (default: %(default)s)")
    option("--allow-degradation", action="store_true", help=DEGRADE)
    option("--json", action="store_true", help="print the result as one JSON object")
    option("--plot", type=Path, metavar="FILE", help="also draw the distributions (needs pysandpool[plot])")
    bench.set_defaults(handler=_bench)
    doctor = command("doctor", "report which isolation features work here, and how to enable the rest")
    shown = doctor.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print the report as one JSON object")
    shown.add_argument("--fix", action="store_true", help="print only the commands that enable what is missing")
    shown.add_argument("--seccomp-profile", action="store_true", help="print a seccomp profile for containers (JSON)")
    shown.add_argument("--apparmor-profile", action="store_true", help="print an AppArmor profile, for Ubuntu")
    doctor.set_defaults(handler=_doctor)
    return parser


class _Version(argparse.Action):
    # The action of argparse needs the version when the parser is made, and importing metadata takes 20 ms.
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        print(f"pysandpool {metadata.version('pysandpool')}")
        parser.exit()


def _bench(args: argparse.Namespace) -> int:
    try:
        if args.plot:
            check_plot(args.plot)
        config = SandboxConfig(**degradation_of(args))
        samples = measure_pool(args.pool_size, args.iterations, config)
        result = samples.result()
        print(json.dumps(dataclasses.asdict(result)) if args.json else format_result(result))
        if args.plot:
            draw(args.plot, curves(samples, config), f"One call, {args.iterations} of each kind")
    except (SandpoolError, PlotError, ValueError, OSError) as error:
        return complain(error, EXIT_SETUP)
    return 0


def _doctor(args: argparse.Namespace) -> int:
    if args.seccomp_profile:
        try:
            print(json.dumps(for_sandboxes(), indent=1))
        except ValueError as error:
            return complain(error, EXIT_SETUP)
        return 0
    if args.apparmor_profile:
        print(apparmor_text(), end="")
        return 0
    found = diagnose()
    if args.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print("\n".join(found.commands() if args.fix else found.lines()))
    return 0 if found.works else 1
