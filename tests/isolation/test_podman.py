"""Containers of Podman itself, rootful and rootless: what they allow by default, and that the hint brings the rest."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import podman
import pytest
from oci import ROOT

from pysandpool._backend.seccomp_profile import for_sandboxes

pytestmark = [pytest.mark.extended, pytest.mark.skipif(bool(podman.missing()), reason=podman.missing())]

WHOLE = ("tier", "namespaces", "mounts", "landlock", "seccomp", "network")
FULL = dict.fromkeys(WHOLE, "full")
EVERY = pytest.mark.parametrize("rootless", [False, True], ids=["rootful", "rootless"])
USERS = pytest.mark.parametrize("user", ["0", "1000"])


@pytest.fixture
def profile() -> Iterator[Path]:
    """The seccomp profile of the hints, where the user of the rootless one can read it."""
    with tempfile.TemporaryDirectory(prefix="sandpool-test-") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "pysandpool.json")
        file.write_text(json.dumps(for_sandboxes()), encoding="utf-8")
        yield file


@EVERY
@USERS
def test_a_hint_that_is_followed_brings_all(rootless: bool, user: str, profile: Path) -> None:
    options = ["--user", user]
    before = podman.run_doctor(options, rootless=rootless)
    assert (before["container"], before["stage"]) == ("podman", "mount_proc")
    more = podman.options_of([fix["command"] for fix in before["fixes"]], profile)
    assert more == ["--security-opt", "unmask=ALL"]
    after = podman.run_doctor([*options, *more], rootless=rootless)
    assert after["works"], after["error"]
    assert {word: after["isolation"][word] for word in WHOLE} == {**FULL, "namespaces": "partial"}
    # Podman's profile refuses sethostname.
    [fixes] = [one["fixes"] for one in after["missing"] if "hostname" in one["what"]]
    more += podman.options_of([fix["command"] for fix in fixes], profile)
    whole = podman.run_doctor([*options, *more], rootless=rootless)["isolation"]
    assert {word: whole[word] for word in WHOLE} == FULL


@EVERY
@USERS
def test_without_any_option_proc_and_the_hostname_are_missing(rootless: bool, user: str) -> None:
    isolation: dict[str, Any] = podman.run_doctor(["--user", user], rootless=rootless)["isolation"]
    assert {word: isolation[word] for word in WHOLE} == {**FULL, "namespaces": "partial", "mounts": "partial"}


def test_the_recipe_of_the_page() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    [recipe] = [line for line in page.splitlines() if line.startswith("podman run ")]
    assert podman.run_doctor(podman.options_of([recipe], Path()))["works"]
