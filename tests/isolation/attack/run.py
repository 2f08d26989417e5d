"""Runs every attack as the user that starts it: one line of JSON each, {name, control, inside, seconds}.

`python run.py BASE USER [NAME ...]`; test_attack.py prepares BASE. With SANDPOOL_ATTACKS=interpreter every pool has an
interpreter, and a probe is started by code that this runs. With SANDPOOL_ATTACKS=landlock every sandbox is of the
Landlock tier, and with SANDPOOL_ATTACKS=landlock-interpreter both are true.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "support"))

from bare_stem import BareStem
from scenarios import SCENARIOS, Verdicts, left, passed_file, starting
from stage import RefusedError, Stage
from table import ATTACKS, Attack


def run(stage: Stage, attack: Attack) -> Verdicts:
    if attack.program == "scenario":
        if attack.name.startswith("starting-"):
            return starting(stage, *attack.args)
        if attack.name.startswith("passed-file-"):
            return passed_file(stage, *attack.args)
        return left(stage, *attack.args) if attack.args else SCENARIOS[attack.name](stage)
    return (
        stage.run_control(attack.control, attack.program, attack.args),
        stage.run_inside(attack.program, attack.args, attack.workspace, **attack.config),
    )


def main(base: str, user: str, names: list[str]) -> None:
    attacks = os.environ.get("SANDPOOL_ATTACKS", "").split("-")
    in_stem = "interpreter" in attacks
    tier = "landlock" if "landlock" in attacks else "full"
    if tier == "landlock":
        os.environ["PYSANDPOOL_TIER"] = tier
    with BareStem().everywhere() if in_stem else nullcontext(), Stage(Path(base), in_stem, tier) as stage:
        for attack in ATTACKS:
            if user not in attack.users or tier not in attack.tiers or (names and attack.name not in names):
                continue
            started = time.monotonic()
            try:
                control, inside = run(stage, attack)
            except RefusedError as error:
                control, inside = "REACHED nothing is asked for", f"HELD by refusal: {error}"
            except Exception as error:  # noqa: BLE001  # one broken probe leaves the others their say
                control = inside = f"ERROR {error!r}"
            seconds = round(time.monotonic() - started, 2)
            print(
                json.dumps({"name": attack.name, "control": control, "inside": inside, "seconds": seconds}), flush=True
            )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
