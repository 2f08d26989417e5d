"""Builds a wheel with each Python of this machine, and runs the tests of cibuildwheel on wheels that another one built.

    python tests/wheels/run.py [--only 3.9] [pytest arguments]

A wheel is built from the source archive, as pip does it. Wheels of the stable ABI are tested by the next Python of the
list, the last one's by the first; one of a free-threaded Python by that Python. The tests run in a fresh environment,
from copies beside which there are no sources of the package. What is built and the logs are in build/wheels.

The Pythons are those of PATH, pyenv and uv, and those that SANDPOOL_TEST_PYTHONS lists. The table at the end has a line
for each; the exit code is 0 when all passed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from setuptools.compat.py310 import tomllib

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "wheels"
SECONDS = 2400
"""at most, for the tests of one Python"""
WORDS = ("passed", "failed", "error", "skipped")
# What would show a process the sources, or change how it builds.
HIDDEN = ("PYTHON", "PYTEST", "SANDPOOL", "CC", "VIRTUAL_ENV", "MAKE", "MFLAGS")
SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"


@dataclass
class Outcome:
    """What became of the tests with one Python."""

    python: str
    built_by: str = "-"
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0
    failure: str = ""

    def row(self) -> tuple[str, ...]:
        numbers = (str(self.counts.get(word, 0)) for word in WORDS)
        return (self.python, self.built_by, *numbers, f"{self.seconds:.0f}", self.failure or "passed")


def pythons() -> list[Path]:
    """One of each version that pysandpool supports, the oldest first."""
    named = [Path(path) for path in os.environ.get("SANDPOOL_TEST_PYTHONS", "").split(os.pathsep) if path]
    folders = [Path(path) for path in os.get_exec_path()]
    folders += sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    folders += sorted((Path.home() / ".local" / "share" / "uv" / "python").glob("*/bin"))
    names = [f"python3.{minor}{kind}" for minor in range(9, 20) for kind in ("", "t") if kind == "" or minor >= 14]
    found: dict[str, Path] = {}
    for path in [*named, *(folder / name for name in names for folder in folders)]:
        if path.name in names and path.exists() and "shims" not in path.parts:
            found.setdefault(path.name, path)
    return [found[name] for name in names if name in found]


def label(python: Path) -> str:
    return python.name.removeprefix("python")


def is_free_threaded(python: Path) -> bool:
    return python.name.endswith("t")


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    return {**inherited, **variables}


def run(*command: str | os.PathLike[str], cwd: Path, log: Path) -> str:
    """What it prints on its standard output. Raises CalledProcessError, and all that it prints goes to the log."""
    with open(log, "a", encoding="utf-8") as file:
        print(f"\n$ {shlex.join([os.fspath(word) for word in command])}", file=file, flush=True)
        done = subprocess.run(
            command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=file, text=True, check=False
        )
        file.write(done.stdout)
    done.check_returncode()
    return done.stdout


def source_archive() -> Path:
    name = run(sys.executable, "-c", SDIST, BUILD, cwd=ROOT, log=BUILD / "sdist.log").splitlines()[-1]
    return BUILD / name


def wheel(python: Path, archive: Path) -> Path:
    folder = BUILD / label(python)
    pip = (python, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", folder, archive)
    run(*pip, cwd=BUILD, log=folder / "log")
    [built] = folder.glob("*.whl")
    if is_free_threaded(python) == ("-abi3-" in built.name):
        raise SystemExit(f"{python} built {built.name}")
    return built


def installed(python: Path, built: Path, needed: Sequence[str], sources: Sequence[str]) -> Path:
    """A folder with copies of the tests, and beside it an environment with the wheel."""
    folder = BUILD / label(python)
    run(python, "-m", "venv", "venv", cwd=folder, log=folder / "log")
    run("venv/bin/python", "-m", "pip", "install", "-q", built, *needed, cwd=folder, log=folder / "log")
    for name in sources:
        target = folder / "run" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    return folder / "run"


def test(folder: Path, command: str) -> Iterator[str]:
    """The lines that the command prints, the last of which is its exit code."""
    path = os.pathsep.join([os.fspath(folder.parent / "venv" / "bin"), *os.get_exec_path()])
    with subprocess.Popen(
        ["timeout", "-k", "30", str(SECONDS), "sh", "-c", command],
        cwd=folder,
        env=environment(PATH=path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield from (line.rstrip("\n") for line in process.stdout)
    yield str(process.returncode)


def outcome(python: Path, built_by: Path, built: Path, settings: dict[str, Any], command: str) -> Outcome:
    found = Outcome(label(python), label(built_by))
    print(f"=== Python {found.python}, the wheel of {found.built_by}: {built.name}", flush=True)
    began = time.monotonic()
    try:
        folder = installed(python, built, settings["test-requires"], settings["test-sources"])
    except subprocess.CalledProcessError:
        found.failure = f"NOT INSTALLED, see {BUILD / found.python / 'log'}"
        return found
    with open(BUILD / found.python / "log", "a", encoding="utf-8") as log:
        for line in test(folder, command):
            print(line, file=log, flush=True)
            if line.startswith(("FAILED", "ERROR", "SKIPPED")):
                print(line, flush=True)
            if re.search(r"\d+ \w+.* in [\d.]+s", line):
                found.counts = {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", line)}
    found.seconds = time.monotonic() - began
    if line != "0" or not found.counts.get("passed"):
        found.failure = f"FAILED with {line}, see {BUILD / found.python / 'log'}"
    return found


def pairs(chosen: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each Python, and the one whose wheel it tests."""
    stable = [python for python in chosen if not is_free_threaded(python)]
    for python in chosen:
        yield python, stable[stable.index(python) - 1] if python in stable else python


def suite(python: Path, settings: dict[str, Any]) -> str:
    """The test command of cibuildwheel for this Python: the last override that selects it counts."""
    name = f"cp{label(python).replace('.', '')}-manylinux_{os.uname().machine}"
    commands = [one["test-command"] for one in settings["overrides"] if fnmatch(name, one["select"])]
    return str([settings["test-command"], *commands][-1])


def outcomes(chosen: Sequence[Path], arguments: Sequence[str]) -> Iterator[Outcome]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cibuildwheel"]
    shutil.rmtree(BUILD, ignore_errors=True)
    for python in chosen:
        (BUILD / label(python)).mkdir(parents=True)
    archive = source_archive()
    built = {}
    for python in chosen:
        try:
            built[python] = wheel(python, archive)
        except subprocess.CalledProcessError:
            yield Outcome(label(python), failure=f"NOT BUILT, see {BUILD / label(python) / 'log'}")
    for python, built_by in pairs(list(built)):
        command = f"python -m pytest -q -p no:cacheprovider {shlex.join(arguments)}"
        yield outcome(python, built_by, built[built_by], settings, command if arguments else suite(python, settings))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a version, as 3.9 or 3.14t; default: all that are found")
    options, arguments = parser.parse_known_args()
    chosen = [python for python in pythons() if options.only is None or label(python) in options.only]
    if not chosen:
        raise SystemExit("no such Python is here")
    # A job that a shell has started in the background ignores it, and the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    table: list[tuple[str, ...]] = [("Python", "wheel of", *WORDS, "seconds", "verdict")]
    table += [one.row() for one in outcomes(chosen, arguments)]
    widths = [max(map(len, column)) for column in zip(*table)]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0 if all(row[-1] == "passed" for row in table[1:]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
