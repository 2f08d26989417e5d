"""Memory of the interpreter that would not be copied with it: whoever wrote to it would reach the others."""

from __future__ import annotations

import sys

import pytest
from code_pools import code_pool

from pysandpool import CodeResult, SandboxCreateError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an interpreter needs a zygote")

# The mappings that are shared and can be written, or be made so.
SHARED = """
found, name = [], ""
for line in open("/proc/self/smaps"):
    words = line.split()
    if words[0][-1] != ":":
        name = line.strip() if words[1][3] == "s" else ""
    elif words[0] == "VmFlags:" and name and "mw" in words:
        found.append(name)
found
"""


def shared(result: CodeResult) -> str | None:
    assert result.ok, result
    return result.text


def test_no_process_shares_memory_with_init_or_with_another_sandbox() -> None:
    with code_pool(setup="import mmap\nkept = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE)") as pool, pool.acquire() as lease:
        assert "rw-s" in (shared(lease.run_code("own = mmap.mmap(-1, 4096)" + SHARED)) or ""), "the control"
        for _ in range(2):
            assert shared(lease.run_code(SHARED)) == "[]"
            with lease.session() as first, lease.session() as second:
                (copy,) = second.branch()
                assert [shared(one.run(SHARED)) for one in (first, second, copy)] == ["[]"] * 3


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ("kept = mmap.mmap(-1, 4096)", "/dev/zero (deleted)"),
        ("kept = mmap.mmap(-1, 4096, mmap.MAP_SHARED, mmap.PROT_READ)", "/dev/zero (deleted)"),
        ("fd = os.memfd_create('mine')\nos.truncate(fd, 4096)\nkept = mmap.mmap(fd, 4096)", "/memfd:mine (deleted)"),
        ("libc = ctypes.CDLL(None)\nlibc.shmat(libc.shmget(0, 4096, 0o600), None, 0)", "/SYSV00000000"),
    ],
)
def test_a_preload_that_leaves_shared_memory_is_refused(made: str, name: str) -> None:
    """One tenant would write to it, and the next one read."""
    with pytest.raises(SandboxCreateError) as found, code_pool(setup=f"import ctypes, mmap, os\n{made}"):
        pass
    assert found.value.stage == "preload"
    assert "shared memory" in str(found.value)
    assert name in str(found.value)


def test_a_file_that_is_mapped_for_reading_is_not_refused() -> None:
    setup = "import mmap, os\nkept = mmap.mmap(os.open('/etc/passwd', os.O_RDONLY), 0, mmap.MAP_SHARED, mmap.PROT_READ)"
    with code_pool(setup=setup) as pool:
        assert pool.run_code("kept[:] == open('/etc/passwd', 'rb').read()").text == "True"
