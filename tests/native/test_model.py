"""The ring, the permits, the slots' states, the tickets, the references of a session, and the commands of a sandbox
with an interpreter checked by spin: every interleaving of a few threads or processes, all of them searched to the end.

tests/native/model/*.pml say what is modelled and what is not. SANDPOOL_MODEL_THREADS=4 adds what takes minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

POOL = Path(__file__).parent / "model" / "pool.pml"
TICKET = POOL.with_name("ticket.pml")
SESSION = POOL.with_name("session.pml")
RUN = POOL.with_name("run.pml")
IN_CI = os.environ.get("CI") == "true"
LARGE = os.environ.get("SANDPOOL_MODEL_THREADS") == "4"

# taker(0) keeps its lease, (1) releases it unused, (2) used; releaser(0) ends the first lease unused, (1) used;
# janitor(n) evicts n times, and recycles; resizer(n) makes n the largest number of idle entries, which is 2 before.
SMALL = (
    "taker(1) taker(2) janitor(1)",
    "taker(1) taker(2) janitor(0)",
    "taker(0) releaser(0) releaser(0)",
    "taker(1) releaser(0) janitor(1)",
    "taker(2) releaser(1) janitor(0)",
    "taker(1) releaser(1) releaser(0) janitor(0)",
    "taker(1) resizer(1)",
    "taker(2) resizer(1) janitor(0)",
    "releaser(0) releaser(0) resizer(1)",
    "releaser(1) resizer(1) janitor(0)",
    "releaser(1) resizer(1) resizer(3) janitor(0)",
    "taker(2) taker(2) resizer(1) janitor(0)",
)
# Two takers, a releaser and a janitor: 3 to 12 million states each.
FOUR = (
    "taker(0) taker(0) releaser(0) janitor(1)",
    "taker(0) taker(1) releaser(0) janitor(1)",
    "taker(0) taker(2) releaser(1) janitor(1)",
    "taker(1) taker(1) releaser(0) janitor(1)",
    "taker(1) taker(1) releaser(1) janitor(1)",
    "taker(1) taker(2) releaser(0) janitor(1)",
    "taker(1) taker(2) releaser(1) janitor(1)",
    "taker(2) taker(2) releaser(1) janitor(1)",
)

# taker(1) waits for ever, taker(0) may time out or give up; at most one or two leases are out.
# drainer(1) waits for them for ever, drainer(0) may give up.
WAITERS = (
    *("taker(0) taker(1) taker(1)", "taker(1) taker(1) taker(1) -DBOUND=2", "taker(0) taker(0) taker(1) -DBOUND=2"),
    *(
        "taker(1) taker(1) drainer(1)",
        "taker(0) taker(1) drainer(0) -DBOUND=2",
        "taker(0) taker(1) drainer(1) -DBOUND=2",
    ),
)
TICKET_MUTANTS = (
    *("MUTANT_DOES_NOT_LOOK_AGAIN", "MUTANT_FAILURE_GRANTS_NOTHING", "MUTANT_LOOKS_FIRST", "MUTANT_NEWEST_FIRST"),
    *("MUTANT_OVERTAKES", "MUTANT_RAISED_LATE", "MUTANT_DRAIN_IS_NOT_WOKEN"),
)

# With one more permit than entries, the last of three finds none.
MUTANTS = {
    "MUTANT_PERMIT_FIRST -DMAX_SIZE=3": "taker(0) releaser(0) janitor(2)",
    "MUTANT_NO_CAS": "taker(0) janitor(1)",
    "MUTANT_RELEASE_WITHOUT_CAS": "taker(0) releaser(0) releaser(0)",
    "MUTANT_NO_GENERATION": "taker(0) releaser(0) releaser(0)",
    "MUTANT_OLD_BOUND -DMAX_SIZE=3": "releaser(0) resizer(2)",
    "MUTANT_NO_TAG": "taker(1) taker(1) janitor(1)",
    "MUTANT_NO_SECOND_LOOK": "taker(1) taker(1) janitor(1)",
    "MUTANT_NO_SWEEP": "taker(1) taker(1) janitor(1)",
}


# job(1) has lost its sandbox. Two releasers are the holder of the lease and close().
CALLS = (
    "job(0) sharer() releaser()",
    "job(1) sharer() releaser()",
    "sharer() sharer() releaser()",
    "job(0) job(0) sharer() releaser()",
    "job(0) sharer() sharer() releaser()",
    "job(1) sharer() releaser() releaser()",
    "job(1) job(0) sharer() sharer()",
)
SESSION_MUTANTS = {
    "MUTANT_TAKES_NO_REFERENCE": CALLS[0],
    "MUTANT_OWNER_FREES": CALLS[0],
    "MUTANT_SHARES_WITHOUT_CAS": CALLS[2],
    "MUTANT_LEAVES_AMID_THE_KILL": CALLS[0],
    "MUTANT_ENDS_BEFORE_THE_JOB": CALLS[0],
}

RUN_MUTANTS = (
    *("MUTANT_ACK_BEFORE_THE_NUMBER", "MUTANT_READS_AT_ONCE", "MUTANT_ANY_SIGNAL_KILLS", "MUTANT_LEFTOVERS_LATE"),
    *("MUTANT_KEEPER_STAYS", "MUTANT_KEEPER_OUTLIVES_INIT"),
)


def run(*command: str, folder: Path, timeout: float = 900) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def verify(folder: Path, model: Path, *defines: str, large: bool = False) -> str:
    """What the verifier prints."""
    source = run("gcc", "-E", "-P", "-x", "c", *defines, os.fspath(model), folder=folder)
    (folder / "model.pml").write_text(source, encoding="ascii")
    run("spin", "-a", "model.pml", folder=folder)
    build = ("-O2", "-DCOLLAPSE", "-DMEMLIM=3000") if large else ("-O0",)
    run("gcc", *build, "-w", "-DSAFETY", "-DVECTORSZ=512", "-o", "pan", "pan.c", folder=folder)
    return run("./pan", "-m200000", *(("-w24",) if large else ()), folder=folder)


def threads(names: str, macro: str = "THREADS") -> str:
    words = names.split()
    return f"-D{macro}=running = {len(words)};" + "".join(f"run {name};" for name in words)


def errors(output: str) -> int:
    found = re.search(r"errors: (\d+)", output)
    assert found is not None, output
    return int(found[1])


@pytest.fixture(autouse=True)
def _spin() -> None:
    missing = [program for program in ("spin", "gcc") if shutil.which(program) is None]
    if missing:
        reason = f"{missing} not installed: apt-get install spin gcc | dnf install spin gcc"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)


def is_sound(output: str) -> None:
    """Nothing was found, and nothing was left out."""
    assert "Search not completed" not in output
    assert "max search depth too small" not in output
    assert errors(output) == 0, output[-3000:]


@pytest.mark.parametrize("names", [*SMALL, *(FOUR if LARGE else ())])
def test_every_interleaving_is_sound(names: str, tmp_path: Path) -> None:
    is_sound(verify(tmp_path, POOL, threads(names), large=names in FOUR))


@pytest.mark.extended
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found(mutant: str, tmp_path: Path) -> None:
    """Each order, CAS and check that the model has is needed: without it there is a trace that goes wrong."""
    assert errors(verify(tmp_path, POOL, threads(MUTANTS[mutant]), *f"-D{mutant}".split())) > 0


@pytest.mark.parametrize("names", WAITERS)
def test_no_ticket_swallows_or_overtakes(names: str, tmp_path: Path) -> None:
    takers, _, define = names.partition(" -")
    is_sound(verify(tmp_path, TICKET, threads(takers, "TAKERS"), *([f"-{define}"] if define else [])))


@pytest.mark.extended
@pytest.mark.parametrize("mutant", TICKET_MUTANTS)
def test_a_mutant_of_the_tickets_is_found(mutant: str, tmp_path: Path) -> None:
    takers = "taker(1) taker(1) drainer(1)" if "DRAIN" in mutant else WAITERS[0]
    assert errors(verify(tmp_path, TICKET, threads(takers, "TAKERS"), f"-D{mutant}")) > 0


@pytest.mark.parametrize("calls", CALLS)
def test_a_session_is_freed_by_its_last_user(calls: str, tmp_path: Path) -> None:
    is_sound(verify(tmp_path, SESSION, threads(calls, "CALLS")))


@pytest.mark.extended
@pytest.mark.parametrize("mutant", SESSION_MUTANTS)
def test_a_mutant_of_the_references_is_found(mutant: str, tmp_path: Path) -> None:
    calls = SESSION_MUTANTS[mutant]
    assert errors(verify(tmp_path, SESSION, threads(calls, "CALLS"), f"-D{mutant}")) > 0


@pytest.mark.parametrize("commands", [2, 3])
def test_a_command_is_answered_once_by_the_copy_that_has_read_it(commands: int, tmp_path: Path) -> None:
    is_sound(verify(tmp_path, RUN, f"-DCOMMANDS={commands}"))


@pytest.mark.extended
@pytest.mark.parametrize("mutant", RUN_MUTANTS)
def test_a_mutant_of_the_commands_is_found(mutant: str, tmp_path: Path) -> None:
    assert errors(verify(tmp_path, RUN, f"-D{mutant}")) > 0
