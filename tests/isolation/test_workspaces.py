"""`acquire(workspace=)`: a directory of the host for one lease, attached to a live sandbox."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from older_kernels import OVERLAYS_OF_USERS, OVERLAYS_REPLACE, needs_idmapped_mounts, open_to_sandboxes
from pools import OpenPool, wait_idle

from pysandpool import (
    Bind,
    InvalidSandboxConfigError,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxError,
    SandboxExecutor,
    SandboxPool,
    Workspace,
)
from pysandpool._pool import workspace as _workspace

ROOT = os.geteuid() == 0


@pytest.fixture
def work(host_dir: Path) -> Path:
    directory = host_dir / "work"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("text\n")
    for path in (host_dir, directory, directory / "sub"):
        path.chmod(0o755)
    open_to_sandboxes(directory, directory / "file", directory / "sub")
    return directory


@pytest.fixture
def pool(real_pool: OpenPool) -> Iterator[SandboxPool]:
    return real_pool(SandboxConfig(), warm=2)


def run(lease: PooledSandbox | Sandbox, script: str, **options: object) -> str:
    done = lease.execute(["/bin/sh", "-c", script], **options)  # type: ignore[call-overload]
    return str((done.stdout + done.stderr).decode())


# ---- what it is ----


def test_a_command_reads_and_writes_the_directory(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work) as lease:
        assert run(lease, "pwd; cat file; echo $PWD; /bin/pwd") == "/workspace\ntext\n/workspace\n/mnt/workspace\n"
        assert run(lease, "echo new > made; mkdir dir; mv file dir/moved") == ""
    assert (work / "made").read_text() == "new\n"
    assert (work / "dir" / "moved").read_text() == "text\n"
    assert pool.stats().hit_count == 1


def test_the_idle_sandbox_itself_is_used(pool: SandboxPool, work: Path) -> None:
    before = pool.stats()
    with pool.acquire(workspace=work) as lease:
        run(lease, "true")
    assert pool.stats().miss_count == before.miss_count == 0


def test_read_only(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=Workspace(work, "ro")) as lease:
        assert run(lease, "cat file; echo x > file").startswith("text\n/bin/sh: 1: cannot create file: Read-only")
        assert "Read-only" in run(lease, "touch new; rm file; mkdir d; mv sub other; chmod 777 file")
    assert sorted(os.listdir(work)) == ["file", "sub"]


def test_copy_on_write(pool: SandboxPool, work: Path) -> None:
    """What is changed is seen inside, counts as scratch, and ends with the lease."""
    for _ in range(2):
        with pool.acquire(workspace=Workspace(work, "cow")) as lease:
            assert run(lease, "echo more >> file; cat file; rmdir sub; echo x > new; ls") == "text\nmore\nfile\nnew\n"
            assert run(lease, "mkdir dir; touch dir/x; ls dir; mv file dir/file; cat dir/file") == "x\ntext\nmore\n"
            assert run(lease, "ls -A /tmp /dev/shm") == "/dev/shm:\n\n/tmp:\n"
    assert sorted(os.listdir(work)) == ["file", "sub"]
    assert (work / "file").read_text() == "text\n"


def test_a_directory_replaces_a_removed_one(pool: SandboxPool, work: Path) -> None:
    """As `rm -r build; mkdir build`. Before Linux 6.6, a tmpfs cannot note that the new one hides the host's."""
    (work / "sub" / "old").mkdir()
    (work / "sub" / "old" / "file").touch()
    open_to_sandboxes(work / "sub" / "old", work / "sub" / "old" / "file")
    with pool.acquire(workspace=Workspace(work, "cow")) as lease:
        assert run(lease, "rm sub/old/file; echo new > sub/old/file; cat sub/old/file") == "new\n", "a file does"
        made = run(lease, "rm -r sub; mkdir sub; touch sub/x; ls -A sub")
    assert made == "x\n" if OVERLAYS_REPLACE else "Input/output error" in made
    assert os.listdir(work / "sub") == ["old"]


