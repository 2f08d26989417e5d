"""The memory of a large interpreter, which all copies have as a mapping of one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_pools import code_pool

from pysandpool import Bind, CodeResult, SandboxPool

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an interpreter needs a zygote")

MIB = 1 << 20
# 20 MiB in small objects, and a block of 8 MiB. `fresh` is what a library would have that wants no copy of its state.
SETUP = """
import ctypes, hashlib, mmap
kept = [b"%08d" % n * 50 for n in range(50_000)]
block = bytearray(b"x" * (8 << 20))
own = b"found-in-" + b"the-image"
fresh = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
fresh.write(b"y" * (1 << 20))
address = ctypes.addressof(ctypes.c_char.from_buffer(fresh))
libc = ctypes.CDLL(None, use_errno=True)
libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(1 << 20), 18)  # MADV_WIPEONFORK
def digest():
    return hashlib.sha256(b"".join(kept)).hexdigest()[:16]
before = digest()
"""
MAPPINGS = """
mappings = []
for line in open("/proc/self/maps"):
    words = line.split()
    if "sandpool-image" in line:
        start, end = (int(word, 16) for word in words[0].split("-"))
        mappings.append((int(words[2], 16), start, end, words[1]))
"""
# Lets the mapping of `block` go on to the end of the file, and looks for texts in it. What was mapped before `block`
# has higher addresses, and so is behind it in the file.
REST_OF_FILE = (
    MAPPINGS
    + """
size = max(offset + end - start for offset, start, end, _ in mappings)
start = (ctypes.addressof(ctypes.c_char.from_buffer(block)) + 4095) & ~4095
(offset,) = (offset + start - first for offset, first, end, _ in mappings if first <= start < end)
size -= offset
libc.mremap.restype = ctypes.c_void_p
at = libc.mremap(ctypes.c_void_p(start), ctypes.c_size_t(7 << 20), ctypes.c_size_t(size), 1)
assert size > 12 << 20 and at not in (None, ctypes.c_void_p(-1).value), ctypes.get_errno()
libc.memmem.restype = ctypes.c_void_p
def is_there(*halves):
    text = b"".join(halves)
    return libc.memmem(ctypes.c_void_p(at), ctypes.c_size_t(size), text, ctypes.c_size_t(len(text))) is not None
"""
)


def text_of(result: CodeResult) -> str | None:
    assert result.ok, result
    return result.text


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with code_pool(2, setup=SETUP) as opened:
        yield opened


def kib_of(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def test_init_has_no_copy_of_the_interpreter(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        assert kib_of(lease.pid, "RssAnon") + kib_of(lease.pid, "RssShmem") < 8 * 1024


def test_all_is_as_the_interpreter_left_it(pool: SandboxPool) -> None:
    assert text_of(pool.run_code("digest() == before, set(block) == {120}")) == "(True, True)"


def test_what_one_writes_no_other_reads(pool: SandboxPool) -> None:
    for _ in range(3):
        with pool.acquire() as lease, lease.session() as session:
            assert text_of(session.run("block.count(b'x') == len(block)")) == "True"
            (copy,) = session.branch()
            session.run("block[:] = b'z' * len(block)").check()
            assert text_of(copy.run("block.count(b'x') == len(block)")) == "True"
            assert text_of(lease.run_code("block.count(b'x') == len(block)")) == "True"


def test_the_file_cannot_be_changed(pool: SandboxPool) -> None:
    with pool.acquire() as lease:
        if os.geteuid() == 0:
            lines = Path(f"/proc/{lease.pid}/maps").read_text(encoding="utf-8").splitlines()
            place = next(line for line in lines if "sandpool-image" in line).split()[0]
            with open(f"/proc/{lease.pid}/map_files/{place}", "r+b", buffering=0) as file:
                with pytest.raises(PermissionError):
                    file.write(b"x")
                with pytest.raises(PermissionError):
                    file.truncate(0)
    code = (
        MAPPINGS
        + """
at = ctypes.c_void_p(mappings[0][1])
page = ctypes.c_size_t(4096)
shared = libc.mmap(None, page, 3, 1, -1, 0)
removed = libc.madvise(at, page, 9)
links = []
try:
    links.append(open("/proc/self/map_files/%x-%x" % mappings[0][1:3], "r+b"))
except OSError as error:
    links.append(type(error).__name__)
{mode for *_, mode in mappings}, removed, links
"""
    )
    assert text_of(pool.run_code(code)) == "({'rw-p'}, -1, ['PermissionError'])"


def test_memory_that_a_fork_must_not_copy_is_not_in_it(pool: SandboxPool) -> None:
    assert text_of(pool.run_code("set(fresh[:])")) == "{0}"


def test_the_file_tells_nothing_of_the_zygote(tmp_path: Path) -> None:
    """A mapping can go on in the file, to what the process has unmapped."""
    mark = f"bind-{tmp_path.stat().st_ino}-of-the-host"
    (tmp_path / mark).mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    code = (
        REST_OF_FILE + f"is_there(b'found-in-', b'the-image'), is_there({mark[:8].encode()!r}, {mark[8:].encode()!r})"
    )
    large = SETUP + "#" * 200_000  # what the host has sent is large enough to become a part of the file
    with code_pool(setup=large, config={"binds": (Bind(tmp_path / mark, "/shown"),)}) as other:
        assert text_of(other.run_code(code)) == "(True, False)"


def test_a_small_interpreter_is_copied() -> None:
    with code_pool() as small:
        assert text_of(small.run_code(MAPPINGS + "mappings")) == "[]"
