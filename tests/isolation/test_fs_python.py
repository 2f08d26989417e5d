"""fs_python: the caller's own Python, with its packages, inside a sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pysandpool import InvalidSandboxConfigError, Sandbox, SandboxConfig
from pysandpool._backend.python import python_paths, readonly_paths

pytestmark = pytest.mark.slow  # not in `make quick`

FACTS = "import os, sys; print(sys.prefix, sys.base_prefix, sys.executable, os.__file__)"


def test_python_is_this_one_with_its_packages() -> None:
    mine = subprocess.run([sys.executable, "-c", FACTS], capture_output=True, check=True)
    with Sandbox(SandboxConfig(fs_python=True)) as sandbox:
        for name in ("python3", sys.executable):
            inside = sandbox.execute([name, "-c", FACTS]).check().stdout.split()
            theirs = mine.stdout.split()
            assert [*inside[:2], inside[3]] == [*theirs[:2], theirs[3]]
        if Path(pytest.__file__).is_relative_to(sys.prefix):  # and not in a directory of PYTHONPATH
            sandbox.execute(["python3", "-c", "import pytest"]).check()
        path = sandbox.execute(["printenv", "PATH"]).check().stdout.decode()
        assert path.startswith(os.path.join(sys.prefix, "bin") + ":/usr/local/sbin:")


PRINT_PREFIX = """
from pysandpool import Sandbox, SandboxConfig
with Sandbox(SandboxConfig(fs_python=True)) as sandbox:
    print(sandbox.execute(["python", "-c", "import sys; print(sys.prefix)"]).check().stdout.decode(), end="")
"""


def test_a_virtual_environment(host_dir: Path) -> None:
    venv = host_dir / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    env = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([venv / "bin" / "python", "-c", PRINT_PREFIX], capture_output=True, env=env, check=True)
    assert done.stdout.decode() == f"{venv}\n"


@pytest.mark.skipif(not python_paths(), reason="this Python is one of the system, which every sandbox shows")
def test_without_it_there_is_another_one_or_none() -> None:
    with Sandbox() as sandbox:
        assert sandbox.execute(["/usr/bin/test", "-e", sys.prefix]).exit_code == 1


def test_it_is_read_only() -> None:
    with Sandbox(SandboxConfig(fs_python=True)) as sandbox:
        script = f"touch {sys.prefix}/x {sys.base_prefix}/x; ls {sys.prefix}"
        result = sandbox.execute(["/bin/sh", "-c", script])
    assert result.stderr.count(b"touch: ") == 2
    assert b"bin" in result.stdout.split()
    assert not Path(sys.prefix, "x").exists()


def test_variables_of_the_configuration_come_last() -> None:
    with Sandbox(SandboxConfig(fs_python=True, env_vars={"PATH": "/bin"})) as sandbox:
        assert sandbox.execute(["printenv", "PATH"]).check().stdout == b"/bin\n"


def test_a_rootfs_has_its_own() -> None:
    with pytest.raises(InvalidSandboxConfigError, match="fs_python"):
        SandboxConfig(fs_python=True, rootfs="/srv/tree")


def installation(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python3.99").write_text("")
    return root


def test_each_directory_on_the_way_to_the_interpreter_is_shown(tmp_path: Path) -> None:
    """As uv has it: a venv links to a directory that is a link to the installed version."""
    real = installation(tmp_path / "pythons" / "3.99.1")
    (tmp_path / "pythons" / "3.99").symlink_to("3.99.1")
    (tmp_path / "shims" / "bin").mkdir(parents=True)
    (tmp_path / "shims" / "bin" / "python").symlink_to("../../pythons/3.99/bin/python3.99")
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(tmp_path / "shims" / "bin" / "python")
    (venv / "bin" / "python3").symlink_to("python")
    found = python_paths((str(venv),))
    names = [venv, tmp_path / "shims", tmp_path / "pythons" / "3.99", real]
    assert sorted(found) == sorted(map(str, names))


def test_what_every_sandbox_shows_is_left_out(tmp_path: Path) -> None:
    inner = installation(installation(tmp_path / "a") / "b")
    assert python_paths(("/usr", str(inner), str(tmp_path / "a"))) == [str(tmp_path / "a")]
    loop = tmp_path / "loop" / "bin"
    loop.mkdir(parents=True)
    (loop / "python").symlink_to("python3")
    (loop / "python3").symlink_to("python")
    assert python_paths((str(loop.parent), str(tmp_path / "missing"))) == [str(loop.parent)]


@pytest.mark.skipif(not python_paths(), reason="this Python is one of the system, which every sandbox shows")
def test_a_path_is_shown_once() -> None:
    own = python_paths()
    assert readonly_paths(SandboxConfig(fs_python=True)) == tuple(own)
    assert readonly_paths(SandboxConfig(fs_python=True, fs_readonly=own)) == tuple(own)
    assert set(readonly_paths(SandboxConfig(fs_python=True, fs_readwrite=own[:1]))) == set(own[1:])
    assert readonly_paths(SandboxConfig()) == ()
