"""Attacks on a host that reads what a tenant has left: the control is a host that opens the path itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from stage import MARK, Stage

from pysandpool import PooledSandbox

Verdicts = tuple[str, str]
_OF_HOST = b"of the host"


def _judge(reached: bool, what: str) -> str:
    return f"{'REACHED' if reached else 'HELD'} {what}"


def _content(read: Callable[[], bytes], wanted: bytes) -> str:
    try:
        found = read()
    except OSError as error:
        return f"HELD {error!r}"
    return _judge(wanted in found, repr(found[:40]))


def read_through_link(stage: Stage) -> Verdicts:
    secret, planted = stage.values["secret"], stage.scratch / "report"
    planted.symlink_to(secret)
    control = _content(planted.read_bytes, _OF_HOST)
    with stage.pool().acquire() as sandbox:
        sandbox.execute(["ln", "-s", secret, "report"]).check()
        return control, _content(lambda: sandbox.read_file("report"), _OF_HOST)


def write_through_link(stage: Stage) -> Verdicts:
    """The victim is a file of the host that the tenant cannot write to."""
    control_victim, victim = stage.outside / "written-by-control", stage.outside / "written"
    planted = stage.scratch / "out"
    for path in (control_victim, victim):
        path.write_bytes(b"before")
    planted.symlink_to(control_victim)
    planted.write_bytes(b"after")
    control = _judge(control_victim.read_bytes() == b"after", "a file of the host was written")
    with stage.pool().acquire() as sandbox:
        sandbox.execute(["ln", "-s", str(victim), "out"]).check()
        sandbox.write_file("out", b"after")
        with sandbox.open("out", "r+b") as file:
            file.write(b"after")
        return control, _judge(victim.read_bytes() != b"before", "a file of the host was written")


def read_waits_for_fifo(stage: Stage) -> Verdicts:
    planted = stage.scratch / "fifo"
    os.mkfifo(planted)
    reader = threading.Thread(target=planted.read_bytes, daemon=True)
    reader.start()
    reader.join(0.5)
    control = _judge(reader.is_alive(), "the host waits")
    with planted.open("wb"):
        pass
    reader.join()
    with stage.pool().acquire() as sandbox:
        sandbox.execute(["mkfifo", "fifo"]).check()
        started = time.monotonic()
        verdict = _content(lambda: sandbox.read_file("fifo"), b"")
    waited = time.monotonic() - started
    return control, _judge(waited > 0.4 or verdict.startswith("REACHED"), f"answered after {waited:.3f} s: {verdict}")


def download_through_link(stage: Stage) -> Verdicts:
    tree, copy = stage.scratch / "tree", stage.scratch / "copies"
    (tree / "d").mkdir(parents=True)
    copy.mkdir()
    (tree / "d" / "link").symlink_to(stage.outside)
    shutil.copytree(tree, copy / "control", ignore_dangling_symlinks=True)
    control = _judge(_has_secret(copy / "control"), "a copy of a file of the host")
    with stage.pool().acquire() as sandbox:
        sandbox.execute(["sh", "-c", "mkdir -p tree/d; ln -s $0 tree/d/link", str(stage.outside)]).check()
        left_out = sandbox.download("tree", copy / "inside")
    return control, _judge(_has_secret(copy / "inside"), f"left out: {left_out}")


def _has_secret(folder: Path) -> bool:
    return any(_OF_HOST in path.read_bytes() for path in folder.rglob("*/secret"))


def read_own_process(stage: Stage) -> Verdicts:
    """A link to a file of /proc shows whoever opens it: a host its own environment, and init its own memory."""
    planted = stage.scratch / "log"
    planted.symlink_to("/proc/self/environ")
    host = ["cat", os.fspath(planted)]
    shown = subprocess.run(host, env={"SECRET": MARK}, stdout=subprocess.PIPE, check=True).stdout
    control = _judge(MARK.encode() in shown, repr(shown[:40]))
    # The program of an interpreter's process is the interpreter, which every sandbox shows.
    names = ("environ", "mem", "maps", "auxv", "stat", *(() if stage.runs else ("exe",)))
    with stage.pool().acquire() as sandbox:
        return control, _first_reached(sandbox, names)


def _first_reached(sandbox: PooledSandbox, names: tuple[str, ...]) -> str:
    verdict = ""
    for name in names:
        sandbox.execute(["ln", "-sfn", f"/proc/self/{name}", "log"]).check()
        verdict = _content(lambda: sandbox.read_file("log", max_bytes=1 << 40), b"")
        if verdict.startswith("REACHED"):
            return f"{verdict} {name}"
    return verdict


FILE_CALLS: dict[str, Callable[[Stage], Verdicts]] = {
    "file-call-read-through-link": read_through_link,
    "file-call-write-through-link": write_through_link,
    "file-call-waits-for-fifo": read_waits_for_fifo,
    "file-call-download-through-link": download_through_link,
    "file-call-own-process": read_own_process,
}
