"""A file in a writable bind that gives rights to whoever runs it keeps its content, or loses what makes it do so."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pysandpool import PoolConfig, SandboxConfig, SandboxCreateError, SandboxPool, SandboxResult
from pysandpool._backend import linux
from pysandpool._backend import setid as _setid
from pysandpool._backend.setid import Cover, find_covers

pytestmark = pytest.mark.slow

ROOT = os.geteuid() == 0
BEFORE, AFTER = b"before the tenant " * 500, b"by the tenant"
# capabilities(7), VFS_CAP_REVISION_2: CAP_NET_RAW, effective
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)

# Each way overwrites "sub/program" of the current directory.
TENANT = """
import ctypes, mmap, os, struct, sys
text, program, other = b"by the tenant", "sub/program", "other"
libc = ctypes.CDLL(None, use_errno=True)
def done(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def attribute(name, value):
    try:
        os.setxattr(program, name, value)
    except OSError:
        pass  # refused to every tenant, whatever the file
def mapped(path=program):
    fd = os.open(path, os.O_RDWR)
    mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)[0:len(text)] = text
def protected_later():
    fd = os.open(program, os.O_RDWR)
    shared = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
    done(libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ))
    done(libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_WRITE))
    shared[0:len(text)] = text
def linked():
    os.link(program, "second")
    mapped("second")
def below_a_moved_directory():
    os.rename("sub", "moved")
    mapped("moved/program")
def beside_a_moved_directory():
    os.mkdir("copy")
    os.rename(program, "copy/program")
    mapped("copy/program")
def woken():
    entries = [(1, 6, -1), (2, 7, os.getuid()), (4, 7, -1), (16, 7, -1), (32, 4, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    attribute("system.posix_acl_access", acl)
    mapped()
def spliced():
    reader, writer = os.pipe()
    os.write(writer, text)
    os.splice(reader, os.open(program, os.O_WRONLY), len(text))
def allocated():
    fd = os.open(program, os.O_RDWR)
    os.posix_fallocate(fd, 0, 100_000)
    done(libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096)))  # a hole
def owned():
    os.chown(program, os.getuid(), os.getgid())
    mapped()
