"""Reads the bundled folder: problems with tests and limits, submissions with the verdict each must get."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge_verdict import Limits, Verdict

BUNDLE = Path(__file__).resolve().parent / "judge"


@dataclass(frozen=True)
class Test:
    name: str
    input: bytes
    expected: bytes


@dataclass(frozen=True)
class Problem:
    name: str
    title: str
    limits: Limits
    tests: tuple[Test, ...]


@dataclass(frozen=True)
class Submission:
    """``verdict`` is the expected one, ``note`` must occur in its explanation, ``prints`` is all it may print.

    In the Landlock tier ``note_landlock`` takes the place of ``note``, if it is not None. ``needs`` names the field of
    the isolation report that must be "full", or the submission is not run.
    """

    problem: Problem
    path: Path
    verdict: Verdict
    note: str = ""
    prints: str | None = None
    note_landlock: str | None = None
    needs: str | None = None

    @property
    def name(self) -> str:
        return f"{self.problem.name}/{self.path.name}"

    def note_in(self, tier: str) -> str:
        """What must occur in the explanation of the verdict, in sandboxes of this tier."""
        return self.note if tier == "full" or self.note_landlock is None else self.note_landlock


def load(bundle: Path = BUNDLE) -> list[Submission]:
    """All submissions, problem by problem. Raises ValueError when the bundle does not fit together."""
    submissions: list[Submission] = []
    for folder in sorted((bundle / "problems").iterdir()):
        manifest = json.loads((folder / "problem.json").read_text())
        problem = _problem(folder, manifest)
        sources = bundle / "submissions" / folder.name
        present = {path.name for path in sources.iterdir() if path.suffix in (".c", ".py")}
        if present != set(manifest["submissions"]):
            odd = ", ".join(sorted(present ^ set(manifest["submissions"])))
            raise ValueError(f"{folder.name}: not both in the manifest and in {sources}: {odd}")
        for name, entry in manifest["submissions"].items():
            reasons = {key: entry[key] for key in ("note", "prints", "note_landlock", "needs") if key in entry}
            submissions.append(Submission(problem, sources / name, Verdict(entry["verdict"]), **reasons))
    return submissions


def _problem(folder: Path, manifest: dict[str, Any]) -> Problem:
    limits = Limits(manifest["cpu_seconds"], manifest["wall_seconds"], manifest["memory_mb"])
    tests = [
        Test(path.stem, path.read_bytes(), path.with_suffix(".out").read_bytes())
        for path in sorted((folder / "tests").glob("*.in"))
    ]
    if not tests:
        raise ValueError(f"{folder}: no tests")
    return Problem(folder.name, manifest["title"], limits, (*tests, _large(folder)))


def _large(folder: Path) -> Test:
    """The large test is generated, always the same, and solved by the problem setter's own code."""
    path = folder / "generate.py"
    spec = importlib.util.spec_from_file_location(f"generate_{folder.name}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text, expected = module.large()
    return Test("large", text, expected)
