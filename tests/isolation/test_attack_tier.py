"""Every attack of attack/table.py in the Landlock tier: HELD, or DECLARED as what this tier does not promise.

Which one it is, the table says; what is declared has to be REACHED, or the declaration is out of date.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import full_tier
import pytest
from test_attack import ATTACKS, BOTH, KERNEL, ROOT, Attack, Verdict, base, run_as

__all__ = ["base"]  # a fixture of this module, too

pytestmark = pytest.mark.slow
SECURITY = Path(__file__).resolve().parents[2] / "SECURITY.md"


@pytest.fixture(scope="session")
def verdicts_of_tier(base: Path) -> Callable[[str], dict[str, Verdict]]:
    return functools.lru_cache(maxsize=None)(functools.partial(run_as, base, attacks="landlock"))


def cases() -> Iterator[object]:
    for user in BOTH:
        for attack in ATTACKS:
            if user not in attack.users or attack.since > KERNEL or "landlock" not in attack.tiers:
                continue
            marks = [pytest.mark.skip(reason="needs root")] if user == ROOT and os.geteuid() != 0 else []
            if attack.program == "files" and attack.args[-1].startswith("{gaining}") and os.geteuid() != 0:
                marks.append(pytest.mark.skip(reason="only root can make a file that gains something"))
            yield pytest.param(user, attack, marks=marks, id=f"{user}-{attack.name}")


@pytest.mark.parametrize(("user", "attack"), list(cases()))
def test_attack(verdicts_of_tier: Callable[[str], dict[str, Verdict]], user: str, attack: Attack) -> None:
    verdict = verdicts_of_tier(user)[attack.name]
    if not verdict["control"].startswith("REACHED ") and full_tier.refusal():
        # What surrounds this process keeps the control from it. The attack was made nevertheless.
        assert not verdict["inside"].startswith("REACHED "), verdict["inside"]
        pytest.skip(f"the control is refused here, too: {verdict['control']}")
    assert verdict["control"].startswith("REACHED "), f"the control proves nothing: {verdict['control']}"
    wanted = "REACHED " if attack.declared and user in attack.declared_for else "HELD "
    assert verdict["inside"].startswith(wanted), verdict["inside"]


@pytest.mark.extended
@pytest.mark.parametrize("user", BOTH)
def test_attack_by_an_interpreter(base: Path, user: str) -> None:
    """All of them once more, by a probe that code executes which a copied interpreter runs."""
    if user == ROOT and os.geteuid() != 0:
        pytest.skip("needs root")
    declared = {one.name for one in ATTACKS if one.declared and user in one.declared_for}
    need_writable_paths = {"bind-swapped-for-symlink", "daemon-outlives"}  # which are refused with it
    verdicts = run_as(base, user, attacks="landlock-interpreter")
    found = {name: said["inside"] for name, said in verdicts.items() if name not in declared | need_writable_paths}
    assert {name: said for name, said in found.items() if not said.startswith("HELD ")} == {}
    assert len(found) > 150
    assert any(verdicts[name]["inside"].startswith("REACHED ") for name in declared), "the probes run"


def test_what_is_declared_is_in_security_md() -> None:
    text = re.sub(r"\s+", " ", SECURITY.read_text(encoding="utf-8"))
    assert [attack.name for attack in ATTACKS if attack.declared and attack.declared not in text] == []