ways = {
    "mapped": mapped,
    "protected_later": protected_later,
    "linked": linked,
    "below_a_moved_directory": below_a_moved_directory,
    "beside_a_moved_directory": beside_a_moved_directory,
    "woken": woken,
    "owned": owned,
    "written": lambda: os.pwrite(os.open(program, os.O_WRONLY), text, 0),
    "spliced": spliced,
    "sent": lambda: os.sendfile(os.open(program, os.O_WRONLY), os.open(other, os.O_RDONLY), 0, len(text)),
    "copied": lambda: os.copy_file_range(os.open(other, os.O_RDONLY), os.open(program, os.O_RDWR), len(text)),
    "allocated": allocated,
    "truncated": lambda: os.truncate(program, 5),
    "replaced": lambda: os.rename(other, program),
    "mode": lambda: (os.chmod(program, 0o6755), mapped()),
    "xattr": lambda: (attribute("user.x", b"x"), mapped()),
}
print(*ways) if sys.argv[1] == "list" else ways[sys.argv[1]]()
"""
WAYS = [
    *["mapped", "protected_later", "linked", "below_a_moved_directory", "beside_a_moved_directory", "woken", "owned"],
    *["written", "spliced", "sent", "copied", "allocated", "truncated", "replaced", "mode", "xattr"],
]
# Those by which the content changes and the bits stay, where nothing is covered: of a set-user-id program, and of one
# whose set-gid bit does nothing as long as its group may not execute it.
REACHING = ["mapped", "protected_later", "linked", "below_a_moved_directory", "beside_a_moved_directory", "xattr"]
REACHING_INERT = ["mapped", "woken", "written", "copied", "allocated"]


def tree(directory: Path, mode: int = 0o4755) -> int:
    """Fills it, and returns a descriptor of the program: what is looked at afterwards, whatever its name then is."""
    (directory / "sub").mkdir(mode=0o755)
    directory.chmod(0o755)
    (directory / "other").write_bytes(AFTER)
    program = directory / "sub" / "program"
    program.write_bytes(BEFORE)
    program.chmod(mode)
    return os.open(program, os.O_RDONLY)


def gains(fd: int) -> bool:
    return bool(os.fstat(fd).st_mode & (stat.S_ISUID | stat.S_ISGID)) or "security.capability" in os.listxattr(fd)


def attack(directory: Path, way: str, **fields: Any) -> SandboxResult:
    with SandboxPool(SandboxConfig(fs_readwrite=[directory], **fields), PoolConfig(min_size=1)) as pool:
        return pool.acquire().execute(
            ["/usr/bin/python3", "-c", TENANT, way], env={"PWD": str(directory)}, cwd=directory
        )


@pytest.fixture
def uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "find_covers", lambda writable, readonly: [])


def test_every_way_is_tried(host_dir: Path) -> None:
    assert attack(host_dir, "list").check().stdout.split() == [word.encode() for word in WAYS]


@pytest.mark.parametrize(
    ("mode", "way"), [*((0o4755, way) for way in REACHING), *((0o2644, way) for way in REACHING_INERT)]
)
@pytest.mark.usefixtures("uncovered")
def test_without_covers_the_program_is_the_tenants(host_dir: Path, mode: int, way: str) -> None:
    """The control."""
    program = tree(host_dir, mode)
    attack(host_dir, way).check()
    assert gains(program)
    assert os.pread(program, len(BEFORE), 0) != BEFORE


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o2644, 0o6777], ids=oct)
def test_no_program_is_changed_and_keeps_its_rights(host_dir: Path, way: str, mode: int) -> None:
    program = tree(host_dir, mode)
    attack(host_dir, way)
    assert os.pread(program, len(BEFORE), 0) == BEFORE or not gains(program)
    assert os.fstat(program).st_size == len(BEFORE)


@pytest.mark.skipif(not ROOT, reason="only root gives a file capabilities")
@pytest.mark.parametrize("way", WAYS)
def test_nor_one_with_capabilities(host_dir: Path, way: str) -> None:
    program = tree(host_dir, 0o755)
    os.setxattr(program, "security.capability", CAPABILITY)
    attack(host_dir, way)
    assert os.pread(program, len(BEFORE), 0) == BEFORE or not gains(program)


def test_it_can_be_read_and_run_where_the_rest_can_be_written(host_dir: Path) -> None:
    tree(host_dir)
    (host_dir / "sub" / "program").write_bytes(Path("/bin/true").read_bytes())
    (host_dir / "sub" / "program").chmod(0o4755)
    script = "sub/program && head -c 4 sub/program && echo > sub/new && mv sub moved && rm moved/new; rm moved/program"
    with SandboxPool(SandboxConfig(fs_readwrite=[host_dir])) as pool:
        result = pool.acquire().execute(["/bin/sh", "-c", script], cwd=host_dir)
    assert (result.stdout, result.exit_code) == (b"\x7fELF", 1)
    assert b"busy" in result.stderr
    assert os.listdir(host_dir / "moved") == ["program"]


def test_all_names_of_one_file_are_covered(host_dir: Path) -> None:
    program = tree(host_dir)
    os.link(host_dir / "sub" / "program", host_dir / "other-name")
    names = [cover.path for cover in find_covers([str(host_dir)], [])]
    assert sorted(names) == [os.fsencode(host_dir / "other-name"), os.fsencode(host_dir / "sub" / "program")]
    with SandboxPool(SandboxConfig(fs_readwrite=[host_dir])) as pool, pool.acquire() as sandbox:
        for name in names:
            assert b"Read-only" in sandbox.execute(["/bin/sh", "-c", 'echo > "$0"', name]).stderr
    assert os.pread(program, len(BEFORE), 0) == BEFORE


def test_an_ordinary_tree_has_no_covers(host_dir: Path) -> None:
    tree(host_dir, 0o755)
    (host_dir / "sub").chmod(0o2755)  # of a directory it is inherited, and gives nothing
    (host_dir / "link").symlink_to("/usr/bin/su")
    os.mkfifo(host_dir / "fifo")
    assert find_covers([str(host_dir)], []) == []


def test_what_another_bind_shows_is_left_to_it(host_dir: Path) -> None:
    tree(host_dir)
    sub = str(host_dir / "sub")
    assert find_covers([str(host_dir)], [sub]) == []
    [cover] = find_covers([str(host_dir), sub], [])
    assert cover.path == os.fsencode(host_dir / "sub" / "program")


def test_a_link_is_looked_through_only_as_the_bind_itself(host_dir: Path) -> None:
    tree(host_dir)
    (host_dir / "link").symlink_to("sub")
    [cover] = find_covers([str(host_dir / "link")], [])
    assert cover.path == os.fsencode(host_dir / "link" / "program")
    with SandboxPool(SandboxConfig(fs_readwrite=[host_dir / "link"])) as pool:
        result = pool.acquire().execute(["/bin/sh", "-c", f"echo > {host_dir}/link/program; ls {host_dir}/link"])
    assert b"Read-only" in result.stderr
    assert result.stdout == b"program\n"


def test_one_that_is_the_bind_itself_is_refused(host_dir: Path) -> None:
    tree(host_dir)
    with pytest.raises(SandboxCreateError) as refused:
        SandboxPool(SandboxConfig(fs_readwrite=[host_dir / "sub" / "program"]))
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.EPERM)
    assert refused.value.detail == str(host_dir / "sub" / "program")
    assert "chmod u-s" in refused.value.hint


@pytest.mark.parametrize("bound", ["MAX_BINDS", "MAX_BIND_BYTES", "_MOST_PENDING_BYTES"])
def test_more_than_there_is_room_for_are_refused(host_dir: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    tree(host_dir)
    for number in range(4):
        (host_dir / f"program-{number}").touch()
        (host_dir / f"program-{number}").chmod(0o4755)
    monkeypatch.setattr(_setid, "MAX_BINDS", 6)
    assert len(find_covers([str(host_dir)], [])) == 5
    monkeypatch.setattr(_setid, bound, 5)
    with pytest.raises(SandboxCreateError) as refused:
        SandboxPool(SandboxConfig(fs_readwrite=[host_dir]))
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.E2BIG)
    assert refused.value.detail.startswith(str(host_dir))
    assert "fs_readonly" in refused.value.hint


@pytest.mark.skipif(ROOT, reason="root may look everywhere")
@pytest.mark.parametrize("mode", [0, 0o100, 0o300, 0o400], ids=oct)
def test_a_closed_directory_hides_nothing(host_dir: Path, mode: int) -> None:
    """A tenant closes the directory with the program in it, and another one opens it again."""
    program = tree(host_dir)
    (host_dir / "sub").chmod(mode)
    open_ = 'import os, sys\ntry: os.chmod("sub", 0o755)\nexcept OSError: print("refused")\n'
    with SandboxPool(SandboxConfig(fs_readwrite=[host_dir])) as pool:
        result = pool.acquire().execute(["/usr/bin/python3", "-c", open_ + TENANT, "mapped"], cwd=host_dir)
    (host_dir / "sub").chmod(0o755)
    assert (result.stdout, result.exit_code) == (b"refused\n", 1)
    assert os.pread(program, len(BEFORE), 0) == BEFORE


@pytest.mark.skipif(ROOT, reason="root may look everywhere")
def test_a_closed_bind_is_refused(host_dir: Path) -> None:
    """Its owner, the tenant, could open it."""
    tree(host_dir)
    host_dir.chmod(0o300)
    with pytest.raises(SandboxCreateError) as refused:
        SandboxPool(SandboxConfig(fs_readwrite=[host_dir]))
    host_dir.chmod(0o700)
    assert (refused.value.stage, refused.value.errno, refused.value.detail) == ("bind", errno.EACCES, str(host_dir))


def deep(directory: Path, levels: int) -> None:
    """Directories in each other, far beyond what a path can name, a set-id file in the last one."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 50, dir_fd=here)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("program", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.chmod("program", 0o4755, dir_fd=here)
    os.close(here)


