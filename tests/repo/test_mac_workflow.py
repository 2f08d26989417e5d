"""The checklist of what only a real Mac can show, and the workflow that runs it: whole, and of things that exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAC = ROOT / "tests" / "mac"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# What the issue asks to be attacked -> a word of the row's name.
ATTACKED = {
    "host files": "a file of the host",
    "network": "host's loopback",
    "exec of setuid": "set-id program",
    "signals outside": "is signalled",
    "ptrace": "is attached to",
    "shared memory": "shared memory",
    "launchd": "launchd",
    "AppleEvents": "AppleEvent",
    "keychain": "keychain",
}


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def names_of(path: Path, variable: str) -> set[str]:
    """The keys of a table that a script makes, without running it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [variable]:
            assert isinstance(node.value, ast.Dict)
            return {ast.literal_eval(key) for key in node.value.keys if key is not None}
    raise AssertionError(f"no {variable} in {path}")


def checks() -> set[str]:
    tree = ast.parse((MAC / "checks.py").read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and "check" in map(ast.unparse, node.decorator_list)
    }


def ran_files() -> set[str]:
    words = [word for step in steps(ROOT / ".github/workflows/macos.yml") for word in shlex.split(step.get("run", ""))]
    return {word.removeprefix("$GITHUB_WORKSPACE/") for word in words if "tests" in word}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_whole(path: Path) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert found["permissions"]
    assert found[True], "when it runs; YAML takes `on` for a truth value"
    for job in found["jobs"].values():
        assert job["runs-on"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_what_the_workflow_names_exists() -> None:
    assert {"tests", "tests/mac/attacks.py", "tests/mac/checks.py"} == ran_files()
    assert all((ROOT / name).exists() for name in ran_files())


def test_the_checklist_is_what_the_workflow_runs() -> None:
    """Each row ends with what shows it, `file` or `file: name`; and each check is in a row."""
    text = (MAC / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^- \[ \] (.*(?:\n  .*)*)", text, re.MULTILINE)
    assert len(rows) > 10
    named = set()
    for row in rows:
        shown = re.findall(r"`(attacks|checks)\.py(?:: (\w+))?`", row)
        assert shown or "macos.yml" in row or "No figure" in row, row
        named |= {name for file, name in shown if file == "checks"}
    assert named == checks()


def test_each_attack_that_was_asked_for_is_there() -> None:
    attacks = names_of(MAC / "attacks.py", "ATTACKS")
    assert [what for what, word in ATTACKED.items() if not any(word in name for name in attacks)] == []
