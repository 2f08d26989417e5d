"""Root's pools: the host runs as root, the sandbox as nobody, and a bound directory still is the sandbox's own."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysandpool import Sandbox, SandboxConfig, SandboxResult

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="about what root's pools do")
NOBODY = 65534


@pytest.fixture(params=["/root", "/tmp", "/var/tmp"])
def closed(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory that is its owner's alone; the first one cannot even be reached by others."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-test-", dir=request.param))
    yield path
    shutil.rmtree(path)


def sh(script: str, directory: Path, **fields: list[Path]) -> SandboxResult:
    with Sandbox(SandboxConfig(**fields)) as sandbox:  # type: ignore[arg-type]
        return sandbox.execute(["/bin/sh", "-c", f"cd {directory} && {script}"])


def as_nobody(script: str, directory: Path) -> int:
    """The control: the exit code of the same, run by the sandbox's user without a sandbox."""
    command = ["/bin/sh", "-c", f"cd {directory} && {script}"]
    return subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], stderr=-3, check=False).returncode


def owners(directory: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_uid, path.stat().st_gid) for path in directory.rglob("*")}


@pytest.mark.parametrize("owner", [(0, 0), (1234, 4321), (NOBODY, 4321), (NOBODY, NOBODY)])
def test_a_writable_directory_is_the_sandboxes_own(closed: Path, owner: tuple[int, int]) -> None:
    (closed / "old").write_text("old")
    (closed / "old").chmod(0o600)
    for path in (closed / "old", closed):
        os.chown(path, *owner)
    if owner[0] != NOBODY:
        assert as_nobody("echo new >> old", closed) != 0, "the control may not"
    script = "echo new >> old; mkdir sub; echo > sub/new; stat -c %u:%g . old sub/new; rm sub/new"
    result = sh(script, closed, fs_readwrite=[closed])
    assert (result.stdout, result.stderr) == (b"1000:1000\n" * 3, b"")
    assert owners(closed) == {"old": owner, "sub": owner}
    assert (closed / "old").read_text() == "oldnew\n"


def test_a_writable_file_alone(closed: Path) -> None:
    file = closed / "file"
    file.write_text("old")
    file.chmod(0o600)
    assert sh("echo new > file; ls", closed, fs_readwrite=[file]).stdout == b"file\n"
    assert file.read_text() == "new\n"
    assert owners(closed) == {"file": (0, 0)}


def test_what_belongs_to_others_stays_theirs(closed: Path) -> None:
    for name, mode in (("open", 0o666), ("secret", 0o600)):
        (closed / name).write_text(name)
        os.chown(closed / name, 1234, 1234)
        (closed / name).chmod(mode)
    result = sh("cat open; cat secret; echo > open; chmod 777 secret; chown 1000 secret", closed, fs_readwrite=[closed])
    assert (result.stdout, result.exit_code) == (b"open", 1)
    assert owners(closed) == {"open": (1234, 1234), "secret": (1234, 1234)}
    assert ((closed / "open").read_text(), (closed / "secret").stat().st_mode & 0o777) == ("open", 0o600)


def test_nothing_of_it_reaches_the_host(closed: Path) -> None:
    """The mounts are private: neither the host nor a second sandbox sees what is mounted on the first one's."""
    inner = closed / "inner"
    inner.mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    with Sandbox(SandboxConfig(fs_readwrite=[closed], fs_readonly=[inner])) as sandbox:
        assert sandbox.execute(["/bin/touch", inner / "x"]).exit_code == 1
        assert Path("/proc/self/mountinfo").read_text() == before
        (inner / "x").touch()
        assert sandbox.execute(["/bin/ls", inner]).stdout == b"x\n"


@pytest.mark.parametrize("owner", [(0, 0), (1234, 4321), (NOBODY, 4321), (NOBODY, NOBODY)])
def test_a_readable_directory_is_the_sandboxes_own(closed: Path, owner: tuple[int, int]) -> None:
    (closed / "file").write_text("text")
    (closed / "file").chmod(0o600)
    for path in (closed / "file", closed):
        os.chown(path, *owner)
    if owner[0] != NOBODY:
        assert as_nobody("cat file", closed) != 0, "the control may not"
    result = sh("cat file; stat -c %u . file; chmod 777 file; echo > new", closed, fs_readonly=[closed])
    assert result.stdout == b"text1000\n1000\n"
    assert result.stderr.count(b"Read-only file system") == 2
    assert owners(closed) == {"file": owner}


def test_a_readable_file_alone(closed: Path) -> None:
    file = closed / "file"
    file.write_text("text")
    file.chmod(0o600)
    assert sh("cat file", closed, fs_readonly=[file]).stdout == b"text"


@pytest.mark.parametrize("secret", [(0, 0), (0, 4321), (4321, 1234)])
def test_only_files_of_the_directorys_owner_become_readable(closed: Path, secret: tuple[int, int]) -> None:
    """Not those of root below another owner's directory, nor those that its group may read."""
    (closed / "secret").write_text("secret")
    os.chown(closed, 1234, 4321)
    os.chown(closed / "secret", *secret)
    (closed / "secret").chmod(0o640)
    result = sh("cat secret || stat -c %u:%g secret", closed, fs_readonly=[closed])
    assert (result.stdout, b"Permission denied" in result.stderr) == (f"{NOBODY}:{NOBODY}\n".encode(), True)


@pytest.mark.parametrize("shown", ["/etc", "link"])
def test_root_keeps_the_secrets_of_the_system(closed: Path, shown: str) -> None:
    (closed / "link").symlink_to("/etc")
    directory = Path(shown) if shown == "/etc" else closed / "link"
    result = sh("cat shadow || stat -c %u shadow", directory, fs_readonly=[directory])
    assert (result.stdout, b"Permission denied" in result.stderr) == (f"{NOBODY}\n".encode(), True)


def test_a_mount_that_cannot_be_idmapped_keeps_its_owners(closed: Path) -> None:
    """The directory that it is mounted on is the sandbox's own all the same."""
    script = """
import subprocess, sys
from pathlib import Path
from pysandpool import *
closed = Path(sys.argv[1])
(closed / "file").touch(0o600)
(closed / "below").mkdir()
subprocess.run(["mount", "-t", "ramfs", "none", closed / "below"], check=True)
(closed / "below" / "file").touch(0o600)
with Sandbox(SandboxConfig(fs_readonly=[closed])) as sandbox:
    print(sandbox.execute(["/usr/bin/stat", "-c", "%u", closed / "file", closed / "below" / "file"]).stdout.split())
"""
    command = ["unshare", "--mount", sys.executable, "-c", script, str(closed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == (f"[b'1000', b'{NOBODY}']\n", "")


def test_a_file_system_without_idmapped_mounts(closed: Path) -> None:
    """In a mount namespace of the test's own, so that nothing has to be unmounted."""
    script = """
import os, subprocess, sys
from pysandpool import *
closed = sys.argv[1]
subprocess.run(["mount", "-t", "ramfs", "none", closed], check=True)
os.chmod(closed, 0o755)
try:
    Sandbox(SandboxConfig(fs_readwrite=[closed]))
except SandboxCreateError as error:
    print(error.stage, error.errno, "idmapped" in error.hint)
os.chmod(closed, 0o777)
with Sandbox(SandboxConfig(fs_readwrite=[closed])) as sandbox:
    sandbox.execute(["/bin/touch", closed + "/x"]).check()
print(os.stat(closed + "/x").st_uid)
"""
    command = ["unshare", "--mount", sys.executable, "-c", script, str(closed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == ([f"bind {errno.EACCES} True", str(NOBODY)], "")