def test_a_path_that_is_too_long_hides_nothing(host_dir: Path) -> None:
    deep(host_dir, 3000)
    [cover] = find_covers([str(host_dir)], [])
    assert 4095 - 51 <= len(cover.path) <= 4095
    go_down = "import os\ntry:\n    while True: os.chdir('d' * 50)\nexcept OSError: open('program', 'r+')"
    with SandboxPool(SandboxConfig(fs_readwrite=[host_dir])) as pool:
        result = pool.acquire().execute(["/usr/bin/python3", "-c", go_down], cwd=host_dir)
    subprocess.run(["rm", "-rf", host_dir / ("d" * 50)], check=True)  # shutil's calls itself
    assert b"Read-only file system" in result.stderr


def test_what_vanishes_meanwhile_is_no_error(host_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = tree(host_dir)
    ghosts = [Cover(os.fsencode(host_dir / "gone"), *(os.fstat(fd)[at] for at in (stat.ST_DEV, stat.ST_INO)))]
    looks = iter([ghosts, ghosts, find_covers([str(host_dir)], [])])
    monkeypatch.setattr(linux, "find_covers", lambda writable, readonly: next(looks))
    assert attack(host_dir, "mapped").exit_code == 1


@pytest.mark.parametrize("instead", ["nothing", "another file"])
def test_one_that_was_moved_is_not_left_open(host_dir: Path, monkeypatch: pytest.MonkeyPatch, instead: str) -> None:
    """A tenant of another pool moves the directory, and puts something harmless in its place."""
    tree(host_dir)
    covers = find_covers([str(host_dir)], [])
    (host_dir / "sub").rename(host_dir / "moved")
    if instead == "another file":
        (host_dir / "sub").mkdir()
        (host_dir / "sub" / "program").touch()
    monkeypatch.setattr(linux, "find_covers", lambda writable, readonly: covers)
    with pytest.raises(SandboxCreateError) as refused:
        SandboxPool(SandboxConfig(fs_readwrite=[host_dir]))
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.ESTALE)
    assert refused.value.detail == str(host_dir / "sub" / "program")
    assert "open the pool again" in refused.value.hint


