"""Data of installed programs in /etc and /var: what of it a tenant is shown, and what not.

The host's directories are covered in a mount namespace of the test's own, which only root can do; the pool is opened
by root and by an ordinary user.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from scripts import run_script

pytestmark = [
    pytest.mark.slow,  # not in `make quick`
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can cover /etc with other files"),
]

HOST = """
import ctypes, json, os, sys
from pathlib import Path
import simulate
from pysandpool import Sandbox, SandboxConfig

simulate.own_mounts()
mount = ctypes.CDLL(None, use_errno=True).mount
os.umask(0o022)


def cover(path):
    assert mount(b"tmpfs", path.encode(), b"tmpfs", 0, b"mode=0755") == 0, path


def write(path, text="text", mode=0o644):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    os.chmod(path, mode)


def link(path, target):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, path)


cover("/etc")
cover("/var/lib")
PLANT
if sys.argv[1] == "user":
    simulate.become_ordinary()
with Sandbox() as sandbox:
    result = sandbox.execute(["/bin/sh", "-c", sys.argv[2]])
print(json.dumps([result.stdout.decode(), result.stderr.decode()]))
"""


@pytest.fixture(params=["root", "user"])
def user(request: pytest.FixtureRequest) -> Any:
    return request.param


def shown(user: str, plant: str, script: str) -> tuple[list[str], str]:
    """The lines that a script prints inside, and its stderr, where the host has what `plant` makes."""
    done = run_script(HOST.replace("PLANT", plant), user, script)
    assert (done.returncode, done.stderr) == (0, "")
    out, err = json.loads(done.stdout)
    return out.splitlines(), err


def test_files_that_any_user_may_read(user: str) -> None:
    plant = """
write("/etc/R/Renviron", "shown")
os.utime("/etc/R/Renviron", (5, 1000000000))
write("/etc/R/below/profile", "shown too")
write("/etc/R/secret", mode=0o600)
write("/etc/R/of-a-group", mode=0o640)
write("/etc/R/set-id", mode=0o6755)
write("/etc/R/closed/file")
os.chmod("/etc/R/closed", 0o700)
os.mkfifo("/etc/R/fifo")
write("/etc/java-99-x/conf", "java")
write("/etc/fpc-3.2.cfg", "fpc")
write("/etc/machine-id", "0123")
write("/etc/hostname", "host")
write("/etc/npmrc", "token")
write("/etc/r/lower")
write("/var/lib/ghc/package.conf.d/package.cache", "cache")
write("/var/lib/dpkg/status")
"""
    out, err = shown(
        user,
        plant,
        "cd /etc; find R r java* fpc* machine-id hostname npmrc /var/lib 2>/dev/null | sort;"
        "cat R/Renviron R/below/profile java-99-x/conf fpc-3.2.cfg /var/lib/ghc/package.conf.d/*; echo;"
        "stat -c '%a %Y %n' R/Renviron R/set-id; touch R/x R/Renviron /var/lib/ghc/x",
    )
    files = ["R", "R/Renviron", "R/below", "R/below/profile", "R/set-id", "fpc-3.2.cfg", "java-99-x", "java-99-x/conf"]
    ghc = "/var/lib/ghc/package.conf.d"
    assert out[:-3] == sorted([*files, "/var/lib", "/var/lib/ghc", ghc, f"{ghc}/package.cache"])
    assert out[-3] == "shownshown toojavafpccache"
    assert out[-2] == "644 1000000000 R/Renviron"
    assert out[-1].startswith("755 ")
    assert err.count("Read-only file system") == 3


def test_files_of_servers_are_left_out(user: str) -> None:
    plant = """
write("/etc/php/8.2/fpm/pool.d/www.conf", "env[PASSWORD] = secret")
write("/etc/php/8.2/apache2/php.ini")
write("/etc/php/8.2/mods-available/ctype.ini", "extension=ctype")
link("/etc/php/8.2/cli/conf.d/20-ctype.ini", "/etc/php/8.2/mods-available/ctype.ini")
write("/etc/maven/settings.xml", "password")
write("/etc/maven/m2.conf")
write("/etc/ssl/private/key.pem")
write("/etc/ssl/openssl.cnf")
"""
    out, _ = shown(user, plant, "cd /etc; find php maven ssl ! -type d | sort; cat php/8.2/cli/conf.d/20-ctype.ini")
    expected = ["maven/m2.conf", "php/8.2/cli/conf.d/20-ctype.ini", "php/8.2/mods-available/ctype.ini"]
    assert out == [*expected, "ssl/openssl.cnf", "extension=ctype"]


def test_links(user: str) -> None:
    """One that leads to what a sandbox has stays a link, and of others the file is copied. A link to a directory is
    followed only if it is itself in the table."""
    plant = """
write("/etc/elsewhere/file", "copied")
write("/etc/secret", mode=0o600)
link("/etc/os-release", "/etc/elsewhere/file")
link("/etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
link("/etc/fonts/usr", "../../usr/bin/env")
write("/etc/fonts/file", "below")
link("/etc/fonts/same", "file")
link("/etc/fonts/absolute", "/etc/fonts/file")
link("/etc/fonts/file-elsewhere", "/etc/elsewhere/file")
link("/etc/fonts/directory-elsewhere", "../elsewhere")
link("/etc/elsewhere/usr", "/usr/bin/env")
link("/etc/fonts/by-another-link", "/etc/elsewhere/usr")
link("/etc/fonts/secret", "/etc/secret")
link("/etc/fonts/dangling", "/none")
link("/etc/fonts/loop", "loop")
link("/etc/fonts/above", "..")
link("/etc/R", "/etc/elsewhere/R")
write("/etc/elsewhere/R/file")
link("/etc/perl", "/")
link("/etc/fonts/null", "/dev/null")
link("/etc/fonts/device", "/dev/tty0")
link("/etc/fonts/process", "/proc/version")
"""
    out, _ = shown(
        user,
        plant,
        "cd /etc; cat os-release; echo; readlink localtime; cd fonts; for f in *; do echo $f $(readlink $f || cat $f);"
        " done; find /etc/R /etc/perl | sort",
    )
    assert out == [
        "copied",
        "/usr/share/zoneinfo/Etc/UTC",
        "absolute /etc/fonts/file",
        "by-another-link /usr/bin/env",
        "file below",
        "file-elsewhere copied",
        "null /dev/null",
        "same file",
        "usr ../../usr/bin/env",
        "/etc/R",
        "/etc/R/file",
    ]


def test_what_is_large(user: str) -> None:
    """In /var it is mounted; in /etc, where a mount would show all of it, only a part is copied."""
    plant = """
for number in range(2500):
    write(f"/var/lib/ghc/{number}")
    write(f"/etc/fonts/{number}")
write("/var/lib/mecab/dictionary", "x" * (9 << 20))
"""
    out, err = shown(
        user,
        plant,
        "ls /var/lib/ghc | wc -l; ls /etc/fonts | wc -l; wc -c </var/lib/mecab/dictionary;"
        "grep -c ' /var/lib/.* ro,nosuid,nodev' /proc/self/mountinfo; touch /var/lib/ghc/1 /etc/fonts/1",
    )
    assert [int(line) for line in out[:1] + out[2:]] == [2500, 9 << 20, 2]
    assert 1000 < int(out[1]) < 2500
    assert err.count("Read-only file system") >= 1
