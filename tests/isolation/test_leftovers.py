"""What a command leaves running beside a process of `popen` ends soon, also if it forks faster than init kills."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysandpool import PoolConfig, PooledSandbox, SandboxConfig, SandboxPool

pytestmark = pytest.mark.slow

CHAINS = 100
PART = 8 << 20
LIMIT_MB = 64


@pytest.fixture(scope="module")
def relay() -> Iterator[Path]:
    program = Path(tempfile.mkdtemp(prefix="sandpool-relay-", dir="/var/tmp"), "relay")
    program.parent.chmod(0o755)
    subprocess.run(["cc", "-O1", "-static", Path(__file__).with_name("relay.c"), "-o", program], check=True)
    counts = program.with_name("counts") / "counts"
    counts.parent.mkdir()
    counts.parent.chmod(0o777)
    counts.write_bytes(bytes(4096))
    counts.chmod(0o666)
    yield program
    shutil.rmtree(program.parent)


@pytest.fixture
def lease(relay: Path) -> Iterator[PooledSandbox]:
    shown = SandboxConfig(
        memory_limit_mb=LIMIT_MB,
        max_processes=4000,
        fs_readonly=(relay,),
        fs_readwrite=(relay.with_name("counts"),),
    )
    with SandboxPool(shown, PoolConfig(min_size=0)) as pool, pool.acquire() as lease:
        yield lease


def test_chains_of_processes_that_fork_once_and_end(lease: PooledSandbox, relay: Path) -> None:
    """When they fork faster than init kills, everything in the sandbox is killed. It took 8 s to end 4000 of them."""
    lease.popen(["sleep", "60"])
    counts = relay.with_name("counts") / "counts"
    lease.execute([relay, counts, str(CHAINS), str(PART)], timeout=20)
    returned = time.monotonic_ns()
    _, last, touched = struct.unpack("3q", counts.read_bytes()[:24])
    assert touched > 0
    assert returned - last < 4e9
    time.sleep(0.05)
    assert struct.unpack("3q", counts.read_bytes()[:24])[1] == last, "none lives any more"
    assert lease.execute(["echo", "x"]).stdout == b"x\n", "the lease goes on"


def test_leftovers_that_fork_only_at_the_start_cost_nothing_else(lease: PooledSandbox) -> None:
    server = lease.popen(["sleep", "60"])
    for _ in range(5):
        script = f"for i in $(seq {CHAINS}); do (sleep 60 & sleep 60) & done; exit 3"
        assert lease.execute(["sh", "-c", script]).exit_code == 3
    assert server.poll() is None
    count = int(lease.execute(["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).stdout)
    assert count < 10, "init, the server, and these"
    server.kill()
