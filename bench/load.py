"""Load on a FastAPI service whose requests each run /bin/echo: in a sandbox, by `asyncio.create_subprocess_exec`, and
by `subprocess.run` on threads. It needs the extra `test`, and `wrk` (apt-get install wrk).

    python bench/load.py --seconds 5 --rounds 3 --connections 50

Each event loop is a service of its own, and is measured by itself: uvicorn takes uvloop by default if it is installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
OURS, EXEC, RUN = "pysandpool", "subprocess_exec", "subprocess_run"
LOOPS = ("asyncio", "uvloop")
PORT = 18231
BUDGETS = ((EXEC, 1.3, 1.0), (RUN, 0.85, None))
"""The peer, the least ratio of requests a second, and the largest of p99."""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@contextmanager
def service(loop: str, cgroup: Path | None = None) -> Iterator[tuple[str, int]]:
    """The address and the pid of the service, which runs meanwhile, in `cgroup` if there is one."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", os.fspath(HERE), "--port", str(PORT), "--loop", loop]
    command += ["--log-level", "warning", "--no-access-log", "load_app:app"]
    if cgroup is not None:
        command = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', os.fspath(cgroup / "cgroup.procs"), *command]
    with subprocess.Popen(command) as server:
        try:
            address = f"http://127.0.0.1:{PORT}"
            _await_service(f"{address}/{OURS}")
            yield address, server.pid
        finally:
            server.terminate()


def _await_service(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                answer.read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def load(url: str, connections: int, seconds: int) -> tuple[float, float, int]:
    """Requests a second, the p99 of their latency in seconds, and their number."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s", url],
        capture_output=True,
        text=True,
        check=True,
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"{url} has failed requests:\n{done.stdout}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    assert rate is not None
    assert late is not None
    assert count is not None
    return float(rate[1]), float(late[1]) * _UNITS[late[2]], int(count[1])


def compare(loop: str, options: argparse.Namespace) -> bool:
    """Measures the three endpoints in turns, in a service with this event loop. True if every budget is met."""
    found: dict[str, list[tuple[float, float, int]]] = {OURS: [], EXEC: [], RUN: []}
    with service(loop) as (address, _):
        for name in found:
            load(f"{address}/{name}", options.connections, 1)
        for _ in range(options.rounds):
            for name, measured in found.items():
                measured.append(load(f"{address}/{name}", options.connections, options.seconds))
    rates = {name: median(rate for rate, _, _ in measured) for name, measured in found.items()}
    tails = {name: median(late for _, late, _ in measured) for name, measured in found.items()}
    print(f"{loop}, {options.connections} connections, {options.rounds} rounds of {options.seconds} s")
    for name in found:
        print(f"  {name:16} {rates[name]:8.0f} requests/s   p99 {tails[name] * 1e3:8.1f} ms")
    met = True
    for peer, least, most in BUDGETS:
        rate, late = rates[OURS] / rates[peer], tails[OURS] / tails[peer]
        met = met and rate >= least and (most is None or late <= most)
        limit = f"{rate:.2f} x (>= {least}), p99 {late:.2f} x" + (f" (<= {most})" if most else "")
        print(f"  against {peer}: {limit}", flush=True)
    return met


def main() -> int:
    """0 if every budget is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=LOOPS, action="append", help="this event loop only; default: all of them")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    met = [compare(loop, options) for loop in options.loop or LOOPS]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
