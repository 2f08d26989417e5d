"""What `import pysandpool` costs a process that may never open a pool: no thread, no descriptor, no rare module."""

from __future__ import annotations

import json

import pytest
from scripts import run_script

# Modules that take long to load, and that few programs have already. Each is imported where it is needed. A module that
# opening a pool or an error needs is not among them: a host that has given up root, has entered another root, or has
# no free descriptor could not import it then.
RARE = {
    *("asyncio", "anyio", "cffi", "ctypes", "decimal", "email", "fractions", "hashlib", "hmac", "http"),
    *("importlib.metadata", "multiprocessing", "pickle", "platform", "pydoc", "secrets", "ssl", "statistics"),
    *("unittest", "urllib.request", "uuid", "zipfile"),
}
IMPORT = """
import json, os, signal, sys
sys.path[:] = [path for path in sys.path if path != os.getcwd()]

def seen():
    handlers = [str(signal.getsignal(number)) for number in range(1, signal.NSIG) if number not in (9, 19)]
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), dict(os.environ), handlers

before, loaded = seen(), set(sys.modules)
{statement}
print(json.dumps({{"same": seen() == before, "modules": sorted(set(sys.modules) - loaded)}}))
"""


def look(statement: str) -> dict[str, object]:
    done = run_script(IMPORT.format(statement=statement))
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def modules(statement: str) -> set[str]:
    found = look(statement)["modules"]
    assert isinstance(found, list)
    return set(found)


@pytest.mark.parametrize(
    "statement",
    ["file = open('/dev/null')", "import threading, time; threading.Thread(target=time.sleep, args=[1]).start()"],
    ids=["descriptor", "thread"],
)
def test_one_more_would_be_seen(statement: str) -> None:
    assert look(statement)["same"] is False


def test_it_starts_and_opens_nothing() -> None:
    assert look("import pysandpool")["same"] is True


def test_it_loads_no_module_that_is_rare() -> None:
    assert not RARE & modules("import pysandpool")


def test_a_pool_on_an_event_loop_needs_neither_anyio_nor_trio() -> None:
    open_one = "async def main():\n    async with pysandpool.AsyncSandbox(): pass"
    assert not {"anyio", "trio"} & modules(f"import asyncio, pysandpool\n{open_one}\nasyncio.run(main())")


# What a service does, after the last moment at which a module can be imported.
IMPORTED_LATE = """
import asyncio, os, sys, tempfile
from pysandpool import *

top = tempfile.mkdtemp()
os.chmod(top, 0o755)
late = []

class Look:
    @staticmethod
    def find_spec(name, *rest):
        late.append(name)

sys.meta_path.insert(0, Look)

def fails(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind}")

fails(ValueError, lambda: SandboxConfig(seccomp_allow=("ptracee",)))
fails(SandboxCreateError, lambda: SandboxPool(SandboxConfig(fs_readonly=("/no/such",))))
with SandboxPool() as pool:
    with pool.acquire() as lease:
        lease.execute(["echo", "x"], text=True, errors="replace", check=True)
        fails(CommandNotFoundError, lambda: lease.execute(["ehco"]))
        fails(CommandFailedError, lambda: lease.execute(["false"], check=True))
        with lease.popen(["cat"], pty=True) as process:
            process.kill()
        lease.write_file("file", b"x")
        lease.download("file", os.path.join(top, "copy"))
        lease.upload(os.path.join(top, "copy"), "again")
        assert lease.read_file("again") == b"x"
    with SandboxExecutor(pool) as executor:
        executor.submit(["true"]).result()
    pool.resize(1, 2)
    pool.drain(20)
    pool.stats()

async def main():
    async with AsyncSandboxPool() as pool, pool.acquire() as lease:
        await lease.execute(["true"])
        process = await lease.popen(["cat"])
        await process.wait()

asyncio.run(main())
os.unlink(os.path.join(top, "copy"))
os.rmdir(top)
print(*late)
"""


def test_nothing_is_imported_after_the_package() -> None:
    """A host may give up root, enter another root or use up its descriptors, and cannot import anything then. Only what
    awaits in asyncio is imported late, because most programs do not have asyncio."""
    done = run_script(IMPORTED_LATE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["pysandpool._async.asyncio_backend"]
