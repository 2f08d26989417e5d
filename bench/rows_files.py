"""1 MiB into a file of a sandbox, and out of it."""

from __future__ import annotations

from lease import open_pool
from measure import Contender, Distribution, expect, interleave
from row import Bench, Budget, Effort, Row

MIB = 1024 * 1024
WRITE, READ = "write_file", "read_file"
DATA = bytes(range(256)) * (MIB // 256)


def files(effort: Effort) -> list[Row]:
    with open_pool(2) as pool, pool.acquire() as sandbox:
        sandbox.write_file("read", DATA)
        write = Contender(
            WRITE,
            lambda: sandbox.write_file("written", DATA),
            lambda _: expect(sandbox.read_file("written") == DATA, "the file has other bytes"),
        )
        read = Contender(READ, lambda: sandbox.read_file("read"), lambda found: expect(found == DATA, "other bytes"))
        times = interleave([write, read], effort.samples(500, 30), between=lambda: None)
    return [
        _row("file_write", "1 MiB into a file, p50", Distribution.of(times[WRITE])),
        _row("file_read", "1 MiB out of a file, p50", Distribution.of(times[READ])),
    ]


def _row(name: str, figure: str, times: Distribution) -> Row:
    return Row(name=name, figure=figure, unit="s", value=times.p50, budget=Budget("value", "<=", 0.001), samples=times)


BENCHES = (Bench(("file_write", "file_read"), files),)
