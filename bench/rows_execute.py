"""One command from its start until its output is there: in a warm sandbox, in a new one, and with a timeout."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from unittest.mock import patch

from lease import OURS, job, open_pool, wait_until_steady
from measure import Contender, Distribution, expect, interleave, rest
from peers import (
    BARE,
    BWRAP,
    ECHO,
    ECHO_OUT,
    SUBPROCESS,
    TRUE,
    Completed,
    bare,
    bwrap,
    completed_is,
    result_is,
    run_outside,
    spawn,
)
from row import Bench, Budget, Effort, Row

from pysandpool import NamespaceDegradation, Sandbox, SandboxConfig, SandboxResult
from pysandpool._backend.linux import TIER_VARIABLE

POOL_SIZE = 4
TIMEOUT = 10.0
UNCAPTURED = "subprocess.run(stdout=DEVNULL, timeout=10)"


def _others(times: Mapping[str, Sequence[float]]) -> str:
    """The other contenders of the round: the bare spawn, and bubblewrap if it runs here."""
    p50 = {name: Distribution.of(samples).p50 for name, samples in times.items()}
    return "in the same rounds: " + ", ".join(
        f"{name} {p50[name] * 1e3:.2f} ms ({p50[name] / p50[SUBPROCESS]:.2f} x {SUBPROCESS})"
        for name in (BARE, BWRAP)
        if name in p50
    )


def echo(effort: Effort) -> list[Row]:
    with open_pool(POOL_SIZE) as pool:
        times = interleave(
            [job(pool, ECHO, ECHO_OUT), spawn(ECHO, ECHO_OUT), bare(ECHO, ECHO_OUT), *bwrap(ECHO, ECHO_OUT)],
            effort.samples(1000, 100),
            between=lambda: wait_until_steady(pool),
        )
    samples = Distribution.of(times[OURS])
    return [
        Row(
            name="echo",
            figure='acquire + execute(["/bin/echo", "hello"]) + release, p50',
            unit="s",
            value=samples.p50,
            budget=Budget("ratio", "<=", 0.95),
            samples=samples,
            baseline=Distribution.of(times[SUBPROCESS]).p50,
            against=SUBPROCESS,
            note=_others(times),
        )
    ]


def tier_echo(effort: Effort) -> list[Row]:
    """A sandbox without namespaces, as if the kernel refused them."""
    config = SandboxConfig(namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)
    with patch.dict(os.environ, {TIER_VARIABLE: "landlock"}):
        pool = open_pool(POOL_SIZE, config)
    with pool:
        with pool.acquire() as sandbox:
            expect(sandbox.isolation.tier == "landlock", sandbox.isolation)
        times = interleave(
            [job(pool, ECHO, ECHO_OUT), spawn(ECHO, ECHO_OUT), bare(ECHO, ECHO_OUT), *bwrap(ECHO, ECHO_OUT)],
            effort.samples(1000, 100),
            between=lambda: wait_until_steady(pool),
        )
    samples = Distribution.of(times[OURS])
    return [
        Row(
            name="tier_echo",
            figure="the same in the Landlock tier, p50",
            unit="s",
            value=samples.p50,
            budget=Budget("ratio", "<=", 1.15),
            samples=samples,
            baseline=Distribution.of(times[SUBPROCESS]).p50,
            against=SUBPROCESS,
            note=_others(times),
        )
    ]


def _uncaptured() -> Completed:
    return run_outside(ECHO, stdout=subprocess.DEVNULL, timeout=TIMEOUT)


def deadline(effort: Effort) -> list[Row]:
    """`subprocess.run` waits in sleeps of 0.5 ms and more; if it captures, only after end-of-file."""
    with open_pool(POOL_SIZE) as pool:
        times = interleave(
            [
                job(pool, ECHO, ECHO_OUT, TIMEOUT),
                spawn(ECHO, ECHO_OUT, TIMEOUT),
                Contender(UNCAPTURED, _uncaptured, completed_is(None)),
            ],
            effort.samples(1000, 100),
            between=lambda: wait_until_steady(pool),
        )
    samples = Distribution.of(times[OURS])
    return [
        Row(
            name="timeout",
            figure="acquire + execute(echo, timeout=10) + release, p50",
            unit="s",
            value=samples.p50,
            budget=Budget("ratio", "<=", 0.60),
            samples=samples,
            baseline=Distribution.of(times[SUBPROCESS]).p50,
            against=f"{SUBPROCESS}(timeout=10)",
            note=f"against `{UNCAPTURED}` {samples.p50 / Distribution.of(times[UNCAPTURED]).p50:.2f} x",
        )
    ]


def one_off(config: SandboxConfig) -> Contender:
    def run() -> SandboxResult:
        sandbox = Sandbox(config)
        result = sandbox.execute(TRUE)
        sandbox.destroy()
        return result

    return Contender(OURS, run, result_is(b""))


def cold(effort: Effort) -> list[Row]:
    """Nothing is warm but the zygote, which the warm-up rounds start."""
    times = interleave(
        [one_off(SandboxConfig()), spawn(TRUE, b""), bare(TRUE, b""), *bwrap(TRUE, b"")],
        effort.samples(1000, 100),
        between=rest,
    )
    samples = Distribution.of(times[OURS])

    def row(name: str, peer: str, limit: float) -> Row:
        return Row(
            name=name,
            figure='Sandbox(config) + execute(["/bin/true"]) + destroy, p50',
            unit="s",
            value=samples.p50,
            budget=Budget("ratio", "<=", limit),
            samples=samples,
            baseline=Distribution.of(times[peer]).p50,
            against=peer,
            note=_others(times) if peer == SUBPROCESS else "",
        )

    rows = [row("cold", SUBPROCESS, 1.5)]
    if BWRAP in times:
        rows.append(row("cold_bwrap", BWRAP, 0.35))
    return rows


BENCHES = (
    Bench(("echo",), echo),
    Bench(("tier_echo",), tier_echo),
    Bench(("timeout",), deadline),
    Bench(("cold", "cold_bwrap"), cold),
)
