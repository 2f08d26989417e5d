"""Every attack of attack/table.py succeeds on its control and fails inside, as root and as an ordinary user.

What is known to be open carries its remedy in the table, and is expected to fail, strictly: who closes it has to say so
there.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "attack"
SUPPORT = Path(__file__).parents[1] / "support"
sys.path.insert(0, str(HERE))

from table import ATTACKS, BOTH, ROOT, USER, Attack  # noqa: E402

from pysandpool._backend.cgroup import find_parent  # noqa: E402
from pysandpool._backend.linux import landlock_abi_max  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the attacks are on Linux's mechanisms"),
    pytest.mark.slow,
]

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
NOBODY = 65534
LANDLOCK_CREATE_RULESET = 444
PIECE = 40
KERNEL = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
Verdict = dict[str, str]


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """The compiled probes; and, when root can make them, programs that gain something when they are started."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-attack-", dir="/var/tmp"))
    # Each user makes a directory of its own here.
    path.chmod(0o1777)
    for name in ("programs", "gaining"):
        (path / name).mkdir(mode=0o755)
    compile_ = ["cc", "-std=gnu11", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o"]
    made = os.environ.get("SANDPOOL_PROBES")  # where there is no compiler: tests/vm
    for source in sorted(HERE.glob("*.c")):
        program = path / "programs" / source.stem
        command = [*compile_, program, source] if made is None else ["cp", Path(made, source.stem), program]
        subprocess.run(command, check=True)
    if os.geteuid() == 0:
        for name in ("setuid", "filecap"):
            shutil.copy(path / "programs" / "gain", path / "gaining" / name)
        (path / "gaining" / "setuid").chmod(0o4755)
        # capabilities(7), VFS_CAP_REVISION_2: effective, CAP_NET_RAW
        capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
        os.setxattr(path / "gaining" / "filecap", "security.capability", capability)
    yield path
    shutil.rmtree(path)


def run_as(
    base: Path, user: str, refused: str = "", names: tuple[str, ...] = (), attacks: str = ""
) -> dict[str, Verdict]:
    """The verdicts of one user. `attacks`: see attack/run.py."""
    switch = AS_NOBODY if user != ROOT and os.geteuid() == 0 else []
    refuse = [sys.executable, SUPPORT / "refusing.py", refused] if refused else []
    result = subprocess.run(
        [*refuse, *switch, sys.executable, HERE / "run.py", base, user, *names],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "SANDPOOL_ATTACKS": attacks or os.environ.get("SANDPOOL_ATTACKS", "")},
    )
    assert result.returncode == 0, result.stderr
    return {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}


@pytest.fixture(scope="session")
def verdict_of(base: Path) -> Callable[[str, str], Verdict]:
    """The verdict on one user's attack. A run has a piece of the table, so that it ends in time on a slow machine."""
    names = [attack.name for attack in ATTACKS]

    @functools.cache
    def of_piece(user: str, piece: int) -> dict[str, Verdict]:
        return run_as(base, user, names=tuple(names[piece * PIECE : (piece + 1) * PIECE]))

    return lambda user, name: of_piece(user, names.index(name) // PIECE)[name]


def cases() -> Iterator[object]:
    for user in BOTH:
        for attack in ATTACKS:
            if user not in attack.users or attack.since > KERNEL or "full" not in attack.tiers:
                continue
            marks = []
            if user == ROOT and os.geteuid() != 0:
                marks.append(pytest.mark.skip(reason="needs root"))
            if user == USER and os.geteuid() == 0 and "SANDPOOL_PROBES" in os.environ:
                marks.append(pytest.mark.skip(reason="a virtual machine has them tried by a user of its own"))
            if attack.program == "files" and attack.args[-1].startswith("{gaining}") and os.geteuid() != 0:
                marks.append(pytest.mark.skip(reason="only root can make a file that gains something"))
            if attack.hole and user in attack.hole_for:
                # With a subtree to make cgroups in, some are held for the user that may.
                strict = find_parent({"memory"}) is None
                marks.append(pytest.mark.xfail(raises=StillOpenError, strict=strict, reason=attack.hole))
            yield pytest.param(user, attack, marks=marks, id=f"{user}-{attack.name}")


def is_held(attack: Attack) -> bool:
    """Whether this kernel has what holds it."""
    abi = min(landlock_abi_max(os.environ), ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, 0, 0, 1))
    return abi >= attack.abi or not attack.by_landlock


class StillOpenError(AssertionError):
    """REACHED inside."""


@pytest.mark.parametrize(("user", "attack"), list(cases()))
def test_attack(verdict_of: Callable[[str, str], Verdict], user: str, attack: Attack) -> None:
    verdict = verdict_of(user, attack.name)
    assert verdict["control"].startswith("REACHED "), f"the control proves nothing: {verdict['control']}"
    if not is_held(attack):
        assert verdict["inside"].startswith("REACHED "), f"SECURITY.md says too little: {verdict['inside']}"
        return
    if verdict["inside"].startswith("REACHED "):
        raise StillOpenError(verdict["inside"])
    assert verdict["inside"].startswith("HELD "), verdict["inside"]


def test_what_is_not_held_everywhere_is_in_security_md() -> None:
    text = re.sub(r"\s+", " ", SECURITY.read_text(encoding="utf-8"))
    assert [one.name for one in ATTACKS if one.by_landlock not in text] == []


# What an old kernel or a seccomp profile refuses, and what decides about the files of the host all the same.
FALLBACKS = "close_range=ENOSYS,mount_setattr=ENOSYS,pivot_root=EPERM"
OF_FILES = tuple(
    attack.name
    for attack in ATTACKS
    if attack.name != "pivot-root"
    and "full" in attack.tiers
    and (attack.program == "files" or attack.control == "ns" or attack.name.startswith("passed-file-"))
)


@pytest.mark.parametrize(
    "user", [pytest.param(ROOT, marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root")), USER]
)
def test_attacks_where_calls_are_refused(base: Path, user: str) -> None:
    """The other attacks do not depend on them. tests/vm runs all of them on a kernel that lacks mount_setattr."""
    names = tuple(
        attack.name
        for attack in ATTACKS
        if attack.name in OF_FILES
        and attack.since <= KERNEL
        and is_held(attack)
        and user in attack.users
        and (os.geteuid() == 0 or not attack.args[-1:] or not attack.args[-1].startswith("{gaining}"))
    )
    verdicts = run_as(base, user, FALLBACKS, names)
    assert set(verdicts) == set(names)
    weak = {name: verdict for name, verdict in verdicts.items() if not verdict["control"].startswith("REACHED ")}
    assert weak == {}, "the control proves nothing"
    assert {name: verdict for name, verdict in verdicts.items() if not verdict["inside"].startswith("HELD ")} == {}


@pytest.mark.extended
@pytest.mark.parametrize("user", BOTH)
def test_attack_by_an_interpreter(base: Path, user: str) -> None:
    """All of them once more, in pools whose zygotes are interpreters: code that one of them runs executes the probe."""
    if user == ROOT and os.geteuid() != 0:
        pytest.skip("needs root")
    open_ones = {one.name for one in ATTACKS if one.hole}
    if os.geteuid() != 0:
        open_ones |= {one.name for one in ATTACKS if one.program == "files" and one.args[-1].startswith("{gaining}")}
    verdicts = run_as(base, user, attacks="interpreter")
    found = {name: said["inside"] for name, said in verdicts.items() if name not in open_ones}
    assert {name: said for name, said in found.items() if not said.startswith("HELD ")} == {}
    assert len(found) > 150


def test_names_are_unique() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names))
