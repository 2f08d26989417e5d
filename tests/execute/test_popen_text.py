"""What popen does with text, buffers and half-read streams is what subprocess does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from subprocess import PIPE
from typing import Any

import pytest

from pysandpool import PooledSandbox, SandboxPool

pytestmark = pytest.mark.skipif("sys.platform == 'darwin'", reason="an agent starts no processes beside commands")

LINES = ["sh", "-c", r"printf 'one\ntwo\r\nthree'"]
BYTES = ["printf", r"a\r\nb\rc\351"]


@pytest.fixture(scope="module")
def lease() -> Iterator[PooledSandbox]:
    with SandboxPool() as pool, pool.acquire() as lease:
        yield lease


def outcome(call: Callable[..., Any], *args: Any, **options: Any) -> object:
    try:
        return call(*args, **options)
    except (UnicodeError, LookupError) as error:
        return type(error), getattr(error, "object", None)


@pytest.mark.parametrize(
    "options",
    [
        {"text": True},
        {"errors": "replace"},
        {"encoding": "latin-1"},
        {"encoding": "utf-16-le", "errors": "replace"},
        {"encoding": "ascii"},
    ],
)
def test_text_is_that_of_subprocess(lease: PooledSandbox, options: dict[str, Any]) -> None:
    def stdout_of(popen: Callable[..., Any]) -> object:
        with popen(BYTES, stdout=PIPE, **options) as process:
            return process.communicate()[0]

    expected = outcome(stdout_of, subprocess.Popen)
    assert outcome(stdout_of, lease.popen) == expected
    assert outcome(lambda: lease.execute(BYTES, **options).stdout) == expected


def test_input_is_encoded_as_the_output_is_decoded(lease: PooledSandbox) -> None:
    text = "\N{LATIN SMALL LETTER E WITH ACUTE}\n"
    assert lease.execute(["cat"], input=text, encoding="utf-16").stdout == text
    assert lease.execute(["od", "-An", "-tx1"], input=text, encoding="latin-1").stdout == " e9 0a\n"
    process = lease.popen(["od", "-An", "-tx1"], stdin=PIPE, stdout=PIPE, encoding="latin-1")
    assert process.communicate(text) == (" e9 0a\n", None)
    told: list[str] = []
    lease.execute(["printf", r"\351"], text=True, encoding="latin-1", on_stdout=told.append)
    assert told == ["\N{LATIN SMALL LETTER E WITH ACUTE}"]


@pytest.mark.parametrize(
    "options", [{"encoding": "hex"}, {"encoding": "none"}, {"errors": "none"}, {"encoding": "latin1", "errors": "none"}]
)
def test_an_unknown_coding_starts_nothing(lease: PooledSandbox, options: dict[str, Any]) -> None:
    for call in (lease.execute, lease.popen):
        with pytest.raises(LookupError):
            call(["touch", "started"], **options)  # type: ignore[operator]
    assert not lease.exists("started")


@pytest.mark.parametrize("options", [{"encoding": 1}, {"errors": 1}, {"bufsize": "1"}, {"bufsize": None}])
def test_a_coding_or_buffer_size_of_a_wrong_type(lease: PooledSandbox, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        lease.popen(["true"], **options)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("bufsize", [-1, 0, 2])
def test_communicate_returns_what_was_not_read(lease: PooledSandbox, text: bool, bufsize: int) -> None:
    """The rest of the first read is in a buffer of the file, which the descriptor does not have any more."""
    process = lease.popen(LINES, stdout=PIPE, stderr=PIPE, text=text, bufsize=bufsize)
    assert process.stdout is not None
    assert process.stdout.readline() == ("one\n" if text else b"one\n")
    expected: Any = ("two\nthree", "") if text else (b"two\r\nthree", b"")
    assert process.communicate() == expected
    assert process.communicate() == expected


def test_communicate_goes_on_inside_a_character(lease: PooledSandbox) -> None:
    script = r"printf 'a\n\303'; read line; printf '\251'"
    process = lease.popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "a\n"
    assert process.communicate("\n") == ("\N{LATIN SMALL LETTER E WITH ACUTE}", None)


def test_communicate_without_an_output_that_was_closed(lease: PooledSandbox) -> None:
    process = lease.popen(["sh", "-c", "echo out; echo err >&2"], stdout=PIPE, stderr=PIPE, text=True)
    assert process.stderr is not None
    process.stderr.close()
    assert process.communicate() == ("out\n", "")


def test_communicate_after_undecodable_text(lease: PooledSandbox) -> None:
    process = lease.popen(["printf", r"good\n\377"], stdout=PIPE, text=True)
    with pytest.raises(UnicodeDecodeError) as caught:
        process.communicate()
    assert caught.value.object == b"good\n\xff"
    assert process.returncode == 0


def test_the_buffer_of_stdin(lease: PooledSandbox) -> None:
    with lease.popen(["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("line\n")  # and no flush
        assert process.stdout.readline() == "line\n"
    with lease.popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"


def test_the_signal_0_and_a_timedelta(lease: PooledSandbox) -> None:
    process = lease.popen(["sleep", "60"])
    process.send_signal(0)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        process.wait(timedelta(milliseconds=50))
    assert caught.value.timeout == 0.05
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=timedelta(milliseconds=50))
    process.kill()
    assert process.wait(timedelta(seconds=60)) == -9
    process.send_signal(0)
