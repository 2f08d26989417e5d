"""fs_readonly and fs_readwrite: what is in force where they meet, what they may not open, what lies in them."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pysandpool import InvalidSandboxConfigError, PooledSandbox, Sandbox, SandboxConfig, SandboxCreateError

PYTHON = "/usr/bin/python3"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a setuid-root file or a device node")


def inside(code: str, *args: object, **fields: Any) -> str:
    """What a Python program prints in a sandbox."""
    with Sandbox(SandboxConfig(**fields)) as sandbox:
        return python(sandbox, code, *args)


def python(sandbox: Sandbox | PooledSandbox, code: str, *args: object) -> str:
    return sandbox.execute([PYTHON, "-c", code, *map(str, args)]).check().stdout.decode().strip()


def outside(code: str, *args: object, user: int | None = None) -> str:
    """The control: what the same program prints without a sandbox, in its directory of the host."""
    who: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run([PYTHON, "-c", code, *map(str, args)], capture_output=True, text=True, check=True, **who)
    return done.stdout.strip()


def open_dir(path: Path) -> Path:
    """A directory that the sandbox's user may write, whoever that is."""
    path.mkdir()
    path.chmod(0o777)
    return path


# Prints the index of each argument in which a file can be made.
WRITE = """
import os, sys
for number, path in enumerate(sys.argv[1:]):
    try:
        open(path + "/probe", "w").close()
        os.unlink(path + "/probe")
        print(number, end="")
    except OSError:
        pass
"""

# --- nested binds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", ["".join(modes) for modes in itertools.product("rw", repeat=3)])
@pytest.mark.parametrize("backwards", [False, True])
def test_the_most_specific_bind_is_in_force(host_dir: Path, modes: str, backwards: bool) -> None:
    """Base, base/b and base/b/c in every combination; base-x stands between them in the order of their names."""
    paths = [host_dir, open_dir(host_dir / "b"), open_dir(host_dir / "b" / "c")]
    other = Path(f"{host_dir}-x")
    open_dir(other)
    try:
        assert outside(WRITE, *paths, user=65534 if os.geteuid() == 0 else None) == "012", (
            "the control writes everywhere"
        )
        step = -1 if backwards else 1
        chosen = {mode: [path for path, of in zip(paths, modes) if of == mode][::step] for mode in "rw"}
        written = inside(WRITE, *paths, fs_readonly=[*chosen["r"], other], fs_readwrite=chosen["w"])
    finally:
        shutil.rmtree(other)
    assert written == "".join(str(number) for number in range(3) if modes[number] == "w")


def test_a_nested_bind_may_be_a_file(host_dir: Path) -> None:
    for name in ("fixed", "open"):
        (host_dir / name).write_text("before")
        (host_dir / name).chmod(0o666)
    code = """
import sys
for path in sys.argv[1:]:
    try:
        open(path, "w").write("after")
    except OSError as error:
        print(error.errno)
"""
    seen = inside(
        code, host_dir / "fixed", host_dir / "open", fs_readwrite=[host_dir], fs_readonly=[host_dir / "fixed"]
    )
    assert seen == str(errno.EROFS)
    assert ((host_dir / "fixed").read_text(), (host_dir / "open").read_text()) == ("before", "after")


def test_a_read_only_bind_cannot_be_moved_away(host_dir: Path) -> None:
    """A tenant that owns the directory above renames it; the bind goes along, and the next sandbox still starts."""
    below = open_dir(open_dir(host_dir / "above") / "fixed")
    config = SandboxConfig(fs_readwrite=[host_dir], fs_readonly=[below])
    move = "import os,sys; os.chdir(sys.argv[1]); os.rename('above','moved'); open('moved/fixed/probe','w')"
    with Sandbox(config) as first, Sandbox(config) as second:
        result = first.execute([PYTHON, "-c", move, str(host_dir)])
        assert b"Read-only file system" in result.stderr
        assert (host_dir / "moved").exists(), "the rename itself is the tenant's right"
        assert second.execute(["/bin/true"]).exit_code == 0
    with Sandbox(config) as third:
        assert b"Read-only" in third.execute(["/bin/touch", f"{host_dir}/moved/fixed/probe"]).stderr


