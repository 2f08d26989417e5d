"""text=True, errors=, check=True, shell(): results and functions get str, as with subprocess."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from pysandpool import CommandFailedError, PooledSandbox, Sandbox, SandboxConfig

PYTHON = "/usr/bin/python3"


def writing(*pieces: bytes, then: str = "") -> list[str]:
    """A command that writes these pieces to both streams, with pauses, so that each is handed over by itself."""
    script = f"import os, signal, time\nfor piece in {pieces!r}:\n os.write(1, piece); os.write(2, piece)\n"
    return [PYTHON, "-c", f"{script} time.sleep(0.1)\n{then}"]


@pytest.mark.parametrize(
    "data", [b"", b"a", "häß €\U0001f600\n".encode(), b"a\r\nb\rc\n\r\n", b"\r", b"\r\r\n", b"\0\x1b[0m"]
)
def test_text_is_that_of_subprocess(sandbox: PooledSandbox, data: bytes) -> None:
    script = "import os; data = os.read(0, 99); os.write(1, data); os.write(2, data)"
    ours = sandbox.execute([PYTHON, "-c", script], input=data, text=True)
    theirs = subprocess.run(
        [PYTHON, "-c", f"import os; os.write(1, {data!r}); os.write(2, {data!r})"],
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)
    assert sandbox.execute(["cat"], input=data).text == ours.text == ours.stdout


def test_input_may_be_text_or_bytes(sandbox: PooledSandbox) -> None:
    assert sandbox.execute(["cat"], input="häß\r\n", text=True).stdout == "häß\n"
    assert sandbox.execute(["cat"], input="häß".encode(), text=True).stdout == "häß"
    assert sandbox.execute(["wc", "-c"], input="a\r\n", text=True).stdout == "3\n"
    with pytest.raises(UnicodeEncodeError):
        sandbox.execute(["cat"], input="\udcff", text=True)
    assert sandbox.execute(["wc", "-c"], input="\udcff", text=True, errors="surrogateescape").stdout == "1\n"


def test_text_needs_to_be_asked_for(sandbox: PooledSandbox) -> None:
    refused: Any = "text"
    with pytest.raises(TypeError, match=r"pass text=True, or input=text\.encode"):
        sandbox.execute(["cat"], input=refused)


def test_bytes_that_are_no_text(sandbox: PooledSandbox) -> None:
    noise = writing(b"a\xffb")
    with pytest.raises(UnicodeDecodeError):
        sandbox.execute(noise, text=True)
    for errors, expected in (("replace", "a\ufffdb"), ("backslashreplace", "a\\xffb"), ("ignore", "ab")):
        result = sandbox.execute(noise, text=True, errors=errors)
        assert (result.stdout, result.stderr) == (expected, expected)
    alone: Any = {"errors": "replace"}  # means text, as with subprocess
    assert sandbox.execute(noise, **alone).stdout == "a\ufffdb"
    assert sandbox.execute(["cat"], input="text", **alone).stdout == "text"
    assert sandbox.execute(noise).text == "a\ufffdb"
    assert sandbox.execute(["echo", "usable"]).stdout == b"usable\n"


@pytest.mark.parametrize(("errors", "wrong"), [("nonesuch", LookupError), (3, TypeError)])
@pytest.mark.parametrize("options", [{}, {"on_stdout": print}])
def test_errors_is_checked_before_the_command_starts(
    sandbox: PooledSandbox, errors: Any, wrong: type[Exception], options: dict[str, Any]
) -> None:
    with pytest.raises(wrong):
        sandbox.execute(["touch", "started"], errors=errors, **options)
    assert sandbox.execute(["ls", "started"]).exit_code != 0


def test_functions_get_whole_characters_and_line_ends(sandbox: PooledSandbox) -> None:
    out: list[str] = []
    err: list[str] = []
    word = "ä€\r\n".encode()
    pieces = [word[n : n + 1] for n in range(len(word))]
    result = sandbox.execute(writing(*pieces), text=True, on_stdout=out.append, on_stderr=err.append)
    assert (out, err) == (["ä", "€", "\n"], ["ä", "€", "\n"])
    assert result.stdout == result.stderr == "ä€\n"


def test_a_function_gets_the_end_that_was_kept_back(sandbox: PooledSandbox) -> None:
    out: list[str] = []
    sandbox.execute(writing(b"a\r"), text=True, on_stdout=out.append)
    assert "".join(out) == "a\n"
    with pytest.raises(UnicodeDecodeError):
        sandbox.execute(writing(b"a\xc3"), text=True, on_stdout=out.append)
    assert sandbox.execute(writing(b"a\xc3"), text=True, errors="replace", on_stdout=out.append).stdout == "a\ufffd"
    assert "".join(out[-2:]) == "a\ufffd"


def test_a_wrong_byte_kills_a_command_whose_output_is_handed_over(sandbox: PooledSandbox) -> None:
    with pytest.raises(UnicodeDecodeError):
        sandbox.execute(writing(b"\xff", then="time.sleep(60)"), text=True, on_stdout=print)
    assert "sleep" not in sandbox.shell("cat /proc/[0-9]*/cmdline", text=True).stdout


@pytest.mark.parametrize("take", [None, list.append])
def test_a_character_that_a_kill_cut_off_is_dropped(
    sandbox: PooledSandbox, take: Callable[[list[str], str], None] | None
) -> None:
    got: list[str] = []
    options: dict[str, Any] = {} if take is None else {"on_stdout": lambda text: take(got, text)}
    killed = writing(b"a\xe2\x82", then="os.kill(os.getpid(), signal.SIGKILL)")
    result = sandbox.execute(killed, text=True, **options)
    assert (result.stdout, result.stderr, result.returncode) == ("a", "a", -9)
    assert "".join(got) == ("a" if take else "")


def test_a_character_that_the_limit_cut_off_is_dropped() -> None:
    with Sandbox(SandboxConfig(max_output_bytes=3)) as sandbox:
        result = sandbox.execute(["printf", "a€"], text=True)
        assert (result.stdout, result.stdout_truncated) == ("a", True)
        got: list[str] = []
        result = sandbox.execute(["printf", "a€"], text=True, on_stdout=got.append)
        assert (result.stdout, "".join(got)) == ("a", "a€")
        assert sandbox.execute(["printf", "a€"]).text == "a"


def test_check(sandbox: PooledSandbox) -> None:
    assert sandbox.execute(["true"], check=True).ok
    with pytest.raises(CommandFailedError, match=r"exited with 3: 'nö'") as failed:
        sandbox.shell("echo nö >&2; exit 3", check=True, text=True)
    assert failed.value.result.stderr == "nö\n"
    with pytest.raises(CommandFailedError, match="killed by signal 9") as failed:
        sandbox.execute(["sh", "-c", "echo out; kill -9 $$"], check=True)
    error = failed.value
    assert (error.returncode, error.stdout, error.output, error.stderr) == (-9, b"out\n", b"out\n", b"")
    assert error.cmd == ["sh", "-c", "echo out; kill -9 $$"]
    with pytest.raises(CommandFailedError) as failed:
        error.result.check()
    assert (failed.value.returncode, failed.value.cmd) == (-9, None)
    with pytest.raises(CommandFailedError, match="timed out"):
        sandbox.execute(["sleep", "60"], timeout=0.1, check=True)


def test_shell(sandbox: PooledSandbox) -> None:
    result = sandbox.shell('echo "$0 $# $A" | tr a-z A-Z; exit 4', env={"A": "b"}, text=True)
    assert (result.stdout, result.returncode) == ("/BIN/SH 0 B\n", 4)
    assert sandbox.shell(b"cat", input=b"bytes").stdout == b"bytes"
    assert sandbox.shell("-x", text=True).returncode == 127  # a script, not an option of the shell
    assert sandbox.shell("").ok
    with Sandbox() as alone:
        assert alone.shell("echo alone", text=True, check=True).stdout == "alone\n"
        assert alone.execute(["echo", "alone"], text=True).text == "alone\n"


def test_shell_takes_no_list(sandbox: PooledSandbox) -> None:
    words: Any = ["echo", "x"]
    with pytest.raises(TypeError, match=r"script must be a str, not list: execute\(\) takes"):
        sandbox.shell(words)
