"""A newcomer's two commands, in a container with Docker's defaults: `pip install`, and a command in a sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import oci
import pytest
from oci import Container

pytestmark = [pytest.mark.extended, pytest.mark.skipif(bool(oci.missing()), reason=oci.missing())]

SOURCES = ("build_ffi.py", "setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "csrc", "pysandpool")
COMMANDS = """
set -e
cd /tmp
{python} -m venv env
env/bin/pip install --quiet --no-index --find-links {wheels} pysandpool
env/bin/pysandpool run --allow-degradation -- /bin/echo hello
env/bin/python -c "
import pysandpool
allow = pysandpool.NamespaceDegradation.ALLOW_DEGRADATION
with pysandpool.SandboxPool(pysandpool.SandboxConfig(namespace_degradation=allow)) as pool, pool.acquire() as sandbox:
    print(sandbox.isolation.tier, sandbox.execute(['/bin/cat', '/etc/hostname']).exit_code, pysandpool.__file__)
"
"""


@pytest.fixture(scope="module")
def wheels() -> Iterator[Path]:
    """The wheels of the package and of what it needs, where every user can read them."""
    folder = Path(tempfile.mkdtemp(prefix="sandpool-wheels-", dir="/var/tmp"))
    tree = folder / "tree"
    tree.mkdir()
    for name in (*SOURCES, "pytest_pysandpool.py"):
        copy = shutil.copytree if (oci.ROOT / name).is_dir() else shutil.copy
        copy(oci.ROOT / name, tree / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "-w", os.fspath(folder), "."]
    subprocess.run(build, cwd=tree, check=True, timeout=200)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("user", [0, 1000], ids=["root", "user"])
def test_two_commands_in_a_container_as_docker_makes_it(wheels: Path, user: int) -> None:
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    container = Container(user=user, env={"PYTHONPATH": ""})
    done = oci.run(["/bin/sh", "-c", COMMANDS.format(python=python, wheels=wheels)], container)
    assert done.returncode == 0, done.stderr
    hello, words = done.stdout.splitlines()
    assert (hello, words.split()[:2]) == ("hello", ["landlock", "1"])
    assert words.split()[2].startswith("/tmp/env/"), "the installed package, not the sources"
