"""What a tenant that is run by an interpreter finds in its own process, and what it has in common with others."""

from __future__ import annotations

import errno
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bare_stem import RUN, BareStem, run_here
from older_kernels import open_to_sandboxes
from own_memory import PLACES_OF

from pysandpool import Bind, Interpreter, PoolConfig, SandboxConfig, SandboxCreateError, SandboxPool

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an interpreter needs a zygote")

# Looks for two pieces of text that follow each other: so neither the code nor its arguments contain what is looked for.
SEARCH = PLACES_OF + "print(list(places_of(argv[2], argv[3])))"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory of the host whose name only the zygote knows."""
    path = tmp_path / "of-the-host-alone"
    path.mkdir()
    return path


def search(lease: object, text: str) -> str:
    half = len(text) // 2
    result, _ = run_here(lease, SEARCH, text[:half], text[half:])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.stderr
    return result.stdout.decode().strip()


def test_the_search_finds_what_is_there() -> None:
    with BareStem("kept = b'here' + b'-it-is'\n" + RUN).pool() as pool, pool.acquire() as lease:
        assert search(lease, "here-it-is") != "[]"


def test_nothing_that_the_zygote_knows_is_in_the_memory_of_a_tenant(secret: Path) -> None:
    config = SandboxConfig(binds=(Bind(secret, "/shown"),))
    with BareStem().pool(config) as pool, pool.acquire() as lease:
        assert search(lease, "of-the-host-alone") == "[]"
        # After a command, the next standby is a copy of an init that has served.
        lease.execute(["/bin/true"])
        assert search(lease, "of-the-host-alone") == "[]"


def test_nothing_of_another_tenant_is_in_the_memory_of_a_tenant() -> None:
    with BareStem().pool(None, PoolConfig(min_size=2)) as pool:
        with pool.acquire() as lease, pool.acquire() as other:
            run_here(lease, "mine = 'the-code-' 'of-another'", "the-argument-of-another")
            for one in (lease, other):
                assert search(one, "the-argument-of-another") == "[]"


def test_a_tenant_has_no_way_to_the_memory_of_init() -> None:
    code = """
for name in ("mem", "fd", "map_files", "environ"):
    try:
        print(name, open(f"/proc/1/{name}", "rb"))
    except OSError as error:
        print(error.errno, end=" ")
"""
    with BareStem().pool() as pool, pool.acquire() as lease:
        assert run_here(lease, code)[0].stdout == b"13 13 13 13 "


def test_a_tenant_is_confined_as_one_that_is_executed() -> None:
    code = "print(open('/proc/self/status').read())"
    fields = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "SigBlk")
    with BareStem().pool() as pool, pool.acquire() as lease:
        ran = run_here(lease, code)[0].stdout.decode()
        executed = lease.execute(["cat", "/proc/self/status"], text=True).stdout
        limits = run_here(lease, "print(open('/proc/self/limits').read())")[0].stdout.decode()
        assert limits.strip() == lease.execute(["cat", "/proc/self/limits"], text=True).stdout.strip()

    def of(text: str) -> dict[str, str]:
        return dict(line.split(":\t", 1) for line in text.splitlines() if line.partition(":")[0] in fields)

    assert of(ran) == of(executed)
    assert len(of(ran)) == len(fields)


def test_processes_have_the_names_of_what_they_are() -> None:
    code = """
def of(pid):
    return open(f"/proc/{pid}/comm").read().strip(), open(f"/proc/{pid}/cmdline").read().strip("\\0")