@pytest.mark.parametrize("target", ["/", "/proc", "/usr"])
def test_what_will_be_refused_is_not_looked_through(host_dir: Path, target: str) -> None:
    (host_dir / "link").symlink_to(target)
    assert find_covers([str(host_dir / "link")], []) == []


@pytest.mark.skipif(not ROOT, reason="only root mounts something there")
def test_another_mount_of_proc_is_not_looked_through(host_dir: Path) -> None:
    """A chroot has one. In a mount namespace of the test's own, so that nothing has to be unmounted."""
    (host_dir / "proc").mkdir()
    (host_dir / "program").touch()
    (host_dir / "program").chmod(0o4755)
    script = """
import os, subprocess, sys
from pysandpool._backend.setid import find_covers
subprocess.run(["mount", "-t", "proc", "none", sys.argv[1] + "/proc"], check=True)
seen, scandir = [], os.scandir
os.scandir = lambda path: seen.append(path) or scandir(path)
print([cover.path for cover in find_covers([sys.argv[1]], [])], len(seen))
"""
    command = ["unshare", "--mount", sys.executable, "-c", script, str(host_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{os.fsencode(host_dir / 'program')}] 1"


def test_a_directory_that_answers_with_errors_is_covered(host_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a FUSE mount does whose server has gone."""
    tree(host_dir)
    scandir = os.scandir

    def fail(path: bytes) -> Any:
        if path.endswith(b"/sub"):
            raise OSError(errno.ENOTCONN, "gone")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    [cover] = find_covers([str(host_dir)], [])
    assert cover.path == os.fsencode(host_dir / "sub")
