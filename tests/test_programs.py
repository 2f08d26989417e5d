"""Programs that know nothing of sandboxes run unmodified, and say what they say outside."""

from __future__ import annotations

import pytest

from pysandpool import PooledSandbox

SCHEDULING = [
    ("nice -n 5 nice", b"5\n"),
    ("sleep 5 & renice -n 7 -p $! >/dev/null && ps -o ni= -p $! | tr -d ' '; kill $!", b"7\n"),
    ("renice -n 3 -p $$ >/dev/null; nice", b"3\n"),
    ("taskset -c 0 sh -c 'nproc'", b"1\n"),
    ("sleep 5 & taskset -pc 0 $! >/dev/null && taskset -pc $! | sed 's/.*: //'; kill $!", b"0\n"),
    ("chrt --idle 0 chrt -p 0 | grep -o SCHED_IDLE", b"SCHED_IDLE\n"),
    ("chrt --batch 0 true && echo batch", b"batch\n"),
    ("ionice -c 3 ionice", b"idle\n"),
    ("sleep 5 & ionice -c 2 -n 7 -p $! && ionice -p $!; kill $!", b"best-effort: prio 7\n"),
]


@pytest.mark.parametrize(("line", "output"), SCHEDULING)
def test_a_tenant_schedules_its_own_processes(sandbox: PooledSandbox, line: str, output: bytes) -> None:
    """What is refused is refused for init only."""
    result = sandbox.execute(["bash", "-c", line])
    assert (result.stdout, result.exit_code) == (output, 0), result
