"""The examples do what they say: the judge end to end, and its verdicts one by one, so that none is right by chance."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from full_tier import denies_namespaces

from pysandpool import PoolStats, Sandbox, SandboxConfig, SandboxResult

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SUBMISSIONS = EXAMPLES / "judge" / "submissions"
sys.path.insert(0, str(EXAMPLES))

import compat  # noqa: E402
import compat_reasons  # noqa: E402
import humaneval  # noqa: E402
import judge  # noqa: E402
import judge_problems  # noqa: E402
from judge_verdict import Limits, Verdict, first_words, same_answer, verdict_of  # noqa: E402

LIMITS = Limits(cpu_seconds=2, wall_seconds=6, memory_mb=64)
MIB = 1 << 20


def run(**fields: Any) -> SandboxResult:
    """A run that is accepted, but for the fields that are given."""
    return SandboxResult(**{"stdout": b"42\n", "stderr": b"", "exit_code": 0, "max_rss_bytes": 2 * MIB, **fields})


# --- verdicts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Verdict.AC),
        ({"stdout": b"42  \n\n"}, Verdict.AC),
        ({"stderr": b"MemoryError, says a debug line of a program that ends well"}, Verdict.AC),
        ({"user_time": 1.9, "elapsed": 5.0, "max_rss_bytes": 64 * MIB}, Verdict.AC),
        ({"stdout": b"43\n"}, Verdict.WA),
        ({"stdout": b""}, Verdict.WA),
        ({"stdout": b"4\n2\n"}, Verdict.WA),
        ({"exit_code": None, "signal": 9, "timed_out": True}, Verdict.TLE),
        ({"exit_code": None, "signal": 24, "user_time": 1.99}, Verdict.TLE),
        ({"user_time": 1.5, "system_time": 0.6}, Verdict.TLE),
        ({"exit_code": 3}, Verdict.RE),
        ({"exit_code": None, "signal": 11}, Verdict.RE),
        ({"exit_code": None, "signal": 9}, Verdict.RE),
        ({"exit_code": 1, "max_rss_bytes": 32 * MIB}, Verdict.RE),
        ({"exit_code": None, "signal": 6, "max_rss_bytes": 60 * MIB}, Verdict.MLE),
        ({"exit_code": 1, "stderr": b"Traceback ...\nMemoryError\n"}, Verdict.MLE),
        ({"max_rss_bytes": 65 * MIB}, Verdict.MLE),
        ({"exit_code": None, "signal": 9, "oom_killed": True}, Verdict.MLE),
        ({"stdout_truncated": True}, Verdict.OLE),
        ({"stderr_truncated": True}, Verdict.OLE),
        ({"stdout_truncated": True, "exit_code": None, "signal": 9, "timed_out": True}, Verdict.OLE),
    ],
)
def test_verdict(fields: dict[str, Any], expected: Verdict) -> None:
    verdict, why = verdict_of(run(**fields), b"42\n", LIMITS)
    assert verdict is expected
    assert (why == "") == (expected is Verdict.AC)


def test_no_failure_is_accepted_for_its_right_answer() -> None:
    failures = ("exit_code", 1), ("signal", 6), ("timed_out", True), ("oom_killed", True), ("stdout_truncated", True)
    for field, value in failures:
        fields = {field: value} if field != "signal" else {"signal": value, "exit_code": None}
        assert verdict_of(run(**fields), b"42\n", LIMITS)[0] is not Verdict.AC, field


@pytest.mark.parametrize("answer", [b" 42\n", b"42\n42\n", b"4 2\n", b"\n42\n", b"42\0"])
def test_answers_that_only_look_alike_are_wrong(answer: bytes) -> None:
    assert not same_answer(answer, b"42\n")


def test_hostile_output_cannot_paint_the_terminal() -> None:
    assert first_words(b"\x1b[2Jgone\nsecond") == "?[2Jgone"


# --- the bundle ------------------------------------------------------------------------------------------


def test_the_bundle_asks_for_every_verdict() -> None:
    submissions = judge_problems.load()
    ran = set(Verdict) - {Verdict.IE, Verdict.NR}
    assert {one.verdict for one in submissions} == ran
    for suffix in (".c", ".py"):
        assert {one.verdict for one in submissions if one.path.suffix == suffix} >= ran
    for name in {one.problem.name for one in submissions}:
        accepted = [one.path.suffix for one in submissions if (one.problem.name, one.verdict) == (name, Verdict.AC)]
        assert set(accepted) == {".c", ".py"}, name


def test_large_tests_are_large_and_always_the_same() -> None:
    first, second = ({one.problem.name: one.problem for one in judge_problems.load()} for _ in range(2))
    assert first == second
    assert len(first) == 4
    for problem in first.values():
        assert problem.tests[-1].name == "large"
        assert 900_000 < len(problem.tests[-1].input) < 1_300_000, problem.name


def test_a_submission_that_nobody_expects_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "judge", tmp_path / "judge")
    (tmp_path / "judge/submissions/sum/new.c").write_text("int main(void) { return 0; }")
    with pytest.raises(ValueError, match=r"new\.c"):
        judge_problems.load(tmp_path / "judge")


# --- expected or not -------------------------------------------------------------------------------------


def submission(name: str) -> judge_problems.Submission:
    return next(one for one in judge_problems.load() if one.name == name)


@pytest.mark.parametrize(
    ("name", "verdict", "why", "said", "expected"),
    [
        ("sum/segv.c", Verdict.RE, "SIGSEGV", b"3\n", True),
        ("sum/segv.c", Verdict.RE, "exit code 99", b"3\n", False),
        ("sum/segv.c", Verdict.WA, "SIGSEGV", b"3\n", False),
        ("sum/segv.c", Verdict.IE, "SIGSEGV", b"3\n", False),
        ("words/peek.py", Verdict.WA, "nothing", b"nothing\n", True),
        ("words/peek.py", Verdict.WA, "nothing", b"nothing\n/etc/shadow\n", False),
        ("words/peek.py", Verdict.WA, "/etc/shadow", b"/etc/shadow\n", False),
        ("words/peek.py", Verdict.WA, "no output", b"", False),
    ],
)
def test_as_expected(name: str, verdict: Verdict, why: str, said: bytes, expected: bool) -> None:
    one = submission(name)
    row = judge.Row(one.name, verdict, one.verdict, why=why)
    assert judge.as_expected(one, row, said) is expected


def test_what_a_verdict_says_may_be_another_in_the_landlock_tier() -> None:
    one = submission("sum/include.c")
    row = judge.Row(one.name, Verdict.CE, one.verdict, why="fatal error: /etc/shadow: Permission denied")
    assert not judge.as_expected(one, row, b"")
    assert judge.as_expected(one, dataclasses.replace(row, tier="landlock"), b"")


@pytest.mark.usefixtures("programs")
def test_a_submission_that_the_sandboxes_cannot_hold_is_not_run_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYSANDPOOL_TIER", "landlock")
    monkeypatch.setattr(judge, "load", lambda: [dataclasses.replace(submission("sum/add.py"), needs="namespaces")])
    assert judge.main([]) == 0
    told = capsys.readouterr().out
    assert all(words in told for words in ("NR", "isolation.namespaces is not full", "1 of them not run"))


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_one_unexpected_verdict_fails_the_whole_run(
    ok: bool, code: int, form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [judge.Row("sum/add.c", Verdict.AC, Verdict.AC, ok=True), judge.Row("x", Verdict.IE, Verdict.AC, ok=ok)]
    stats = {"compile": PoolStats(**dict.fromkeys((field.name for field in dataclasses.fields(PoolStats)), 0))}
    monkeypatch.setattr(judge, "missing_programs", lambda _: "")
    monkeypatch.setattr(judge, "judge_all", lambda *_: (rows, stats))
    assert judge.main(form) == code
    out = capsys.readouterr().out
    assert json.loads(out)["ok"] is ok if form else ("MISMATCH" in out) is not ok


def test_a_missing_compiler_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert judge.main([]) == 2
    assert "apt-get install gcc" in capsys.readouterr().err


# --- end to end ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs() -> None:
    if missing := judge.missing_programs(judge_problems.load()):
        pytest.skip(missing)


@pytest.mark.usefixtures("programs")
def test_judge_end_to_end() -> None:
    command = [sys.executable, str(EXAMPLES / "judge.py"), "--json", "--patience", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    report = json.loads(done.stdout or "null")
    assert report is not None, done.stderr
    assert [row for row in report["rows"] if not row["ok"]] == [], done.stderr
    assert done.returncode == 0
    verdicts = {row["submission"]: row["verdict"] for row in report["rows"]}
    not_run = {name for name, verdict in verdicts.items() if verdict == "NR"}
    submissions = judge_problems.load()
    assert not_run <= {one.name for one in submissions if one.needs is not None and denies_namespaces()}
    assert verdicts == {one.name: "NR" if one.name in not_run else one.verdict.value for one in submissions}
    for row in report["rows"]:
        assert row["verdict"] in {"CE", "NR"} or row["wall"] > 0, row
        assert row["verdict"] in {"CE", "NR", "TLE"} or row["peak_bytes"] > 0, row
    assert all(pool["in_use_count"] == 0 and pool["hit_count"] > 0 for pool in report["pools"].values())


@pytest.mark.usefixtures("programs")
def test_judge_says_so_when_a_verdict_is_not_the_expected_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [dataclasses.replace(submission(name), verdict=Verdict.WA) for name in ("sum/add.py", "sum/syntax.c")]
    monkeypatch.setattr(judge, "load", lambda: [*wrong, submission("sum/segv.c")])
    assert judge.main([]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    ends = {line[0]: "MISMATCH" in line for line in lines if line and line[0].startswith("sum/")}
    assert ends == {"sum/add.py": True, "sum/syntax.c": True, "sum/segv.c": False}


# --- controls: the hostile submissions do find something where there is something to find ----------------


def run_outside(name: str, cwd: Path) -> str:
    command = [sys.executable, str(SUBMISSIONS / name)]
    done = subprocess.run(command, capture_output=True, input="", text=True, check=True, timeout=60, cwd=cwd)
    return done.stdout


def test_peek_finds_the_host_outside(tmp_path: Path) -> None:
    found = run_outside("words/peek.py", tmp_path).splitlines()
    assert found != ["nothing"]
    assert any(line.startswith("process ") for line in found)


@pytest.mark.network
def test_phone_gets_through_outside(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = run_outside("words/phone.py", tmp_path)
        assert f"tcp 127.0.0.1:{server.getsockname()[1]}\n" in found


def test_stash_finds_its_mark_in_a_sandbox_that_is_used_twice() -> None:
    source = (SUBMISSIONS / "lis/stash.py").read_text()
    with Sandbox(SandboxConfig()) as sandbox:
        first, second = (sandbox.execute([judge.PYTHON, "-c", source], input=b"1\n5\n").check() for _ in range(2))
    assert first.stdout == b"1\n"
    assert second.stdout.startswith(b"found ")


def test_bombs_do_not_go_off_outside(tmp_path: Path) -> None:
    command = [sys.executable, str(SUBMISSIONS / "route/bomb.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, cwd=tmp_path)
    assert done.returncode == 1
    assert "not a sandbox" in done.stderr


# --- compat ----------------------------------------------------------------------------------------------

Answer = compat_reasons.Answer
GOOD = Answer(0, None, b"tool 1.0\n", b"")


@pytest.mark.parametrize(
    "other",
    [
        Answer(1, None, b"tool 1.0\n", b""),
        Answer(None, 31, b"tool 1.0\n", b""),
        Answer(0, None, b"tool 1.1\n", b""),
        Answer(0, None, b"tool 1.0\n", b"warning\n"),
        Answer(None, None, b"", b"", missing=True),
        Answer(None, None, b"tool 1.0\n", b"", timed_out=True),
    ],
)
def test_a_difference_without_evidence_is_not_explained(other: compat_reasons.Answer) -> None:
    tool = Path("/usr/bin/env")
    assert not compat_reasons.same(GOOD, other)
    assert compat_reasons.explain(tool, (GOOD, other, GOOD), lambda _: True) is None
    failed = [("files of /etc", lambda: other), ("sockets", lambda: None)]
    assert compat_reasons.explain(tool, (GOOD, other, GOOD), lambda _: True, failed) is None


def test_what_varies_between_runs_is_no_difference() -> None:
    first = Answer(0, None, b"(tool:12): 10:11:12.5: at 0xdeadbeef pid 71\n", b"")
    second = Answer(0, None, b"(tool:3): 23:59:59.1: at 0xcafe0001 pid 9999\n", b"")
    assert compat_reasons.same(first, second)


def test_reasons_follow_the_evidence() -> None:
    tool = Path("/usr/bin/env")
    lost = Answer(1, None, b"", b"tool: cannot open /etc/passwd: No such file or directory\n")
    reason = compat_reasons.explain(tool, (GOOD, lost, GOOD), lambda path: path != "/etc/passwd")
    assert reason == compat_reasons.Reason("a host file not shown", "/etc/passwd")
    unlike = dataclasses.replace(GOOD, stdout=b"tool run 2\n")
    reason = compat_reasons.explain(tool, (GOOD, lost, unlike), lambda _: True)
    assert reason is not None
    assert reason.category == "varies by itself"
    quiet = dataclasses.replace(GOOD, stdout=b"tool 1.0, not configured\n")
    trials = [("files of /etc", lambda: quiet), ("files of /var", lambda: GOOD)]
    reason = compat_reasons.explain(tool, (GOOD, quiet, GOOD), lambda _: True, trials)
    assert reason is not None
    assert reason.category == "files of /var"


def test_an_unexplained_difference_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = compat.Difference("env", GOOD, dataclasses.replace(GOOD, exit_code=1), None)
    monkeypatch.setattr(compat, "compare_all", lambda *_: ([odd], 10, 1))
    assert compat.main(["env"]) == 1
    assert "UNEXPLAINED" in capsys.readouterr().out


@pytest.mark.namespaces
def test_compat_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["cat", "dash", "env", "find", "grep", "ls", "sed", "sort", "tar", "yes"]
    assert compat.main([*names, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["alike"] >= 5
    assert report["differences"] == []


# --- humaneval -------------------------------------------------------------------------------------------


@pytest.mark.namespaces
def test_each_bundled_completion_ends_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    assert humaneval.main(["--timeout", "1.5"]) == 0
    told = capsys.readouterr().out
    samples = list(humaneval.lines_of(EXAMPLES / "humaneval" / "samples.jsonl"))
    for how in {sample["expected"] for sample in samples}:
        assert f"{how:<14} {sum(sample['expected'] == how for sample in samples):>6}" in told


@pytest.mark.namespaces
def test_a_completion_that_ends_otherwise_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = tmp_path / "samples.jsonl"
    line = {"task_id": "sandpool/roman", "completion": "    return ''", "expected": "passed"}
    samples.write_text(json.dumps(line) + "\n")
    assert humaneval.main(["--samples", str(samples)]) == 1
    assert "sandpool/roman: failed, expected passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [{"task_id": "sandpool/none", "completion": ""}, {"task_id": "sandpool/roman"}, {}],
    ids=["task", "fields", "all"],
)
def test_samples_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: dict[str, str]
) -> None:
    samples = tmp_path / "samples.jsonl"
    samples.write_text(json.dumps(line) + "\n")
    assert humaneval.main(["--samples", str(samples)]) == 2
    assert "cannot start" in capsys.readouterr().err


def test_pass_at_k_is_the_unbiased_estimate() -> None:
    found = [humaneval.pass_at_k(5, passed, 2) for passed in range(6)]
    pairs = [(a, b) for a in range(5) for b in range(a)]
    assert found == pytest.approx([sum(a < n or b < n for a, b in pairs) / len(pairs) for n in range(6)])
