"""The plot of `pysandpool bench --plot FILE`: how many calls took at most how long."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

from pysandpool._config.interpreter import Interpreter
from pysandpool._config.pool import PoolConfig
from pysandpool._config.sandbox import SandboxConfig
from pysandpool._errors import SandboxError
from pysandpool._execute.encode import BASE_ENV
from pysandpool._pool.pool import SandboxPool
from pysandpool.cli.bench import ECHO, ECHO_STDOUT, PoolSamples

_CODE = "print('hello')"
_INSTALL = "a plot needs matplotlib: pip install 'pysandpool[plot]'"


class PlotError(Exception):
    """The plot cannot be drawn; the message says how to change that."""


def check_plot(path: Path) -> None:
    """Raises PlotError unless a plot can be written there. Called before minutes are spent on measuring."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise PlotError(_INSTALL) from error
    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds:
        raise PlotError(f"{path}: the name must end in one of .{', .'.join(sorted(kinds))}")
    if not path.absolute().parent.is_dir():
        raise PlotError(f"{path}: there is no directory {path.absolute().parent}")


def curves(samples: PoolSamples, config: SandboxConfig) -> dict[str, list[float]]:
    """The distributions that are drawn, in microseconds, and beside them those of plain subprocesses. Those of code are
    left out where the sandboxes can have no interpreter."""
    count = samples.iterations
    found = {
        "hot acquire": samples.hot,
        "cold acquire": samples.cold,
        "acquire + echo + release": samples.execute,
        "subprocess.run, no sandbox": _subprocess_times(ECHO, ECHO_STDOUT, count),
    }
    code = _code_times(config, samples.pool_size, count)
    if code is not None:
        found["pool.run_code"] = code
        found["python -c, no sandbox"] = _subprocess_times((sys.executable, "-I", "-c", _CODE), b"hello\n", count)
    return found


def draw(path: Path, times: Mapping[str, Sequence[float]], title: str) -> None:
    """Writes the cumulative distributions of `times`, in microseconds, on a logarithmic axis.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, values in times.items():
        if values:
            axes.ecdf(values, label=name)
    axes.set(title=title, xscale="log", xlabel="microseconds", ylabel="share of the calls", ylim=(0, 1))
    axes.axhline(0.99, color="0.7", linewidth=0.8, linestyle=":")
    axes.grid(visible=True, which="both", axis="x", linewidth=0.3)
    axes.legend(loc="best")
    figure.savefig(path, dpi=150)


def _code_times(config: SandboxConfig, pool_size: int, count: int) -> list[float] | None:
    try:
        with_interpreter = replace(config, interpreter=Interpreter())
        pool = SandboxPool(with_interpreter, PoolConfig(pool_size, pool_size, max_idle_duration=None))
    except SandboxError:
        return None
    times = []
    with pool:
        for _ in range(count):
            start = perf_counter_ns()
            result = pool.run_code(_CODE)
            times.append((perf_counter_ns() - start) / 1e3)
            if result.exit_code != 0 or result.stdout != "hello\n":
                raise RuntimeError(f"run_code({_CODE!r}) returned {result!r}")
    return times


def _subprocess_times(command: Sequence[str], stdout: bytes, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = perf_counter_ns()
        done = subprocess.run(command, env=dict(BASE_ENV), capture_output=True, check=False)
        times.append((perf_counter_ns() - start) / 1e3)
        if done.returncode != 0 or done.stdout != stdout:
            raise RuntimeError(f"{command} returned {done!r}")
    return times