print(of(1), of("self"))
"""
    with BareStem().pool() as pool, pool.acquire() as lease:
        init, mine = "('sandpool-init', 'sandpool-init')", "('python3', '/usr/bin/python3')"
        assert run_here(lease, code)[0].stdout.decode() == f"{init} {mine}\n"


DRAWS = """
import random, ssl, tempfile, uuid
print([random.random(), ssl.RAND_bytes(8), next(tempfile._get_candidate_names()), uuid.uuid4()])
"""


def test_each_sandbox_draws_other_numbers() -> None:
    preload = "import random, ssl, tempfile, uuid\nssl.RAND_bytes(8), next(tempfile._get_candidate_names())\n"
    with BareStem(preload + RUN).pool(None, PoolConfig(min_size=2)) as pool:
        drawn = []
        for _ in range(3):
            with pool.acquire() as lease:
                drawn += [run_here(lease, DRAWS)[0].stdout for _ in range(2)]
    columns = zip(*(line.decode().strip("[]\n").split(", ") for line in drawn))
    assert [len(set(column)) for column in columns] == [6, 6, 6, 6], drawn


def test_a_standby_is_never_the_process_that_openssl_saw_first() -> None:
    with BareStem(
        "import os\nof_stem = os.getpid()\n" + RUN.replace('"channel"', '"of_stem": of_stem, "channel"')
    ).pool() as pool:
        with pool.acquire() as lease:
            for _ in range(2):
                assert run_here(lease, "import os; print(of_stem, os.getpid() != of_stem)")[0].stdout == b"1 True\n"


def test_pools_have_hash_secrets_of_their_own() -> None:
    found = []
    for _ in range(3):
        with BareStem().pool() as pool, pool.acquire() as lease:
            found.append(run_here(lease, "print(hash('sandpool'))")[0].stdout)
    assert len(set(found)) == 3


WRITTEN = "import sys\nsys.path += ['/data', '/tmp/data', '/outer/inner', '/tmp/outer/inner']\n"


@pytest.mark.parametrize("place", ["/data", "/tmp/data", "/outer/inner", "/tmp/outer/inner"])
def test_what_tenants_can_write_is_not_there_for_a_preload(tmp_path: Path, place: str) -> None:
    """Otherwise a tenant would leave a module that the next stem runs, with the privileges of the zygote."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "planted.py").write_text("import os\nos.write(2, b'RUN BY THE STEM')\n")
    open_to_sandboxes(tmp_path, tmp_path / "inner")
    outer = (Bind(tmp_path, place.rpartition("/")[0]),) if place.endswith("inner") else ()
    config = SandboxConfig(binds=(*outer, Bind(tmp_path / "inner", place, readonly=False)))
    stem = BareStem(WRITTEN + "import planted\n" + RUN)
    with pytest.raises(SandboxCreateError, match="preload"), stem.pool(config):
        pass
    assert "ModuleNotFoundError" in stem.errors()
    # The sandboxes see it.
    with BareStem(WRITTEN + RUN).pool(config) as pool, pool.acquire() as lease:
        code = f"import os; print(open({place!r} + '/planted.py').read()[:9], os.access({place!r}, os.W_OK))"
        assert run_here(lease, code)[0].stdout == b"import os True\n"


def test_nor_is_a_file_that_tenants_can_write(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("print('RUN BY THE STEM')\n")
    (tmp_path / "planted.py").chmod(0o666)
    config = SandboxConfig(binds=(Bind(tmp_path / "planted.py", "/data/planted.py", readonly=False),))
    runtime = "import sys\nsys.path.append('/data')\nimport planted\nempty = not hasattr(planted, 'print')\n" + RUN
    with BareStem(runtime).pool(config) as pool, pool.acquire() as lease:
        code = "print(open('/data/planted.py').read()[:5], open('/data/planted.py', 'a').write(''))"
        assert run_here(lease, code)[0].stdout == b"print 0\n"


def test_an_interpreter_that_tenants_can_write_to_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho RUN BY THE STEM >&2\n")
    (tmp_path / "python").chmod(0o755)
    open_to_sandboxes(tmp_path)
    stem = BareStem(python="/data/python")
    with (
        pytest.raises(SandboxCreateError) as found,
        stem.pool(SandboxConfig(binds=(Bind(tmp_path, "/data", readonly=False),))),
    ):
        pass
    assert (found.value.stage, found.value.errno, found.value.detail) == ("preload", errno.ENOENT, "/data/python")
    assert stem.errors() == ""


@pytest.mark.skipif(find_spec("numpy") is None, reason="the extra `bench` is not installed")
def test_each_call_draws_other_numbers_from_numpy() -> None:
    code = "import numpy\n[numpy.random.random(), numpy.random.default_rng().random()]"
    config = SandboxConfig(interpreter=Interpreter(preload=("numpy",)))
    with SandboxPool(config, PoolConfig(min_size=2)) as pool:
        drawn = [pool.run_code(code).text for _ in range(2)]
        with pool.acquire() as lease:
            drawn += [lease.run_code(code).text for _ in range(2)]
    columns = list(zip(*(str(text).strip("[]").split(", ") for text in drawn)))
    assert [len(set(column)) for column in columns] == [4, 4], drawn