@pytest.mark.skipif(OVERLAYS_OF_USERS, reason="this kernel has overlays of ordinary users")
def test_copy_on_write_is_refused_with_a_hint(pool: SandboxPool, work: Path) -> None:
    with pytest.raises(SandboxError, match=r"needs Linux 5\.11") as refused:
        pool.acquire(workspace=Workspace(work, "cow"))
    assert refused.value.errno in {errno.EINVAL, errno.ENODEV, errno.EPERM}
    with pool.acquire(workspace=Workspace(work, "ro")) as lease:
        assert run(lease, "cat file") == "text\n"


def test_copies_are_bounded_by_the_scratch(real_pool: OpenPool, work: Path) -> None:
    pool = real_pool(SandboxConfig(scratch_size_mb=1), warm=1)
    with pool.acquire(workspace=Workspace(work, "cow")) as lease:
        assert "No space" in run(lease, "head -c 900000 /dev/zero > a; head -c 900000 /dev/zero > b")
        assert "No space" in run(lease, "head -c 900000 /dev/zero > /tmp/c")


def test_what_a_command_makes_belongs_to_the_owner_of_the_directory(pool: SandboxPool, work: Path) -> None:
    needs_idmapped_mounts(work)
    if ROOT:
        for path in (work, work / "file", work / "sub"):
            os.chown(path, 4321, 4322)
    with pool.acquire(workspace=work) as lease:
        assert run(lease, "stat -c %u:%g . file; mkdir d; echo x > d/f; echo y >> file") == "1000:1000\n1000:1000\n"
    owner = os.stat(work)
    for path in (work / "d", work / "d" / "f", work / "file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (owner.st_uid, owner.st_gid)
    assert not ROOT or owner.st_uid == 4321


def test_a_given_directory_or_variable_wins(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work) as lease:
        assert run(lease, "pwd", cwd="/tmp") == "/tmp\n"
        assert run(lease, "/bin/pwd", cwd="sub") == "/mnt/workspace/sub\n"
        assert run(lease, "echo $PWD; echo $A", env={"A": "b"}) == "/workspace\nb\n"
        process = lease.popen(["/bin/sh", "-c", "pwd"], stdout=subprocess.PIPE)
        assert process.communicate()[0] == b"/workspace\n"


def test_one_command_in_a_workspace(pool: SandboxPool, work: Path) -> None:
    assert pool.run(["cat", "file"], text=True, workspace=work).stdout == "text\n"
    with SandboxExecutor(pool) as executor:
        result = executor.submit(["sh", "-c", "pwd; echo x > file"], workspace=Workspace(work, "ro")).result()
        assert (result.stdout, result.ok) == (b"/workspace\n", False)
    with pytest.raises(FileNotFoundError):
        pool.run(["true"], workspace=work / "missing")
    assert pool.stats().in_use_count == 0


def test_other_leases_have_no_workspace(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work), pool.acquire() as other:
        assert run(other, "ls -A /workspace/; touch /workspace/x; pwd") == (
            "/tmp\ntouch: cannot touch '/workspace/x': Read-only file system\n"
        )
    wait_idle(pool, 2)
    for _ in range(4):
        with pool.acquire() as later:
            assert run(later, "ls -A /workspace/") == ""


def test_a_lease_that_ran_nothing_is_not_handed_on(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work) as lease:
        pid = lease.pid
    wait_idle(pool, 2)
    pids = []
    for _ in range(3):
        with pool.acquire() as lease:
            pids.append(lease.pid)
    assert pid not in pids


def test_a_sandbox_without_a_pool(work: Path) -> None:
    with Sandbox(workspace=work) as sandbox:
        assert run(sandbox, "cat file; touch new") == "text\n"
    with Sandbox(SandboxConfig(), workspace=Workspace(work, "ro")) as sandbox:
        assert run(sandbox, "ls") == "file\nnew\nsub\n"


def test_beside_binds_and_scratch(real_pool: OpenPool, work: Path) -> None:
    config = SandboxConfig(binds=[Bind(work / "sub", "/data", readonly=False)], scratch_dirs=["/var/tmp"])
    pool = real_pool(config, warm=1)
    with pool.acquire(workspace=Workspace(work, "cow")) as lease:
        assert run(lease, "touch /data/new /var/tmp/x; ls sub") == "new\n"


# ---- which directory ----


def test_two_leases_on_one_directory(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work) as first, pool.acquire(workspace=work) as second:
        run(first, "echo one > shared")
        assert run(second, "cat shared; echo two >> shared") == "one\n"
        assert run(first, "cat shared") == "one\ntwo\n"


def test_a_directory_that_vanishes_during_the_lease(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work) as lease:
        shutil.rmtree(work)
        assert "No such file" in run(lease, "ls file; touch new")
        assert run(lease, "echo alive", cwd="/tmp") == "alive\n"


def test_a_directory_that_is_replaced_during_the_lease(pool: SandboxPool, work: Path) -> None:
    """The lease keeps what it had, and the next one has what is there then."""
    with pool.acquire(workspace=work) as lease:
        work.rename(work.with_name("old"))
        work.mkdir()
        work.chmod(0o755)
        (work / "file").write_text("new\n")
        open_to_sandboxes(work, work / "file")
        assert run(lease, "cat file") == "text\n"
    with pool.acquire(workspace=work) as lease:
        assert run(lease, "cat file") == "new\n"


def test_one_that_is_replaced_all_the_time(pool: SandboxPool, work: Path) -> None:
    over = threading.Event()

    def replace() -> None:
        other = work.with_name("other")
        shutil.copytree(work, other)
        while not over.wait(0.005):
            work.rename(work.with_name("away"))
            other.rename(work)
            work.with_name("away").rename(other)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(15):
            try:
                with pool.acquire(workspace=work) as lease:
                    assert run(lease, "cat file") == "text\n"
            except FileNotFoundError:  # the moment between two renames
                continue
    finally:
        over.set()
        thread.join()
    wait_idle(pool, 2)


@pytest.mark.parametrize("times", [1, 100])
def test_one_that_vanishes_after_the_look(
    pool: SandboxPool, work: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Once: another look finds it. Each time: the exception is that of a directory that was never there."""
    away = work.with_name("away")
    looks: list[Workspace] = []

    def vanishing(workspace: Workspace) -> os.stat_result:
        if away.exists():
            away.rename(work)
        looks.append(workspace)
        found = work.stat()
        if len(looks) <= times:
            work.rename(away)
        return found

    def really_gone(workspace: Workspace) -> os.stat_result:
        return os.stat(workspace.path) if len(looks) == _workspace.ATTEMPTS else vanishing(workspace)

    monkeypatch.setattr(_workspace, "find", really_gone)
    if times == 1:
        with pool.acquire(workspace=work) as lease:
            assert run(lease, "cat file") == "text\n"
    else:
        with pytest.raises(FileNotFoundError):
            pool.acquire(workspace=work)
    wait_idle(pool, 2)
    assert pool.stats().in_use_count == 0


def test_a_link_to_a_directory(pool: SandboxPool, work: Path) -> None:
    link = work.with_name("link")
    link.symlink_to("work")
    with pool.acquire(workspace=link) as lease:
        assert run(lease, "cat file; touch through") == "text\n"
    assert (work / "through").exists()


@pytest.mark.parametrize("mode", ["rw", "ro", "cow"])
def test_a_file_or_nothing(pool: SandboxPool, work: Path, mode: str) -> None:
    with pytest.raises(NotADirectoryError):
        pool.acquire(workspace=Workspace(work / "file", mode))
    with pytest.raises(FileNotFoundError):
        pool.acquire(workspace=Workspace(work / "missing", mode))
    assert (pool.stats().in_use_count, pool.stats().hit_count) == (0, 0)


@pytest.mark.skipif(ROOT, reason="root reaches every directory")
def test_a_directory_of_root(pool: SandboxPool) -> None:
    with pytest.raises(PermissionError):
        pool.acquire(workspace="/root/work")
    with pytest.raises(SandboxError) as refused:
        pool.acquire(workspace="/var/lib")
    assert (refused.value.stage, refused.value.errno) == ("workspace", errno.EACCES)
    assert "writable" in str(refused.value) or "write to it" in refused.value.hint
    wait_idle(pool, 2)
    assert pool.stats().in_use_count == 0
    with pool.acquire(workspace=Workspace("/var/lib", "ro")) as lease:
        assert "dpkg" in run(lease, "ls") or run(lease, "ls")


@pytest.mark.skipif(not ROOT, reason="of root")
def test_a_closed_directory_of_root(pool: SandboxPool, work: Path) -> None:
    """Its owner has it."""
    needs_idmapped_mounts(work)
    (work / "file").chmod(0o600)
    work.chmod(0o700)
    for mode in ("rw", "ro", "cow"):
        with pool.acquire(workspace=Workspace(work, mode)) as lease:
            assert run(lease, "cat file") == "text\n"


@pytest.mark.parametrize("mode", ["ro", "cow"])
@pytest.mark.skipif(not ROOT, reason="of root")
def test_the_secrets_of_the_machine_stay_closed(pool: SandboxPool, mode: str) -> None:
    with pool.acquire(workspace=Workspace("/etc", mode)) as lease:
        assert "Permission denied" in run(lease, "cat shadow")


@pytest.mark.parametrize("target", ["/proc", "/sys", "/dev"])
def test_a_link_to_what_is_never_shown(pool: SandboxPool, work: Path, target: str) -> None:
    link = work.with_name("link")
    link.symlink_to(target)
    for mode in ("rw", "ro", "cow"):
        with pytest.raises(SandboxError) as refused:
            pool.acquire(workspace=Workspace(link, mode))
        assert (refused.value.stage, refused.value.errno) == ("workspace", errno.EINVAL)


def test_a_link_to_the_system_is_not_writable(pool: SandboxPool, work: Path) -> None:
    link = work.with_name("link")
    link.symlink_to("/usr")
    with pytest.raises(SandboxError) as refused:
        pool.acquire(workspace=link)
    assert refused.value.errno == errno.EINVAL
    with pool.acquire(workspace=Workspace(link, "ro")) as lease:
        assert "bin" in run(lease, "ls").split()


NESTED = """
import subprocess, sys
from pathlib import Path
from pysandpool import *
work = Path(sys.argv[1])
(work / "below").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "none", work / "below"], check=True)
(work / "below" / "mounted").touch()
with SandboxPool(SandboxConfig()) as pool:
    for mode in ("rw", "ro", "cow"):
        try:
            with pool.acquire(workspace=Workspace(work, mode)) as lease:
                print(mode, lease.execute(["/bin/ls", "below"]).check().stdout.decode().split())
        except SandboxError as error:
            print(mode, error.errno, "else is mounted" in error.hint)
