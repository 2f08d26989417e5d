"""Docker's own daemon, LXC, systemd-nspawn and firejail: what they allow by default, and what their hints bring."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import engines
import pytest
from engines import DOCKER, FIREJAIL, LXC, NSPAWN, UNPRIVILEGED, Engine

from pysandpool._backend.seccomp_profile import for_sandboxes

pytestmark = pytest.mark.extended

WHOLE = ("tier", "namespaces", "mounts", "landlock", "seccomp", "network")
FULL = dict.fromkeys(WHOLE, "full")
LOWER = {**FULL, "tier": "landlock", "namespaces": "none", "mounts": "partial", "network": "partial"}
# The engine, its options, the kind that is recognised, and what is refused; then what ALLOW_DEGRADATION gives.
REFUSING = {
    "Docker, root": (DOCKER, "", "docker", "user_namespace", LOWER),
    "Docker, user": (DOCKER, "--user 1000", "docker", "user_namespace", LOWER),
    "LXC, privileged": (LXC, "", "lxc", "mount_proc", {**FULL, "mounts": "partial"}),
    "LXC, unprivileged": (LXC, UNPRIVILEGED, "lxc", "mount_proc", {**FULL, "mounts": "partial"}),
    "systemd-nspawn": (NSPAWN, "", "systemd-nspawn", "landlock", {**FULL, "landlock": "none"}),
    "firejail, default profile": (FIREJAIL, "", "firejail", "user_namespace", LOWER),
    "firejail, no profile": (FIREJAIL, "--noprofile", "firejail", "mount_proc", {**FULL, "mounts": "partial"}),
}


@pytest.fixture
def profile() -> Iterator[Path]:
    """The seccomp profile of the hints."""
    with tempfile.TemporaryDirectory(prefix="sandpool-test-") as folder:
        file = Path(folder, "pysandpool.json")
        file.write_text(json.dumps(for_sandboxes()), encoding="utf-8")
        yield file


def need(engine: Engine) -> None:
    if engine.missing():
        pytest.skip(engine.missing())


@pytest.mark.parametrize("name", REFUSING)
def test_a_hint_that_is_followed_brings_all(name: str, profile: Path) -> None:
    engine, options, kind, stage, less = REFUSING[name]
    need(engine)
    before = engine.run_doctor(options)
    assert (before["works"], before["container"], before["stage"]) == (False, kind, stage)
    assert {word: before["isolation"][word] for word in WHOLE} == less
    assert "ALLOW_DEGRADATION" in before["hint"]
    if engine is FIREJAIL:
        assert "start this process outside of firejail" in before["hint"]
        assert before["fixes"] == []
        return
    more = engines.options_of(engine, [fix["command"] for fix in before["fixes"]], profile)
    assert more
    assert all(line in before["hint"] for line in more.splitlines() if engine is LXC)
    after = engine.run_doctor(engine.between.join([options, more]))
    assert after["works"], after["error"]
    assert {word: after["isolation"][word] for word in WHOLE} == FULL


@pytest.mark.parametrize("engine", [DOCKER, LXC, NSPAWN], ids=lambda engine: str(engine.program))
def test_no_daemon_outlives_the_command(engine: Engine) -> None:
    need(engine)
    done = engine.run(["cat", "/proc/self/mountinfo"])
    found = re.search(r"sandpool-engine-\w+", done.stdout)
    assert found is not None, done.stderr
    mounts = [read(process / "mountinfo") for process in Path("/proc").iterdir() if process.name.isdigit()]
    assert [text for text in mounts if found[0] in text] == []


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
