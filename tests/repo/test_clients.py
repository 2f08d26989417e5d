"""Real frameworks over the examples: the suites of tests/clients, in an environment that `make test` installs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "tests" / "clients"
PYTHON = Path(sys.prefix, "clients", "bin", "python")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the frameworks need Python 3.11"),
    pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs the frameworks in .venv/clients"),
]


@pytest.mark.namespaces("a private /tmp, which the frameworks write into")
@pytest.mark.parametrize("name", sorted(path.stem for path in SUITES.glob("suite_*.py")))
def test_suite(name: str, tmp_path: Path) -> None:
    options = ("-c", os.devnull, "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    places = ("--rootdir", str(SUITES), "--confcutdir", str(SUITES), "--basetemp", str(tmp_path / "tmp"))
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *places, SUITES / f"{name}.py"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}"},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    print(done.stdout.splitlines()[-1])


def test_there_are_suites() -> None:
    assert list(SUITES.glob("suite_*.py"))
