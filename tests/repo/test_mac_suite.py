"""The suite as it is on macOS, simulated: another sys.platform, and neither /proc nor prctl."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AS_ON_MACOS = """
import ctypes.util  # as on the real system: Debian's Python has no ctypes.macholib
import sys, sysconfig
sysconfig.get_config_vars()  # in a file that is named after the system
def hide(event, words):
    if event in ("open", "os.listdir", "os.scandir") and str(words[0]).startswith("/proc"):
        raise FileNotFoundError(2, "hidden", words[0])
    if event == "ctypes.dlsym" and words[1] == "prctl":
        raise AttributeError("prctl")
sys.addaudithook(hide)
sys.platform = "darwin"
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def suite(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_ON_MACOS, *words, "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_it_is_collected() -> None:
    done = suite("tests", "--collect-only", "-q")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    found = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    skipped = set(re.findall(r"SKIPPED \[\d+\] (?:tests/)?conftest.py:\d+: of Linux", done.stdout))
    assert {
        "tests/contract/test_contract_acquire.py",
        "tests/unit/test_seatbelt.py",
        "tests/unit/test_config.py",
    } <= found
    assert (
        not {"tests/isolation/test_tenant_view.py", "tests/agent/test_agent.py", "tests/isolation/test_proc.py"} & found
    )
    assert skipped


def test_what_needs_no_mac_passes() -> None:
    """Over the fake launcher; "real" would be Seatbelt, and is for a Mac."""
    done = suite(
        "tests/contract/test_contract_acquire.py",
        "tests/unit/test_stats.py",
        "-q",
        "-x",
        "-k",
        "not real and not agent",
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert re.search(r"\d{2} passed", done.stdout)
