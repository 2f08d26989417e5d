"""The size of the host process must not matter: the same figures at 50 MiB and at 4 GiB resident."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from measure import Distribution, expect
from resident import ResidentHost
from row import Bench, Budget, Effort, Row

SMALL_MIB = 50
LARGE_MIB = 4096
LARGE_QUICK_MIB = 1024


@dataclass(frozen=True)
class Kind:
    name: str
    figure: str
    block: int  # samples before the other host's turn
    blocks: tuple[int, int]  # full, quick
    tail: bool = False  # p99 instead of p50


KINDS = (
    Kind("acquire", "`with pool.acquire(): pass`, p50", 20, (20, 5)),
    Kind("busy", "the same while 3 Python threads compute, p99", 5000, (20, 5), tail=True),
    Kind("echo", "acquire + execute(echo) + release, p50", 10, (50, 8)),
    Kind("cold", "Sandbox + execute(true) + destroy, p50", 10, (50, 8)),
)


def _row(kind: Kind, small: list[float], large: list[float], large_mib: int) -> Row:
    ours, base = Distribution.of(large), Distribution.of(small)
    return Row(
        name=f"resident_{kind.name}",
        figure=f"{kind.figure}, {large_mib / 1024:.0f} GiB resident in the host",
        unit="s",
        value=ours.p99 if kind.tail else ours.p50,
        budget=Budget("ratio", "<=", 1.15),
        samples=ours,
        baseline=base.p99 if kind.tail else base.p50,
        against=f"{SMALL_MIB} MiB",
    )


def resident(effort: Effort) -> list[Row]:
    large_mib = effort.samples(LARGE_MIB, LARGE_QUICK_MIB)
    rows = []
    with closing(ResidentHost(SMALL_MIB)) as small_host, closing(ResidentHost(large_mib)) as large_host:
        sizes = small_host.resident_mib, large_host.resident_mib
        expect(sizes[0] < 2 * SMALL_MIB and sizes[1] >= 0.98 * large_mib, f"the hosts have {sizes} MiB")
        for kind in KINDS:
            small: list[float] = []
            large: list[float] = []
            for _ in range(effort.samples(*kind.blocks)):
                small += small_host.sample(kind.name, kind.block)
                large += large_host.sample(kind.name, kind.block)
            rows.append(_row(kind, small, large, large_mib))
    return rows


BENCHES = (Bench(tuple(f"resident_{kind.name}" for kind in KINDS), resident),)
