"""Warm interpreters: a snippet of Python in a fresh sandbox, what such an entry costs, and branches of a session."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from at_once import rates_at_once
from lease import OURS, open_pool, wait_until_steady
from measure import Contender, Distribution, expect, interleave
from peers_code import (
    COLD,
    COLD_IMPORTS,
    DATAFRAME,
    DATAFRAME_OUT,
    PRINT,
    PRINT_OUT,
    cold,
    forkserver,
    in_process,
    snippet,
)
from row import Bench, Budget, Effort, Row

from pysandpool import Interpreter, PoolConfig, PooledSandbox, SandboxConfig, SandboxPool

POOL_SIZE = 4
THREADS = 2
PANDAS = ("numpy", "pandas")
WARMUP = 'import pandas; pandas.DataFrame({"a": range(3)}).a.sum()'
MIB = 1024 * 1024
KEEPER = "sandpool-keeper\n"  # it has the memory of the standby
STATE = "state = bytearray({size})\nfor at in range(0, len(state), 4096): state[at] = 1"


def _config(*preload: str, warmup: str | None = None) -> SandboxConfig:
    return SandboxConfig(interpreter=Interpreter(preload=preload, warmup=warmup), fs_python=True)


def _others(times: Mapping[str, Sequence[float]], baseline: str) -> str:
    base = Distribution.of(times[baseline]).p50
    figures = {name: Distribution.of(samples).p50 for name, samples in times.items() if name not in (OURS, baseline)}
    if not figures:
        return ""
    return "in the same rounds: " + ", ".join(f"{n} {p * 1e3:.2f} ms ({p / base:.3f} x)" for n, p in figures.items())


def _row(name: str, figure: str, limit: float, times: Mapping[str, Sequence[float]], against: str) -> Row:
    samples = Distribution.of(times[OURS])
    return Row(
        name=name,
        figure=figure,
        unit="s",
        value=samples.p50,
        budget=Budget("ratio", "<=", limit),
        samples=samples,
        baseline=Distribution.of(times[against]).p50,
        against=against,
        note=_others(times, against),
    )


def bare(effort: Effort) -> list[Row]:
    with open_pool(POOL_SIZE, _config()) as pool:
        times = interleave(
            [snippet(pool, PRINT, PRINT_OUT), cold(PRINT, PRINT_OUT), forkserver(PRINT, PRINT_OUT),
             in_process(PRINT, PRINT_OUT)],
            effort.samples(500, 60),
            between=lambda: wait_until_steady(pool),
        )  # fmt: skip
    return [_row("code", '`pool.run_code("print(1)")`, p50', 0.12, times, COLD)]


def loaded(effort: Effort) -> list[Row]:
    with open_pool(POOL_SIZE, _config(*PANDAS)) as pool:
        times = interleave(
            [snippet(pool, PRINT, PRINT_OUT), cold(PRINT, PRINT_OUT)],
            effort.samples(500, 60),
            between=lambda: wait_until_steady(pool),
        )
    return [_row("code_loaded", "the same with numpy and pandas loaded, p50", 0.15, times, COLD)]


def dataframe(effort: Effort) -> list[Row]:
    with open_pool(POOL_SIZE, _config(*PANDAS, warmup=WARMUP)) as pool:
        code = f"import pandas; {DATAFRAME}"
        times = interleave(
            [snippet(pool, code, DATAFRAME_OUT), cold(code, DATAFRAME_OUT, imports=True)],
            effort.samples(60, 10),
            between=lambda: wait_until_steady(pool),
        )
    figure = "`run_code` makes a DataFrame (preload, warmup), p50"
    return [_row("code_dataframe", figure, 0.015, times, COLD_IMPORTS)]


def rate(effort: Effort) -> list[Row]:
    count = effort.samples(100, 40)
    with open_pool(2 * POOL_SIZE, _config()) as pool:
        contenders = [snippet(pool, PRINT, PRINT_OUT), cold(PRINT, PRINT_OUT)]
        rates = rates_at_once(contenders, THREADS, count, effort.samples(10, 3), lambda: wait_until_steady(pool))
    return [
        Row(
            name="code_rate",
            figure=f"snippets per second, {THREADS} threads, bare, a fresh sandbox each",
            unit="snippets/s",
            value=Distribution.of(rates[OURS].per_second).p50,
            budget=Budget("ratio", ">=", 1.3),
            samples=Distribution.of(rates[OURS].latencies),
            samples_unit="s",
            baseline=Distribution.of(rates[COLD].per_second).p50,
            against=f"{COLD} on {THREADS} threads",
        )
    ]


def _creation(pool: SandboxPool) -> Contender:
    """An acquire of an empty pool creates the sandbox; its release, which ends an unused one, is not timed."""

    def check(lease: PooledSandbox) -> None:
        lease.release()

    return Contender("", pool.acquire, check)


def creation(effort: Effort) -> list[Row]:
    """Pools of size 0 keep nothing: each acquire creates one sandbox."""
    size = PoolConfig(min_size=0, max_size=1, max_idle_duration=0.001)
    kinds = {"plain": SandboxConfig(), "bare": _config(), "loaded": _config(*PANDAS)}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(SandboxPool(config, size)) for name, config in kinds.items()}

        def emptied() -> None:
            for pool in pools.values():
                wait_until_steady(pool)
                deadline = time.monotonic() + 5
                while pool.idle_len():
                    pool.warm(0)
                    expect(time.monotonic() < deadline, "an idle sandbox does not expire")
                    time.sleep(0.001)

        contenders = [Contender(name, _creation(pool).run, _creation(pool).check) for name, pool in pools.items()]
        times = interleave(contenders, effort.samples(200, 30), between=emptied)
    plain = Distribution.of(times["plain"]).p50
    return [
        Row(
            name=f"code_create_{name}",
            figure=f"creation of an entry with a warm interpreter, {what}, p50",
            unit="s",
            value=Distribution.of(times[name]).p50,
            budget=Budget("ratio", "<=", limit),
            samples=Distribution.of(times[name]),
            baseline=plain,
            against="a plain entry",
        )
        for name, what, limit in (("bare", "bare", 4.0), ("loaded", "numpy and pandas loaded", 8.0))
    ]


def _private_bytes(init: int) -> int:
    """Private memory of a sandbox's init and of its standby, by the kernel's sum of their mappings."""
    total = 0
    children = Path(f"/proc/{init}/task/{init}/children").read_text(encoding="ascii").split()
    for pid in (str(init), *children):
        if Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == KEEPER:
            continue
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1]) * 1024
    return total


def memory(effort: Effort) -> list[Row]:
    rows = []
    for name, preload, what, limit in (("bare", (), "bare", 2.0), ("loaded", PANDAS, "numpy and pandas loaded", 3.0)):
        with open_pool(POOL_SIZE, _config(*preload)) as pool:
            samples = []
            for _ in range(effort.samples(20, 5)):
                with pool.acquire() as lease:
                    samples.append(_private_bytes(lease.pid) / 1e6)
                    expect(lease.run_code(PRINT).stdout == PRINT_OUT, "stdout differs")
        found = Distribution.of(samples)
        rows.append(
            Row(
                name=f"code_memory_{name}",
                figure=f"private memory of an idle entry with a warm interpreter, {what}, median",
                unit="MB",
                value=found.p50,
                budget=Budget("value", "<=", limit),
                samples=found,
                note="init and standby",
            )
        )
    return rows


def branches(effort: Effort) -> list[Row]:
    rows = []
    for megabytes, limit in ((10, 1.5e-3), (100, 4e-3)):
        times = []
        with open_pool(2, _config()) as pool, pool.acquire() as lease, lease.session() as session:
            session.run(STATE.format(size=megabytes * MIB))
            for number in range(effort.samples(100, 20)):
                start = time.perf_counter()
                (copy,) = session.branch(1)
                times.append(time.perf_counter() - start)
                with copy:
                    copy.run(f"state[0] = {number % 200}")
                    expect(copy.run("print(state[0])").stdout == f"{number % 200}\n", "stdout differs")
        rows.append(
            Row(
                name=f"branch_{megabytes}",
                figure=f"`session.branch(1)` at {megabytes} MB of state, p50",
                unit="s",
                value=Distribution.of(times).p50,
                budget=Budget("value", "<=", limit),
                samples=Distribution.of(times),
            )
        )
    return rows


BENCHES = (
    Bench(("code",), bare),
    Bench(("code_loaded",), loaded),
    Bench(("code_dataframe",), dataframe),
    Bench(("code_rate",), rate),
    Bench(("code_create_bare", "code_create_loaded"), creation),
    Bench(("code_memory_bare", "code_memory_loaded"), memory),
    Bench(("branch_10", "branch_100"), branches),
)
