"""`acquire(workspace=)`: what attaching a directory to an idle sandbox adds to an acquire."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import Distribution
from row import Bench, Budget, Effort, Row

from pysandpool import PoolConfig, SandboxConfig, SandboxPool, Workspace

FILES = 20
MODES = ("rw", "ro", "cow")


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sandpool-bench-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        for number in range(FILES):
            Path(name, f"file-{number}").write_text("content\n")
        yield Path(name)


def attach(pool: SandboxPool, workspace: Workspace) -> float:
    """Seconds of one acquire. The command shows that the directory is there."""
    pool.settle(5)
    started = time.perf_counter()
    with pool.acquire(workspace=workspace) as lease:
        seconds = time.perf_counter() - started
        assert lease.execute(["/bin/cat", "file-7"]).check().stdout == b"content\n"
    return seconds


def attached(effort: Effort) -> list[Row]:
    """The modes take turns, so that all of them meet the same noise."""
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    with directory() as path, SandboxPool(SandboxConfig(), PoolConfig(min_size=2, max_size=4)) as pool:
        for _ in range(effort.samples(400, 60)):
            for mode in MODES:
                times[mode].append(attach(pool, Workspace(path, mode)))
    return [
        Row(
            name=f"workspace_{mode}",
            figure=f"`acquire(workspace=)`, {mode}, p50",
            unit="s",
            value=Distribution.of(times[mode]).p50,
            budget=Budget("value", "<=", 0.3e-3 if mode != "cow" else 0.5e-3),
            samples=Distribution.of(times[mode]),
            note=f"a directory of {FILES} files, attached to an idle sandbox",
        )
        for mode in MODES
    ]


BENCHES = (Bench(tuple(f"workspace_{mode}" for mode in MODES), attached),)