def test_a_link_that_a_tenant_left_opens_nothing(host_dir: Path) -> None:
    """A tenant replaces a directory that another configuration shows by a link to a secret of the host."""
    secret = Path(f"{host_dir}-secret")
    open_dir(secret)
    (secret / "key").write_text("hunter2")
    place = open_dir(host_dir / "place")
    nested = SandboxConfig(fs_readwrite=[host_dir, place])
    try:
        swap = "import os,sys; os.rmdir(sys.argv[1]); os.symlink(sys.argv[2], sys.argv[1])"
        inside(swap, place, secret, fs_readwrite=[host_dir])
        assert (place / "key").read_text() == "hunter2", "the control follows the link"
        with pytest.raises(SandboxCreateError) as refused, Sandbox(nested):
            pass
    finally:
        shutil.rmtree(secret)
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.ELOOP)
    assert str(place) in str(refused.value)
    assert "symbolic link" in refused.value.hint


@pytest.mark.skipif(not Path("/etc/localtime").is_symlink(), reason="it is no link on this host")
def test_a_link_of_the_system_view_is_shown_where_it_leads() -> None:
    with Sandbox(SandboxConfig(fs_readonly=["/etc/localtime"])) as sandbox:
        assert sandbox.execute(["cat", "/etc/localtime"]).check().stdout == Path("/etc/localtime").read_bytes()
        assert sandbox.execute(["touch", "/etc/localtime"]).exit_code == 1


# --- what may not be given away --------------------------------------------------------------------------

SYSTEM = [
    "/",
    "/tmp",
    "/usr",
    "/usr/local/x",
    "/bin",
    "/bin/sh",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc",
    "/etc/passwd",
    "/proc",
    "/proc/sys",
    "/dev",
    "/dev/shm",
    "/sys",
]


@pytest.mark.parametrize("path", SYSTEM)
def test_no_system_path_is_writable(path: str) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(fs_readwrite=[path])
    assert (refused.value.field, refused.value.value) == ("fs_readwrite", path)
    assert "/tmp" in refused.value.allowed


def test_names_that_only_begin_alike_are_fine() -> None:
    assert SandboxConfig(fs_readwrite=["/library", "/usr2", "/tmp/x"]).fs_readwrite == ("/library", "/usr2", "/tmp/x")


@pytest.mark.parametrize("target", ["/", "/tmp", "/usr", "/etc", "/usr/lib", "/proc", "/sys", "/dev", "/proc/self/cwd"])
def test_a_link_does_not_make_a_system_path_writable(host_dir: Path, target: str) -> None:
    link = host_dir / "link"
    link.symlink_to(target)
    assert os.path.isdir(link), "the control follows it"
    with pytest.raises(SandboxCreateError) as refused, Sandbox(SandboxConfig(fs_readwrite=[link])):
        pass
    assert refused.value.stage == "bind"
    assert refused.value.errno in (errno.EINVAL, errno.ELOOP)
    assert str(link) in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("target", ["/", "/proc", "/sys", "/dev"])
def test_a_link_does_not_show_the_host(host_dir: Path, target: str) -> None:
    link = host_dir / "link"
    link.symlink_to(target)
    with pytest.raises(SandboxCreateError) as refused, Sandbox(SandboxConfig(fs_readonly=[link])):
        pass
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.EINVAL)


def test_a_link_to_a_place_of_its_own_is_followed(host_dir: Path) -> None:
    open_dir(host_dir / "real").joinpath("file").write_text("text")
    link = host_dir / "link"
    link.symlink_to(host_dir / "real")
    assert inside("import sys; print(open(sys.argv[1]).read())", link / "file", fs_readonly=[link]) == "text"


@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_a_missing_path(host_dir: Path, field: str) -> None:
    for missing, err in ((host_dir / "none", errno.ENOENT), (host_dir / "file" / "none", errno.ENOTDIR)):
        (host_dir / "file").touch()
        with pytest.raises(SandboxCreateError) as refused, Sandbox(SandboxConfig(**{field: [missing]})):
            pass
        assert (refused.value.stage, refused.value.errno) == ("bind", err)
        assert str(missing) in str(refused.value)
        assert "fs_readonly" in refused.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root's sandboxes own what root gives them: test_files_root.py")
def test_a_path_that_cannot_be_written(host_dir: Path) -> None:
    """Said when the sandbox is made, and not left to the command to find out."""
    closed = host_dir / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    with pytest.raises(SandboxCreateError) as refused, Sandbox(SandboxConfig(fs_readwrite=[closed])):
        pass
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.EACCES)
    assert "fs_readwrite" in refused.value.hint


# --- what lies in a bind ---------------------------------------------------------------------------------


def test_binds_are_nosuid_and_nodev(host_dir: Path) -> None:
    open_dir(host_dir / "ro")
    code = "import os,sys; print(*(os.statvfs(p).f_flag & (os.ST_NOSUID|os.ST_NODEV) for p in sys.argv[1:]))"
    wanted = os.ST_NOSUID | os.ST_NODEV
    shown = inside(code, host_dir, host_dir / "ro", fs_readwrite=[host_dir], fs_readonly=[host_dir / "ro"])
    assert shown == f"{wanted} {wanted}"