"""


def test_nested_mounts(work: Path) -> None:
    """An overlay does not have them: as an ordinary user the kernel refuses it, as root they are left out."""
    mapped = [] if ROOT else ["--user", "--map-root-user"]
    command = ["unshare", "--mount", *mapped, sys.executable, "-c", NESTED, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["rw ['mounted']", "ro ['mounted']"], done.stderr
    assert lines[2] in ("cow []", f"cow {errno.EINVAL if OVERLAYS_OF_USERS else errno.EPERM} True")


# ---- where there is no place for it ----


@pytest.mark.parametrize(
    "fields",
    [{"scratch_dirs": ["/workspace"]}, {"scratch_dirs": ["/mnt/x"]}, {"binds": [Bind("/usr/share", "/mnt/share")]}],
    ids=str,
)
def test_a_place_that_the_configuration_uses(real_pool: OpenPool, work: Path, fields: dict[str, object]) -> None:
    pool = real_pool(SandboxConfig(**fields), warm=1)  # type: ignore[arg-type]
    with pytest.raises(SandboxError) as refused:
        pool.acquire(workspace=work)
    assert (refused.value.stage, refused.value.errno) == ("workspace", errno.EBUSY)
    assert "at /mnt or /workspace" in refused.value.hint
    with pool.acquire() as lease:
        assert run(lease, "echo alive") == "alive\n"
    wait_idle(pool, 1)


def test_in_a_rootfs(real_pool: OpenPool, host_dir: Path, work: Path) -> None:
    root = host_dir / "root"
    for name in ("proc", "tmp", "dev", "usr", "bin", "lib", "lib64"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    system = [Path(name) for name in ("/usr", "/bin", "/lib", "/lib64") if Path(name).exists()]
    with (
        pytest.raises(SandboxError) as refused,
        Sandbox(SandboxConfig(rootfs=root, fs_readonly=system), workspace=work),
    ):
        pass
    assert (refused.value.errno, "an empty directory /mnt" in refused.value.hint) == (errno.EBUSY, True)
    (root / "mnt").mkdir()
    pool = real_pool(SandboxConfig(rootfs=root, fs_readonly=system, env_vars={"X": "y"}), warm=1)
    for mode in ("rw", "cow"):
        with pool.acquire(workspace=Workspace(work, mode)) as lease:
            assert run(lease, "pwd; cat file; touch new; ls /").startswith("/mnt/workspace\ntext\n")
    assert (work / "new").exists()
    assert os.listdir(root / "mnt") == []


# ---- attacks: what a tenant can make of a writable one ----

KINDS = ["rw", "cow"]


@pytest.mark.parametrize("mode", KINDS)
def test_no_set_id_bit(pool: SandboxPool, work: Path, mode: str) -> None:
    with pool.acquire(workspace=Workspace(work, mode)) as lease:
        script = (
            "cp /bin/true p; chmod 4755 p; chmod 2755 sub; chmod g+s p; install -m 4755 /bin/true q; ls -ld p q sub"
        )
        told = run(lease, script)
        made = "python3 -c 'import os; os.close(os.open(\"r\", os.O_CREAT | os.O_WRONLY, 0o6777))'"
        told += run(lease, made)
    assert "s" not in "".join(word[:10] for word in told.split() if word[0] in "-d" and len(word) == 10)
    for path in work.rglob("*"):
        assert path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID) == 0, path


def test_a_set_id_file_of_the_host_keeps_its_content(pool: SandboxPool, work: Path) -> None:
    """The kernel keeps the bits of a file that is written through a shared mapping. The control shows it."""
    script = """
