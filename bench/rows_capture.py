"""A command that writes much: bytes per second from its stdout into a Python bytes object."""

from __future__ import annotations

from lease import OURS, job, open_pool, wait_until_steady
from measure import Distribution, interleave
from peers import SUBPROCESS, spawn
from row import Bench, Budget, Effort, Row

from pysandpool import SandboxConfig

MIB = 1024 * 1024
SIZE = 10 * MIB
FLOOD = ["/usr/bin/head", "-c", str(SIZE), "/dev/zero"]


def capture(effort: Effort) -> list[Row]:
    zeros = bytes(SIZE)
    with open_pool(2, SandboxConfig(max_output_bytes=SIZE + MIB)) as pool:
        times = interleave(
            [job(pool, FLOOD, zeros), spawn(FLOOD, zeros)],
            effort.samples(200, 20),
            between=lambda: wait_until_steady(pool),
        )
    ours = Distribution.of(times[OURS])
    return [
        Row(
            name="capture",
            figure="10 MiB of stdout captured, throughput at p50",
            unit="MiB/s",
            value=SIZE / MIB / ours.p50,
            budget=Budget("ratio", ">=", 0.9),
            samples=ours,
            samples_unit="s",
            baseline=SIZE / MIB / Distribution.of(times[SUBPROCESS]).p50,
            against=SUBPROCESS,
        )
    ]


BENCHES = (Bench(("capture",), capture),)
