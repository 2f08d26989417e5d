"""The C code compiles with the kernel headers of Linux 4.18: wheels for old libcs are built on systems that have them.

The old headers are those of this machine without what is newer. What a file needs of that is in
csrc/common/kernel_linux.h.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from other_libc import python_headers

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*.c") if not path.stem.endswith("_darwin"))
HEADERS = ("linux", "asm-generic", "asm")
NEWER_FILES = ("mount.h", "openat2.h", "landlock.h", "close_range.h")
# file -> what is newer in it
NEWER = {
    "sched.h": (
        r"struct clone_args \{.*?\};",
        r"#define CLONE_(?:PIDFD|INTO_CGROUP|CLEAR_SIGHAND|NEWTIME|ARGS)\w*\b.*?$",
    ),
    "seccomp.h": (
        r"struct seccomp_notif\w* \{.*?\};",
        r"#define SECCOMP_(?:\w*NOTIF|\w*ADDFD|IO)\w*\b(?:\\\n|.)*?$",
    ),
}
NEWER_CALLS = r"#define __NR_\w+ 4[2-9]\d\n"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-Icsrc", "-fsyntax-only", "-Wall", "-Wextra", "-Werror")
# A file that needs the old headers and includes none of what would define the rest.
PLANTED = {
    "linux/openat2.h": "#include <linux/openat2.h>\n",
    "linux/mount.h": "#include <linux/mount.h>\n",
    "clone_args": "#include <linux/sched.h>\nstruct clone_args args;\n",
    "SYS_close_range": "#include <sys/syscall.h>\nlong number = SYS_close_range;\n",
    "SECCOMP_RET_USER_NOTIF": "#include <linux/seccomp.h>\nunsigned action = SECCOMP_RET_USER_NOTIF;\n",
}

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux: its headers"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not here: apt-get install gcc"),
]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One that finds all headers of this machine, but the kernel's as they were."""
    into = tmp_path_factory.mktemp("headers-of-4.18")
    folders = [Path("/usr/include", str(sysconfig.get_config_var("MULTIARCH"))), Path("/usr/include")]
    for here in filter(Path.exists, folders):
        for path in here.iterdir():
            if path.name in HEADERS:
                shutil.copytree(path, into / path.name, dirs_exist_ok=True)
            elif not (into / path.name).is_symlink():
                (into / path.name).symlink_to(path)
    for name in NEWER_FILES:
        (into / "linux" / name).unlink(missing_ok=True)
    for name, patterns in NEWER.items():
        without(into / "linux" / name, *patterns)
    for path in (*into.glob("asm/unistd*.h"), *into.glob("asm-generic/unistd.h")):
        without(path, NEWER_CALLS)
    own = subprocess.run(["gcc", "-print-file-name=include"], capture_output=True, text=True, check=True).stdout.strip()
    return ["gcc", "-nostdinc", "-isystem", own, "-isystem", os.fspath(into), *python_headers(), *FLAGS]


def without(path: Path, *patterns: str) -> None:
    text = path.read_text(encoding="utf-8")
    for pattern in patterns:
        text = re.sub(pattern, "", text, flags=re.DOTALL | re.MULTILINE if "{" in pattern else re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def complaints(compiler: list[str], source: Path) -> str:
    return subprocess.run([*compiler, source], cwd=ROOT, capture_output=True, text=True, check=False).stderr


def test_the_c_code_compiles_with_old_kernel_headers(compiler: list[str]) -> None:
    assert SOURCES
    failed = [complaint for source in SOURCES if (complaint := complaints(compiler, source))]
    assert not failed, "Declare it in csrc/common/kernel_linux.h:\n" + "\n".join(failed)


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_newer_is_not_there(compiler: list[str], tmp_path: Path, name: str) -> None:
    source = tmp_path / "planted.c"
    source.write_text(PLANTED[name])
    assert name in complaints(compiler, source)