@ROOT_ONLY
@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_a_setuid_program_is_inert(host_dir: Path, field: str) -> None:
    program = host_dir / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    assert outside("import subprocess,sys; subprocess.run([sys.argv[1], '-u'])", program, user=65534) == "0"
    with Sandbox(SandboxConfig(**{field: [host_dir]})) as sandbox:
        assert sandbox.execute([program, "-u"]).check().stdout == b"1000\n"


@ROOT_ONLY
@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_a_device_node_is_inert(host_dir: Path, field: str) -> None:
    node = host_dir / "zero"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    node.chmod(0o666)
    read = "import sys\ntry: print(len(open(sys.argv[1], 'rb').read(3)))\nexcept OSError as e: print(e.strerror)"
    assert outside(read, node, user=65534) == "3"
    assert inside(read, node, **{field: [host_dir]}) == "Permission denied"
    assert inside(read, node, **{field: [node]}) == "Permission denied"


# Each tries to leave a program that runs as its owner, and prints how it went.
PLANT = """
import ctypes, os, sys
os.chdir(sys.argv[1])
libc, here, x86 = ctypes.CDLL(None, use_errno=True), -100, os.uname().machine == "x86_64"
def call(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def made(path):
    open(path, "w").close()
    return path
class How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]
how = How(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
ways = {
    "chmod": lambda: os.chmod(made("chmod"), 0o4755),
    "setgid": lambda: os.chmod(made("setgid"), 0o2755),
    "directory": lambda: (os.mkdir("directory"), os.chmod("directory", 0o2777)),
    "fchmod": lambda: os.fchmod(os.open("fchmod", os.O_CREAT | os.O_RDWR), 0o6755),
    "fchmodat": lambda: os.chmod(made("fchmodat"), 0o4755, dir_fd=os.open(".", os.O_RDONLY)),
    "fchmodat2": lambda: call(452, here, made("fchmodat2").encode(), 0o4755, 0),
    "open": lambda: os.open("open", os.O_CREAT | os.O_WRONLY, 0o4755),
    "tmpfile": lambda: os.link(f"/proc/self/fd/{os.open('.', os.O_TMPFILE | os.O_RDWR, 0o4755)}", "tmpfile"),
    "openat2": lambda: call(437, here, b"openat2", ctypes.byref(how), ctypes.sizeof(how)),
    "mknod": lambda: os.mknod("mknod", 0o4755 | 0o100000),
    **({"creat": lambda: call(85, b"creat", 0o4755)} if x86 else {}),
}
for name, way in ways.items():
    try:
        way()
        print(name)
    except OSError:
        pass
"""


def set_id_files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID))


def test_no_program_is_left_that_runs_as_its_owner(host_dir: Path) -> None:
    """Whoever runs it on the host would run what a tenant wrote as the directory's owner: root, in root's pools."""
    control, inner = open_dir(host_dir / "control"), open_dir(host_dir / "inner")
    outside(PLANT, control)
    assert len(set_id_files(control)) >= 8, "the control leaves them"
    assert inside(PLANT, inner, fs_readwrite=[inner]) == ""
    assert set_id_files(inner) == []
    # Another pool's scratch ends with the sandbox: there one may be made, but no file gets the bits later.
    ways = inside(PLANT, "/tmp").splitlines()
    assert "open" in ways
    assert not {"chmod", "setgid", "directory", "fchmod", "fchmodat", "fchmodat2"} & set(ways)


def test_modes_that_do_no_harm_are_kept(host_dir: Path) -> None:
    code = """
import os, sys, tempfile
os.chdir(sys.argv[1])
for mode in (0o600, 0o755, 0o1777, 0o777):
    os.close(os.open("file", os.O_CREAT | os.O_RDWR, mode)); os.chmod("file", mode)
    print(oct(os.stat("file").st_mode & 0o7777), end=" ")
os.mkdir("sub", 0o1777); tempfile.TemporaryFile(dir=".").write(b"x")
"""
    assert inside(code, host_dir, fs_readwrite=[host_dir]) == "0o600 0o755 0o1777 0o777"


# --- many of them ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_as_many_as_the_configuration_allows(host_dir: Path, field: str) -> None:
    """4,096, each a mount and, if it is writable, a Landlock rule; with more than there are by a usual soft limit."""
    paths = [open_dir(host_dir / str(number)) for number in range(4096)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        written = inside(WRITE, *paths[-3:], **{field: paths})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert written == ("012" if field == "fs_readwrite" else "")
