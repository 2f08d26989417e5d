"""The readers of what comes over the walls under libFuzzer: its corpus, a short run, and bugs that it has to find.

SANDPOOL_FUZZ_SECONDS is the time of the short runs together; `make fuzz` is the long one. A crash prints the line that
belongs into tests/native/fuzz/corpus.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import selection

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from c_build import Build, unusable
from run import TARGETS, Planted, Run, build, corpus, fuzz, fuzz_for

SECONDS = float(os.environ.get("SANDPOOL_FUZZ_SECONDS", "20"))
IN_CI = os.environ.get("CI") == "true"

PLANTED = {
    "a length is not checked": Planted(
        "wire", "common/wire.c", "if (len != SP_RECORD_SIZE) {", "if (len > SP_RECORD_SIZE) {"
    ),
    "filters larger than their payload": Planted(
        "wire", "common/wire.c", "r->bad = r->bad || filters > c->payload_len;", "(void)filters;"
    ),
    "a string without its end": Planted(
        "wire", "common/wire.c", "memchr(start, '\\0', (size_t)(end - start))", "start + strlen(start)"
    ),
    "more descriptors than there is room for": Planted(
        "session", "common/packet.c", "if (packet->n_fds < SP_PACKET_FDS) {", "if (packet->n_fds <= SP_PACKET_FDS) {"
    ),
    "descriptors of a malformed packet are kept": Planted(
        "session", "common/packet.c", "    if (rc != 0) {\n        sp_packet_close(packet);", "    if (rc != 0) {"
    ),
    "descriptors beside a record are accepted": Planted(
        "session", "host/sandbox/session.c", "bool sound = packet.n_fds == 0 && ", "bool sound = "
    ),
    "READY is accepted twice": Planted("session", "host/sandbox/control.c", "if (!birth->ready && ", "if ("),
    "READY may bring descriptors": Planted(
        "session", "host/sandbox/control.c", "packet->n_fds == 0 && packet->sender", "packet->sender"
    ),
    "ACK is accepted twice": Planted(
        "session", "host/sandbox/session.c", "return !session->acked && record", "return record"
    ),
    "EXITED is accepted before ACK": Planted(
        "session",
        "host/sandbox/session.c",
        "return session->acked && record->u.exited.id",
        "return record->u.exited.id",
    ),
    "an id is not compared": Planted(
        "session",
        "host/sandbox/session.c",
        "session->acked && record->u.failed.id == session->last_id",
        "session->acked",
    ),
    "a command that may have begun is tried again": Planted(
        "job", "host/execute/send.c", "if (!job->first_use || job->claim.session->acked || ", "if (!job->first_use || "
    ),
    "the end of a process may bring descriptors": Planted(
        "process",
        "host/execute/process.c",
        "packet->record.u.exited.id == NO_ID && packet->n_fds == 0",
        "packet->record.u.exited.id == NO_ID",
    ),
    "any descriptor is a terminal": Planted(
        "process", "host/execute/process.c", "packet->n_fds == 1 && sp_is_terminal_master(packet->fds[0])", "true"
    ),
    "a process starts twice": Planted(
        "process",
        "host/execute/process.c",
        "s->state < SP_PROCESS_RUNNING && packet->n_fds == 0; /* without",
        "packet->n_fds == 0; /* without",
    ),
    "output beyond its bound": Planted(
        "job", "host/execute/capture.c", "wanted = wanted > c->max ? (size_t)c->max : wanted;", ""
    ),
    "bytes behind the last string": Planted(
        "payload", "init/command.c", "return cursor == end ? 0 : -EBADMSG;", "return 0;"
    ),
    "an open file of any kind": Planted(
        "file", "host/execute/file.c", "!opened || is_wanted(file, ", "true || is_wanted(file, "
    ),
    "a text that nobody asked for": Planted(
        "file", "host/execute/file.c", "(has_text || f->payload_len == 0)", "(has_text || true)"
    ),
    "a path without its end": Planted(
        "payload", "init/file.c", "packet->payload_len == packet->record.u.file.payload_len;", "true;"
    ),
    "an attach with any number of descriptors": Planted(
        "payload", "zygote/pending.c", "packet->n_fds <= INIT || packet->n_fds > TREE + 1 || ", ""
    ),
    "a workspace without its end": Planted("payload", "zygote/pending.c", " || path[len - 1] != '\\0'", ""),
    "filters that are not aligned": Planted(
        "payload", "zygote/config.c", "(c->payload_len - filters) % sizeof(struct sock_filter) != 0", "false"
    ),
    "binds in any order": Planted(
        "payload", "zygote/config.c", " || (n > 0 && strcmp(binds[n - 1].path, bind->path) >= 0)", ""
    ),
    "any byte is an escape": Planted("mountinfo", "common/mountinfo_linux.c", "at += escaped ? 4 : 1;", "at += 4;"),
    "an option that begins like another": Planted(
        "mountinfo", "common/mountinfo_linux.c", "(at[len] == ',' || at[len] == ' ' || at[len] == '\\0')", "true"
    ),
    "a jump over the end": Planted(
        "seccomp", "host/seccomp/program.h", "values[i], n - i, 0);", "values[i], n - i + 200, 0);"
    ),
    "a foreign architecture passes": Planted(
        "seccomp", "host/seccomp/compile.c", "BPF_K, arches[arch].audit, 1, 0);", "BPF_K, arches[arch].audit, 1, 1);"
    ),
}


@pytest.fixture(autouse=True)
def _usable() -> None:
    reason = unusable(Build("clang", "fuzz"))
    if reason is not None:
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str, tmp_path: Path) -> None:
    inputs = corpus(target)
    run = fuzz(build(target, tmp_path), inputs, tmp_path, "-runs=0", timeout=120)
    assert run.code == 0, run
    assert len(inputs) > 20


def test_the_corpus_of_payloads_fits_its_reader(tmp_path: Path) -> None:
    """What the lines are there for is reached only if they are read as they were written."""
    run = fuzz(build("payload", tmp_path), corpus("payload"), tmp_path, "-runs=0", timeout=120)
    kinds = ("plans", "runtimes", "commands", "files", "workspaces")
    accepted = re.search("accepted: " + ", ".join(rf"(\d+) {kind}" for kind in kinds), run.output)
    assert accepted is not None, run
    assert [int(number) > 0 for number in accepted.groups()] == [True] * len(kinds), accepted[0]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Of each target and each planted bug, one on every core: a fuzzer uses no more."""

    def begin(target: str, overlay: str, seconds: float) -> Run:
        folder = tmp_path_factory.mktemp(target)
        return fuzz_for(build(target, folder, overlay), corpus(target), folder, seconds)

    planted = PLANTED if selection.EXTENDED else {}
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        yield {
            **{target: workers.submit(begin, target, "", SECONDS / len(TARGETS)) for target in TARGETS},
            **{bug: workers.submit(begin, p.target, p.overlay(), 60) for bug, p in planted.items()},
        }
        workers.shutdown(cancel_futures=True)  # those of tests that were not selected


@pytest.mark.parametrize("target", TARGETS)
def test_short_run(target: str, runs: dict[str, Future[Run]]) -> None:
    run = runs[target].result()
    assert run.code == 0, run
    assert run.executed > 100, run.output


@pytest.mark.extended
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, runs: dict[str, Future[Run]]) -> None:
    run = runs[bug].result()
    assert run.code != 0, f"not found in {run.executed} inputs: {bug}"
    assert run.crash is not None, run
