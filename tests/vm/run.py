"""Boots Debian's cloud kernels under qemu (no KVM needed), with cgroup v2, and runs tests there as root and as a user.

    python tests/vm/run.py [--kernel 5.10] [--suite attack] [--user root] [--resume] [pytest arguments]

The tests come in parts (suites.py), and each part is a boot. About ten seconds pass until its first test, and a test
takes some ten times as long as outside. The results of all parts are kept in build/vm/results.json: with --resume, a
run that was interrupted or had failures goes on with what has not passed yet. The table at the end has a line for each
part, and one for each kernel and user; the exit code is 0 when all passed. What is missing is fetched: qemu by apt-get
(as root), the kernels into build/vm.
"""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

import results
from boot import USERS, boot
from kernels import CACHE, RELEASES
from results import PASSED
from suites import SUITES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", choices=RELEASES, help="this kernel only; default: all of them")
    parser.add_argument("--suite", action="append", choices=SUITES, help="this part of the tests only")
    parser.add_argument("--user", action="append", choices=USERS, help="this user only")
    parser.add_argument("--resume", action="store_true", help="leave out what passed in the run before")
    parser.add_argument("--json", type=Path, default=CACHE / "results.json", help="where results are kept: %(default)s")
    options, arguments = parser.parse_known_args()
    uids = [USERS[name] for name in options.user or USERS]
    suites = {"chosen": tuple(arguments)} if arguments else {name: SUITES[name] for name in options.suite or SUITES}
    kept = results.read(options.json) if options.resume else []
    versions = options.kernel or list(RELEASES)
    for version in versions:
        for name, tests in suites.items():
            done = {row.uid for row in kept if (row.kernel, row.suite, row.verdict) == (version, name, PASSED)}
            wanted = [uid for uid in uids if uid not in done]
            if wanted:
                print(f"=== Linux {version}: {name}", flush=True)
                lines = boot(version, wanted, list(tests))
                new = results.of_console(lines, version, name, wanted, dt.date.today().isoformat())
                kept = results.replace(kept, new)
                results.write(options.json, kept)
    chosen = [row for row in kept if row.kernel in versions and row.suite in suites and row.uid in uids]
    print("\n" + results.table(chosen))
    return 0 if all(row.verdict == PASSED for row in chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
