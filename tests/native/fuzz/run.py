"""Fuzzes the readers of what comes over the walls: `python tests/native/fuzz/run.py [--seconds 3600] [target ...]`.

A target's corpus is corpus/<target>.txt, one input per line in base64, `#` for what it is there for. What is found
crashing is printed as such a line. `--minimize` writes the corpus anew, with what the run has added.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "support"))

from c_build import ROOT, SANITIZER_OPTIONS, Build, fixed_addresses, linked  # noqa: E402

TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))
MAX_LEN = 2048
# A small quarantine: freed memory is kept from reuse for as long as a run needs.
OPTIONS = {**SANITIZER_OPTIONS, "ASAN_OPTIONS": SANITIZER_OPTIONS["ASAN_OPTIONS"] + ":quarantine_size_mb=16"}


@dataclass(frozen=True, repr=False)
class Run:
    code: int
    output: str
    crash: bytes | None

    def __repr__(self) -> str:
        line = base64.b64encode(self.crash).decode() if self.crash is not None else "none"
        return f"exit status {self.code}; the input, for the corpus: {line}\n{self.output[-6000:]}"

    @property
    def executed(self) -> int:
        """How many inputs were run."""
        counts = re.findall(r"^Done (\d+) runs", self.output, re.MULTILINE)
        return int(counts[-1]) if counts else 0


@dataclass(frozen=True)
class Planted:
    """A bug: in this file of csrc, `old` replaced by `new`. The fuzzer has to find it."""

    target: str
    file: str
    old: str
    new: str

    def overlay(self) -> str:
        """A folder, relative to the root, that stands in for csrc and has the file with the bug."""
        text = (ROOT / "csrc" / self.file).read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.file} has {text.count(self.old)} times: {self.old}"
        broken = text.replace(self.old, self.new)
        folder = Path("build", "planted", hashlib.sha256(broken.encode()).hexdigest()[:16])
        path = ROOT / folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(broken, encoding="utf-8")
        return folder.as_posix()


def corpus(target: str) -> list[bytes]:
    lines = (HERE / "corpus" / f"{target}.txt").read_text(encoding="ascii").splitlines()
    return [base64.b64decode(line, validate=True) for line in lines if not line.startswith("#")]


def build(target: str, folder: Path, overlay: str = "") -> Path:
    return linked(HERE / f"fuzz_{target}.c", Build("clang", "fuzz", overlay), folder)


def fuzz(program: Path, inputs: list[bytes], folder: Path, *options: str, timeout: float) -> Run:
    """One run over these inputs; what it finds new is in folder/inputs."""
    (folder / "inputs").mkdir(exist_ok=True)
    for content in inputs:
        (folder / "inputs" / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    command = [*fixed_addresses(), str(program), f"-max_len={MAX_LEN}", "-timeout=20", f"-artifact_prefix={folder}/"]
    done = subprocess.run(
        [*command, *options, str(folder / "inputs")],
        env={**os.environ, **OPTIONS},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    found = next((path for path in folder.iterdir() if path.name.startswith(("crash-", "leak-", "timeout-"))), None)
    return Run(done.returncode, done.stdout.decode(errors="replace"), found.read_bytes() if found else None)


def fuzz_for(program: Path, inputs: list[bytes], folder: Path, seconds: float) -> Run:
    return fuzz(program, inputs, folder, f"-max_total_time={max(1, round(seconds))}", timeout=seconds + 120)


def minimize(target: str, program: Path, folder: Path) -> None:
    """The smallest set of inputs that reaches what all of them reach; comments and what they stand over stay."""
    path = HERE / "corpus" / f"{target}.txt"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    kept = [line for n, line in enumerate(lines) if line.startswith("#") or (n > 0 and lines[n - 1].startswith("#"))]
    small = folder / "small"
    small.mkdir()
    command = [*fixed_addresses(), str(program), f"-max_len={MAX_LEN}", "-merge=1", str(small), str(folder / "inputs")]
    subprocess.run(command, env={**os.environ, **OPTIONS}, capture_output=True, check=True)
    merged = [base64.b64encode(found.read_bytes()).decode() for found in small.iterdir()]
    rest = sorted(set(merged) - set(kept), key=lambda line: (len(line), line))
    path.write_text("".join(f"{line}\n" for line in [*kept, *rest]), encoding="ascii")
    print(f"{target}: {len(kept) + len(rest)} lines, {path.stat().st_size} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600, help="for all targets together")
    parser.add_argument("--minimize", action="store_true", help="write the corpus anew")
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="target", help=" ".join(TARGETS))
    given = parser.parse_args()
    crashes = 0
    for target in given.targets:
        with tempfile.TemporaryDirectory(prefix="sandpool-fuzz-") as name:
            folder = Path(name)
            program = build(target, folder)
            run = fuzz_for(program, corpus(target), folder, given.seconds / len(given.targets))
            print(f"{target}: {run if run.code else f'{run.executed} inputs, sound'}", flush=True)
            crashes += run.code != 0
            if given.minimize and run.code == 0:
                minimize(target, program, folder)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
