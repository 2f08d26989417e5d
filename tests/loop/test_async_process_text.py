"""What `await lease.popen(...)` does with text and half-read streams."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from subprocess import PIPE

import pytest
from loops import LOOPS, run_on

from pysandpool import AsyncSandbox

LINES = ["sh", "-c", r"printf 'one\ntwo\r\nthree'"]
ACCENT = "\N{LATIN SMALL LETTER E WITH ACUTE}"


@pytest.mark.parametrize("loop", LOOPS)
def test_text_and_half_read_streams(loop: str) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            await encodings(sandbox)
            await half_read(sandbox)
            await timeouts(sandbox)

    run_on(loop, main)


async def encodings(sandbox: AsyncSandbox) -> None:
    assert (await sandbox.execute(["printf", r"\351"], encoding="latin-1")).stdout == ACCENT
    async with sandbox.popen(["cat"], stdin=PIPE, stdout=PIPE, encoding="utf-16") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):  # one mark of the byte order for both
            await process.stdin.write(f"{ACCENT}\n")
        process.stdin.close()
        assert [line async for line in process.stdout] == [f"{ACCENT}\n"] * 2
    process = await sandbox.popen(["printf", r"good\n\377"], stdout=PIPE, text=True)
    with pytest.raises(UnicodeDecodeError) as caught:
        await process.communicate()
    assert caught.value.object == b"good\n\xff"
    with pytest.raises(LookupError):
        await sandbox.popen(["true"], encoding="hex")


async def half_read(sandbox: AsyncSandbox) -> None:
    for text, line, rest in ((True, "one\n", "two\nthree"), (False, b"one\n", b"two\r\nthree")):
        process = await sandbox.popen(LINES, stdout=PIPE, stderr=PIPE, text=text)
        assert process.stdout is not None
        assert await process.stdout.readline() == line
        expected = (rest, type(rest)())
        assert await process.communicate() == expected
        assert await process.communicate() == expected
    script = r"printf 'a\n\303'; read line; printf '\251'"
    process = await sandbox.popen(["sh", "-c", script], stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdout is not None
    assert await process.stdout.readline() == "a\n"
    assert await process.communicate("\n") == (ACCENT, None)
    process = await sandbox.popen(["sh", "-c", "echo out; echo err >&2"], stdout=PIPE, stderr=PIPE, text=True)
    assert process.stderr is not None
    process.stderr.close()
    assert await process.communicate() == ("out\n", "")


async def timeouts(sandbox: AsyncSandbox) -> None:
    process = await sandbox.popen(["sleep", "60"])
    await process.send_signal(0)
    with pytest.raises(subprocess.TimeoutExpired):
        await process.wait(timedelta(milliseconds=50))
    await process.kill()
    assert await process.wait(timedelta(seconds=60)) == -9
