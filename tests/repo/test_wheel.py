"""What a wheel holds, and that it works where the sources are out of reach.

It holds compiled modules without debug information, symbol tables or the place where they were built.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    *("build_ffi.py", "setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"),
    *("csrc", "pysandpool", "pytest_pysandpool.py"),
)
_BIN = "pysandpool/_bin/"
MODULES = ("pysandpool/_core.", "pysandpool/_core_hot.", f"{_BIN}sandpool-zygote", f"{_BIN}sandpool-stem.")
MOST_BYTES = 1_100_000

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sections are read from ELF files"),
    pytest.mark.slow,
]


def section_names(elf: bytes) -> Iterator[str]:
    """The sections of a 64-bit ELF file of this machine's byte order, as readelf -S lists them."""
    assert elf[:5] == b"\x7fELF\x02"
    (table,) = struct.unpack_from("=Q", elf, 0x28)
    size, count, names_at = struct.unpack_from("=HHH", elf, 0x3A)
    sections = [struct.unpack_from("=II4Q", elf, table + number * size) for number in range(count)]
    names = sections[names_at][4]
    for name, *_ in sections:
        yield elf[names + name : elf.index(b"\0", names + name)].decode()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", reason="a wheel is built without the network, with the setuptools that is here")
    tree = tmp_path_factory.mktemp("checkout-of-the-wheel")
    left_out = shutil.ignore_patterns("*.so", "_bin", "__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, tree)
    return build(tree, Path(sys.executable), "--no-build-isolation", "--no-index")


def build(tree: Path, python: Path, *how: str) -> Path:
    run(tree, os.fspath(python), "-m", "pip", "wheel", "-q", "--no-deps", *how, ".")
    [built] = tree.glob("*.whl")
    return built


def run(folder: Path, *command: str, **environment: str) -> str:
    """Its output. It sees no variable that would show it the sources."""
    hidden = ("PYTHON", "PYTEST", "SANDPOOL", "CC", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        command, cwd=folder, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def test_compiled_files_are_stripped(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(MODULES) and not name.endswith(".pyi")]
        found = {name: archive.read(name) for name in names}
    assert len(found) == len(MODULES)
    for name, data in found.items():
        sections = set(section_names(data))
        assert ".text" in sections
        assert not {section for section in sections if section.startswith((".debug", ".symtab"))}, name
        assert wheel.parent.name.encode() not in data, f"{name} names the directory that it was built in"


def test_the_wheel_is_small(wheel: Path) -> None:
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size:,} bytes")
    assert size < MOST_BYTES


def test_the_wheel_has_each_room(wheel: Path) -> None:
    """A folder that setuptools does not find is not in the wheel, and no test of the checkout would see it."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if name.endswith(".py")}
    assert found - {"pytest_pysandpool.py"} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "pysandpool").rglob("*.py")
    }
    assert "pytest_pysandpool.py" in found


SMOKE = """
import sys, pysandpool
assert not any(path.startswith(sys.argv[1]) for path in sys.path), sys.path
with pysandpool.SandboxPool() as pool, pool.acquire() as sandbox:
    print(sandbox.execute(["/bin/echo", "hello"]).stdout.decode(), end="")
    print(sandbox.isolation.namespaces, pysandpool.__file__)
"""


@pytest.mark.namespaces
def test_the_wheel_works_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    """Unpacked, as pip does it; cffi is that of this Python."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = Path(archive.extract(info, tmp_path / "site"))
            path.chmod(info.external_attr >> 16 or 0o644)
    for name in ("cffi", "pycparser", "_cffi_backend"):
        for path in (Path(sysconfig.get_paths()["platlib"])).glob(f"{name}*"):
            (tmp_path / "site" / path.name).symlink_to(path)
    out = run(tmp_path, sys.executable, "-S", "-c", SMOKE, os.fspath(ROOT), PYTHONPATH=os.fspath(tmp_path / "site"))
    assert out == f"hello\nfull {tmp_path}/site/pysandpool/__init__.py\n"
