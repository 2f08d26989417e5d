"""Places of the table in docs/deployment.md that are machines of their own, or look like other distributions.

Debian's kernels run under qemu, see tests/vm, and all rows of a kernel come from one boot. NixOS and musl are imitated:
by a root directory with its programs in /nix/store, and by a zygote that is linked with musl.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "vm")]

import boot  # noqa: E402
import kernels  # noqa: E402
import other_libc  # noqa: E402
import results  # noqa: E402
from place import DOCTOR, Place, only_root, report_of, report_of_script  # noqa: E402
from suites import SUITES  # noqa: E402

# Of each kernel, the places of tests/vm/places.py.
_HOW = {
    "root": "root",
    "user": "an ordinary user",
    "kernel.unprivileged_userns_clone": "`kernel.unprivileged_userns_clone = 0`",
}
_NAMES = {"bullseye": "Debian 11", "bookworm": "Debian 12", "trixie": "Debian 13"}
RESULTS = kernels.CACHE / "results.json"
RELEASE = "Debian's kernel"
"""The name of the last row of the table of tests."""


def of_machines() -> Iterator[Place]:
    for version in kernels.RELEASES:
        for key, how in _HOW.items():
            report = functools.partial(_of_kernel, version, key)
            yield Place(_name(version, how), report, _no_qemu, times=1)
    yield Place("NixOS: programs in `/nix/store`, no `/bin` but `sh`", lambda _: report_of(_nix()), only_root, times=1)
    for libc, compiler in {"1.2.3": _musl_gcc, "1.2.5": _zig}.items():
        report, missing = functools.partial(_of_musl, libc, compiler), functools.partial(_no_musl, compiler)
        yield Place(f"musl {libc} (Alpine)", report, missing, times=1)


# ---- kernels ----


def _name(version: str, how: str) -> str:
    return f"Linux {version} ({_NAMES[kernels.RELEASES[version]]}), {how}"


def tests_passed(before: str) -> str:
    """What tests/vm/run.py has kept: of each kernel and user, the tests that passed in each part, and when.

    `before`: the table as it is. What was not run since keeps its cell there, with its date.
    """
    kept = {(one.kernel, one.uid, one.suite): one for one in results.read(RESULTS)}
    columns = [(version, user) for version in kernels.RELEASES for user in boot.USERS]
    head = ["tests", *(f"{version}, {user}" for version, user in columns)]
    old = _cells_of(before)
    lines = [head]
    for suite in SUITES:
        ran = [kept.get((version, boot.USERS[user], suite)) for version, user in columns]
        name = f"`{suite}`"
        lines.append([name, *(_cell(one) or old.get((name, column), "not run") for one, column in zip(ran, head[1:]))])
    releases = []
    for (version, user), column in zip(columns, head[1:]):
        found = {one.release for one in kept.values() if (one.kernel, one.uid) == (version, boot.USERS[user])}
        earlier = {name for name in old.get((RELEASE, column), "").split(", ") if name}
        releases.append(", ".join(sorted({name.removesuffix("-cloud-amd64") for name in found} | earlier)))
    lines.append([RELEASE, *releases])
    made = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([made[0], "|---" * len(head) + "|", *made[1:]])


def _cells_of(table: str) -> dict[tuple[str, str], str]:
    """The cells by the names of their row and column."""
    head, *rows = [line[2:-2].split(" | ") for line in table.splitlines() if line.startswith("| ")] or [[""]]
    return {(row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:])}


def _cell(result: results.Result | None) -> str:
    if result is None:
        return ""
    if result.verdict != results.PASSED:
        return f"failed ({result.date})"
    counts = dict(zip(results.WORDS, result.counts))
    others = [f"{counts[word]} {word}" for word in ("skipped", "xfailed") if counts[word]]
    return f"{counts['passed']}{''.join(f', {other}' for other in others)} ({result.date})"


def _no_qemu() -> str:
    return "" if shutil.which("qemu-system-x86_64") else "qemu is not installed: apt-get install qemu-system-x86"


@functools.cache
def _boot(version: str) -> dict[str, list[dict[str, Any]]]:
    """The reports of each place: as it is, and with the hint followed."""
    lines = boot.boot(version, [0], ["-s", "tests/vm/places.py"])
    told = [json.loads(line.partition(": ")[2]) for line in lines if line.startswith("place: ")]
    return {name: reports for name, *reports in told}


def _of_kernel(version: str, key: str, commands: Sequence[str]) -> dict[str, Any]:
    return _boot(version)[key][1 if commands else 0]


# ---- another layout ----


def _nix() -> list[str]:
    """A root with /bin/sh and /usr/bin/env alone, as links into /nix/store, which has what the host's /usr/bin has."""
    make = """
        mount -t tmpfs -o mode=755 tmpfs /mnt
        mkdir /mnt/root
        cd /mnt/root
        for one in /*; do
            case $one in /bin|/sbin|/usr|/nix|/mnt) continue ;; esac
            if [ -L "$one" ]; then cp -P "$one" .; elif [ -d "$one" ]; then
                mkdir ".$one"
                mount --rbind "$one" ".$one"
            fi
        done
        mkdir -p bin usr/bin usr/lib nix/store/programs/bin mnt
        mount --bind /usr/lib usr/lib
        for one in /usr/lib?*; do [ -d "$one" ] && mkdir ".$one" && mount --bind "$one" ".$one"; done
        mount --bind /usr/bin nix/store/programs/bin
        ln -s /nix/store/programs/bin/sh bin/sh
        ln -s /nix/store/programs/bin/env usr/bin/env
        mount --rbind . .
        cd /mnt/root
        pivot_root . .
        PATH=/nix/store/programs/bin
        umount -l /
    """
    run = f"{sys.executable} -m pysandpool run --allow-degradation"
    check = f'[ "$({run} -- /bin/sh -c "/usr/bin/env /nix/store/programs/bin/echo hi")" = hi ]'
    return ["unshare", "--mount", "sh", "-ec", f'{make}\n{check}\nexec "$@"', "sh", *DOCTOR]


# ---- another C library ----


def _musl_gcc() -> list[str]:
    return ["musl-gcc", "-isystem", os.fspath(other_libc.kernel_headers())]


def _zig() -> list[str]:
    return other_libc.zig(f"{os.uname().machine}-linux-musl")


def _no_musl(compiler: Callable[[], list[str]]) -> str:
    if compiler is _musl_gcc:
        return "" if shutil.which("musl-gcc") else "musl-gcc is not installed: apt-get install musl-tools"
    found = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False)
    return "" if found.returncode == 0 else "zig is not installed: pip install ziglang"


def _of_musl(libc: str, compiler: Callable[[], list[str]], _: Sequence[str]) -> dict[str, Any]:
    """The program that creates the sandboxes is the C library's; the interpreter around it stays this one."""
    program = other_libc.zygote(f"musl-{libc}", compiler())
    use = f"from pathlib import Path; linux.PROGRAMS = Path({str(program.parent)!r})"
    return report_of_script(f"from pysandpool._backend import linux; {use}")