import mmap, os
fd = os.open("sub/program", os.O_RDWR)
mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)[0:6] = b"tenant"
"""
    program = work / "sub" / "program"
    for mode, expected in ((0o755, b"tenant"), (0o4755, b"before"), (0o2755, b"before"), (0o2644, b"before")):
        program.write_bytes(b"before" * 1000)
        open_to_sandboxes(program)
        program.chmod(mode)
        with pool.acquire(workspace=work) as lease:
            run(lease, f"mv sub moved; mv moved sub; ln sub/program x; rm -f x; python3 -c '{script}'")
        assert program.read_bytes()[:6] == expected, oct(mode)


@pytest.mark.parametrize("mode", KINDS)
def test_no_device_node_and_no_mount(pool: SandboxPool, work: Path, mode: str) -> None:
    with pool.acquire(workspace=Workspace(work, mode)) as lease:
        for kind in ("b 1 0", "c 1 5", "c 0 0"):  # the last is what an overlay takes for a removed file
            told = run(lease, f"mknod node {kind}; ls node")
            assert "node: Permission denied" in told or "Operation not permitted" in told
        script = "mount -t tmpfs none sub; umount /mnt/workspace; umount -l /workspace; mv /mnt/workspace /mnt/x"
        told = run(lease, script)
        assert run(lease, "cat file") == "text\n"
        assert "denied" in told or "not permitted" in told or "must be superuser" in told


def test_a_device_node_of_the_host_does_not_work(pool: SandboxPool, work: Path) -> None:
    if not ROOT:
        pytest.skip("only root makes one")
    os.mknod(work / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with pool.acquire(workspace=work) as lease:
        assert "ermission denied" in run(lease, "head -c 1 zero")


def test_a_link_leads_nowhere_but_into_the_sandbox(pool: SandboxPool, work: Path) -> None:
    secret = work.with_name("secret")
    secret.write_text("secret")
    (work / "out").symlink_to("../secret")
    (work / "absolute").symlink_to(secret)
    with pool.acquire(workspace=work) as lease:
        assert run(lease, "cat out absolute ../secret ../../secret /mnt/secret").count("No such file") == 5
        assert run(lease, "ln -s /etc/passwd own; cat own").startswith("sandbox:")
        assert "secret" not in run(lease, 'python3 -c \'import os; d=os.open(".",0); print(os.listdir(".."))\'')


def test_the_directory_itself_cannot_be_renamed_or_removed(pool: SandboxPool, work: Path) -> None:
    with pool.acquire(workspace=work) as lease:
        told = run(
            lease, "rmdir /mnt/workspace; mv /mnt/workspace /mnt/x; mv /workspace /w; rm /workspace; touch /mnt/x"
        )
        assert told.count("busy") + told.count("Read-only") + told.count("denied") >= 5
        assert run(lease, "ls") == "file\nsub\n"


def test_no_unix_socket_reaches_a_socket_file_of_the_host(work: Path, real_pool: OpenPool) -> None:
    """A pool that shows no directory lets commands use unix sockets. A lease with a workspace may not."""
    code = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/workspace/door'); print('through')"
    listener = subprocess.Popen(
        [sys.executable, "-c", ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen();"
         "print(flush=True); input()"), str(work / "door")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"\n"
        (work / "door").chmod(0o777)
        for allowed, mode, through in (
            (True, "rw", True),
            (None, "rw", False),
            (None, "ro", False),
            (None, "cow", False),
        ):
            pool = real_pool(SandboxConfig(allow_unix_sockets=allowed), warm=1)
            with pool.acquire(workspace=Workspace(work, mode)) as lease:
                done = lease.execute(["/usr/bin/python3", "-c", code])
                pair = lease.execute(["/usr/bin/python3", "-c", "import socket; socket.socketpair()"])
            assert (b"through" in done.stdout, pair.exit_code) == (through, 0)
    finally:
        listener.communicate()


def test_every_command_and_process_of_the_lease_is_restricted(pool: SandboxPool, work: Path) -> None:
    script = "cp /bin/true p; chmod u+s p && echo set"
    with pool.acquire(workspace=work) as lease:
        for _ in range(3):
            assert "set\n" not in run(lease, script)
        process = lease.popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert b"not permitted" in process.communicate()[0]
        assert "set\n" not in run(lease, script)


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("relative",), "Workspace.path"),
        ((5,), "Workspace.path"),
        (("/",), "Workspace.path"),
        (("/proc/1",), "Workspace.path"),
        (("/usr/lib",), "Workspace.path"),
        (("/srv", "rwx"), "Workspace.mode"),
        (("/srv", None), "Workspace.mode"),
    ],
)
def test_wrong_values_are_named(arguments: tuple[object, ...], name: str) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        Workspace(*arguments)  # type: ignore[arg-type]
    assert refused.value.field == name


def test_the_command_line(work: Path) -> None:
    def told(*words: str) -> tuple[str, int]:
        command = [sys.executable, "-m", "pysandpool", "run", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr, done.returncode

    assert told("--workspace", str(work), "--", "/bin/sh", "-c", "pwd; cat file; touch new") == (
        "/workspace\ntext\n",
        0,
    )
    if OVERLAYS_OF_USERS:
        assert told("--workspace", f"{work}:cow", "--", "/bin/rm", "new") == ("", 0)
    assert (work / "new").exists()
    assert "Read-only" in told("--workspace", f"{work}:ro", "--", "/bin/rm", "new")[0]
    text, code = told("--workspace", str(work / "missing"), "--", "/bin/true")
    assert ("No such file" in text, code) == (True, 125)
