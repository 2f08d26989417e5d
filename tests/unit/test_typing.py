"""What a type checker refuses: mistakes that would be found at run time only, if the types were wider."""

from __future__ import annotations

from pathlib import Path

import pytest

# Each line that ends with a mark must be refused with that code, and no other line.
SNIPPET = """
import array, mmap, pathlib
from pysandpool import CommandNotFoundError, PooledSandbox, Sandbox

def use(lease: PooledSandbox, sandbox: Sandbox, words: list[str], paths: tuple[pathlib.Path, ...]) -> None:
    lease.execute(words)
    lease.execute(["cat", b"a", pathlib.Path("/b")])
    lease.execute(("cat", "a"))
    sandbox.execute(paths, input=b"", env={"A": None}, cwd="/tmp", timeout=1)
    lease.execute(words, input=bytearray(1))
    lease.execute(words, input=memoryview(b""))
    lease.execute(words, input=array.array("i"))
    lease.execute(words, input=mmap.mmap(-1, 1))
    lease.execute("ls /")  # arg-type
    lease.execute(b"ls")  # arg-type
    lease.execute([1])  # list-item
    lease.execute({"ls"})  # arg-type
    lease.execute(words, input="text")  # arg-type
    lease.execute(words, input=open("f"))  # arg-type
    sandbox.execute("ls")  # arg-type
    sandbox.execute(words, input="text")  # arg-type
    lease.execute(words, timeout="1")  # arg-type
    lease.execute(words, shell=True)  # call-arg
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
