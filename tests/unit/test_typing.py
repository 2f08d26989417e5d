"""What a type checker refuses: mistakes that would be found at run time only, if the types were wider."""

from __future__ import annotations

from pathlib import Path

import pytest

# Each line that ends with a mark must be refused with that code, and no other line.
SNIPPET = """
import array, asyncio, mmap, pathlib
from typing import Any
from typing_extensions import assert_type
from pysandpool import AsyncPooledSandbox, AsyncSandbox, AsyncSandboxPool, AsyncSandboxProcess
from pysandpool import PooledSandbox, PoolStats, Sandbox, SandboxExecutor, SandboxPool, SandboxResult

def use(lease: PooledSandbox, sandbox: Sandbox, words: list[str], paths: tuple[pathlib.Path, ...]) -> None:
    lease.execute(words)
    lease.execute(["cat", b"a", pathlib.Path("/b")])
    lease.execute(("cat", "a"))
    sandbox.execute(paths, input=b"", env={"A": None}, cwd="/tmp", timeout=1)
    lease.execute(words, input=bytearray(1))
    lease.execute(words, input=memoryview(b""))
    lease.execute(words, input=array.array("i"))
    lease.execute(words, input=mmap.mmap(-1, 1))
    lease.execute("ls /")  # call-overload
    lease.execute(b"ls")  # call-overload
    lease.execute([1])  # list-item
    lease.execute({"ls"})  # call-overload
    lease.execute(words, input="text")  # call-overload
    lease.execute(words, input=open("f"))  # call-overload
    sandbox.execute("ls")  # call-overload
    sandbox.execute(words, input="text")  # call-overload
    lease.execute(words, timeout="1")  # call-overload
    lease.execute(words, shell=True)  # call-overload
    lease.execute(words, text=True, timeout="1")  # call-overload
    sandbox.shell(["ls"])  # call-overload
    lease.popen(words, shell=True)  # arg-type
    sandbox.popen(words, capture_output=True)  # call-arg

def files(lease: PooledSandbox, flag: bool) -> None:
    assert_type(lease.read_file("f"), bytes)
    assert_type(lease.read_file("f", max_bytes=1), bytes)
    assert_type(lease.read_file("f", text=True, errors="replace"), str)
    assert_type(lease.read_file("f", encoding="latin-1"), str)
    assert_type(lease.read_file("f", text=flag), bytes | str)
    assert_type(lease.list_files(recursive=True), list[str])
    lease.write_file("f", "text", encoding="latin-1", mode=0o600)
    lease.write_file("f", memoryview(b""))
    lease.write_file("f", 1)  # arg-type
    lease.remove(pathlib.Path("f"), recursive=True, missing_ok=True)

def take_bytes(piece: bytes) -> None: ...
def take_text(piece: str) -> None: ...

def text(lease: PooledSandbox, sandbox: Sandbox, words: list[str], flag: bool) -> SandboxResult:
    assert_type(lease.execute(words), SandboxResult[bytes])
    assert_type(lease.execute(words, check=True).stdout, bytes)
    assert_type(lease.execute(words, text=True, input="text", errors="replace"), SandboxResult[str])
    assert_type(lease.execute(words, text=True, check=True).check().stdout, str)
    assert_type(sandbox.execute(words, text=True).stderr, str)
    assert_type(sandbox.shell("ls", text=True, env={}).stdout, str)
    assert_type(lease.shell("ls").stdout, bytes)
    assert_type(lease.execute(words, text=flag), SandboxResult[Any])
    assert_type(lease.execute(words, text=True, encoding="latin-1").stdout, str)
    assert_type(lease.execute(words, errors="replace"), SandboxResult[Any])
    assert_type(sandbox.shell("ls", encoding="latin-1"), SandboxResult[Any])
    lease.execute(words, encoding=1)  # call-overload
    lease.execute(words, on_stdout=take_bytes)
    lease.execute(words, text=True, on_stderr=take_text, on_stdout=print)
    lease.execute(words, on_stdout=take_text)  # arg-type
    lease.execute(words, text=True, on_stdout=take_bytes)  # arg-type
    return lease.execute(words, text=True)  # return-value

def run(pool: SandboxPool, words: list[str]) -> None:
    assert_type(pool.run(words, timeout=1, acquire_timeout=2), SandboxResult[bytes])
    assert_type(pool.run(words, text=True, input="text", workspace="/w").stdout, str)
    executor = SandboxExecutor(pool)
    assert_type(executor.submit(words, timeout=1, acquire_timeout=2, workspace="/w").result().stdout, bytes)
    assert_type(list(executor.map([words], text=True)), list[SandboxResult[str]])
    executor.submit("ls")  # call-overload
    pool.run("ls")  # call-overload
    pool.run(words, workspace=1)  # call-overload
    pool.run(words, input="text")  # call-overload

async def take_later(piece: bytes) -> None: ...

async def in_a_loop(pool: AsyncSandboxPool, words: list[str], flag: bool) -> None:
    async with pool as same, same.acquire(timeout=1) as lease, AsyncSandbox() as sandbox:
        assert_type(lease, AsyncPooledSandbox)
        assert_type(sandbox, AsyncSandbox)
    assert_type(await pool.acquire(), AsyncPooledSandbox)
    assert_type(await lease.execute(words, on_stdout=take_later), SandboxResult[bytes])
    assert_type((await lease.shell("ls", text=True)).stdout, str)
    assert_type(await sandbox.execute(words, text=flag), SandboxResult[Any])
    assert_type(await sandbox.execute(words, encoding="latin-1"), SandboxResult[Any])
    assert_type((await pool.run(words, text=True, acquire_timeout=1)).stdout, str)
    assert_type(await pool.stats(), PoolStats)
    await lease.release()
    async with lease.popen(words, text=True) as process:
        assert_type(process, AsyncSandboxProcess)
        assert_type(await process.wait(1), int)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None
    stdin.write("text")
    await stdin.write(b"bytes")
    asyncio.create_task(stdin.write(b"bytes"))
    stdin.write(1)  # arg-type
    print("text", file=stdin)
    await stdout.readuntil("x")
    assert_type(await lease.read_file("f", text=True), str)
    assert_type(await lease.read_file("f", encoding="latin-1"), str)
    assert_type(await sandbox.list_files(), list[str])
    await lease.execute("ls")  # call-overload
    await lease.execute(words, text=True, on_stdout=take_later)  # arg-type
    await sandbox.shell(["ls"])  # call-overload
    await lease.popen(words, shell=True)  # call-arg
    lease.execute(words).stdout  # attr-defined
"""


@pytest.mark.slow
def test_a_type_checker_refuses_what_cannot_work(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is in the extra lint")
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    options = ["--strict", "--no-error-summary", "--hide-error-context", f"--cache-dir={tmp_path}/cache"]
    found, complaint, _ = api.run([*options, "--follow-imports=silent", str(file)])
    lines = SNIPPET.splitlines()
    wanted = {(number, line.split("  # ")[1]) for number, line in enumerate(lines, 1) if "  # " in line}
    refused = [line for line in found.splitlines() if ": error: " in line]
    assert complaint == ""
    assert {(int(line.split(":")[1]), line.rsplit("[", 1)[1].rstrip("]")) for line in refused} == wanted, found
