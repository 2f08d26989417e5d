"""What the tenant sees, as programs inside report it, each beside a control outside."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shlex
import shutil
import signal
import socket
import tempfile
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eyes import alive, children, status_field
from pools import OpenPool
from scripts import run_script
from waiting import Call, wait_until

from pysandpool import PoolConfig, PooledSandbox, SandboxConfig, SandboxPool, SandboxReleasedError, SeccompProfile

PYTHON = "/usr/bin/python3"
NAMESPACES = ("user", "pid", "mnt", "ipc", "uts", "cgroup", "net")
MIB = 1 << 20


def sh(sandbox: PooledSandbox, script: str, **options: Any) -> str:
    return sandbox.execute(["/bin/sh", "-c", script], **options).check().stdout.decode()


def py(sandbox: PooledSandbox, script: str, **options: Any) -> Any:
    """What the script prints last, as JSON."""
    result = sandbox.execute([PYTHON, "-c", textwrap.dedent(script)], **options)
    assert result.exit_code == 0, result.stderr.decode()
    return json.loads(result.stdout.splitlines()[-1])


def refusal(sandbox: PooledSandbox, statement: str) -> str | None:
    """The name of the errno with which a Python statement fails inside; None when it succeeds."""
    script = f"""
        import ctypes, errno, json, os, signal, socket

        def libc(name, *arguments):
            result = ctypes.CDLL(None, use_errno=True)[name.decode()](*arguments)
            if result == -1:
                raise OSError(ctypes.get_errno(), '')

        def fill(path):
            with open(path, 'wb', buffering=0) as file:
                left = SIX_MIB
                while left:
                    left -= file.write(bytes(left))

        SIX_MIB = 6 << 20
        try:
            {statement}
            print('null')
        except OSError as error:
            print(json.dumps(errno.errorcode[error.errno]))
    """
    found: str | None = py(sandbox, script)
    return found


def lines(text: str) -> list[str]:
    return text.split("\n")[:-1]


# --- who it is -------------------------------------------------------------------------------------------


def test_user_and_group(sandbox: PooledSandbox) -> None:
    assert py(sandbox, "import os, json; print(json.dumps([os.getresuid(), os.getresgid()]))") == [[1000] * 3] * 2
    assert sh(sandbox, "id -un; id -gn; cd ~; pwd").split()[-1] == "/tmp"
    assert py(sandbox, "import pwd, json; print(json.dumps(pwd.getpwuid(1000).pw_dir))") == "/tmp"


def test_only_one_id_is_mapped(sandbox: PooledSandbox) -> None:
    """No uid 0, so that no namespace's root owns the knobs of /proc/sys."""
    for name in ("uid_map", "gid_map"):
        (entry,) = lines(sh(sandbox, f"cat /proc/self/{name}"))
        inside, _, count = entry.split()
        assert (inside, count) == ("1000", "1")


def test_host_runs_it_as_an_unprivileged_user(sandbox: PooledSandbox) -> None:
    uids = {int(word) for word in status_field(sandbox.pid, "Uid").split()}
    gids = {int(word) for word in status_field(sandbox.pid, "Gid").split()}
    assert len(uids) == len(gids) == 1
    assert uids != {0}
    assert gids != {0}
    if os.getuid() != 0:
        assert uids == {os.getuid()}


def test_privileges(sandbox: PooledSandbox) -> None:
    status = dict(line.split(":\t", 1) for line in lines(sh(sandbox, "cat /proc/self/status")) if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status_field("self", "CapBnd"), 16) != 0, "control: outside there are some"


def test_nobody_can_take_another_id_or_make_a_set_user_id_program(sandbox: PooledSandbox) -> None:
    assert refusal(sandbox, "os.setuid(0)") in ("EPERM", "EINVAL")
    assert refusal(sandbox, "os.setgroups([0])") == "EPERM"
    sh(sandbox, "cp /usr/bin/id copy; chmod 1755 copy")
    assert sh(sandbox, "for mode in 4755 2755 u+s g+s; do chmod $mode copy || true; done; ./copy -u") == "1000\n"
    assert sh(sandbox, "stat -c %a copy") == "1755\n"


def test_hostname(sandbox: PooledSandbox) -> None:
    assert sh(sandbox, "uname -n") == "sandbox\n"
    assert socket.gethostname() != "sandbox", "control"
    assert refusal(sandbox, "socket.sethostname('other')") == "EPERM"


# --- what it inherits ------------------------------------------------------------------------------------


def test_only_three_fds() -> None:
    """Also when the host has inheritable ones: whoever kept one would keep the pipe from its end."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    high = os.dup2(write, 900, inheritable=True)
    with SandboxPool(SandboxConfig(), PoolConfig(min_size=2)) as pool, pool.acquire() as lease:
        listing = sh(lease, "ls /proc/self/fd")
        os.close(write)
        os.close(high)
        assert os.read(read, 1) == b"", "neither zygote nor init has it"
        assert listing.split() == ["0", "1", "2", "3"], "3 is the listing's own"
    os.close(read)


@pytest.mark.parametrize("given", [None, b"input"])
def test_fds_as_the_tenant_counts_them(sandbox: PooledSandbox, given: bytes | None) -> None:
    script = """
        import json, os
        found = []
        for fd in range(4096):
            try:
                os.fstat(fd)
                found.append(fd)
            except OSError:
                pass
        print(json.dumps(found))
    """
    assert py(sandbox, script, input=given) == [0, 1, 2]


def test_fds_are_only_pipes_and_the_null_device(sandbox: PooledSandbox) -> None:
    links = lines(sh(sandbox, "readlink /proc/self/fd/0; readlink /proc/$$/fd/1; readlink /proc/$$/fd/2"))
    assert links[0] == "/dev/null"
    assert all(re.fullmatch(r"pipe:\[\d+\]", link) for link in links[1:])


def test_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "of the host")
    config = SandboxConfig(env_vars={"FROM_CONFIG": "1"})
    with SandboxPool(config, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
        found = lines(lease.execute(["/usr/bin/env"], env={"FROM_CALL": "2"}).check().stdout.decode())
        environ = dict(line.split("=", 1) for line in found)
        init = lease.execute(["/bin/cat", "/proc/1/environ"])
    assert set(environ) == {"PATH", "HOME", "LANG", "LC_CTYPE", "TMPDIR", "FROM_CONFIG", "FROM_CALL"}
    assert (environ["HOME"], environ["TMPDIR"]) == ("/tmp", "/tmp")
    assert {"/usr/bin", "/bin"} <= set(environ["PATH"].split(":"))
    assert b"SECRET" not in init.stdout


def test_signals_are_as_a_program_expects() -> None:
    """Python ignores SIGPIPE, and a service may block what it likes: nothing of that is passed on."""
    old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with SandboxPool(SandboxConfig(), PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
            status = sh(lease, "grep -E '^Sig(Blk|Ign):' /proc/self/status").split()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR2, old)
    blocked, ignored = (int(word, 16) for word in status[1::2])
    assert blocked == 0
    # 32 and 33 are glibc's own for its threads: its posix_spawn leaves them ignored in every program that it starts.
    assert ignored & ~(0b11 << 31) == 0


def test_own_session(sandbox: PooledSandbox) -> None:
    script = "import os, json; print(json.dumps([os.getpid() == os.getsid(0), os.getpid() == os.getpgid(0)]))"
    assert py(sandbox, script) == [True, True]


def test_setgroups_is_given_up(sandbox: PooledSandbox) -> None:
    """The zygote has done that; user namespaces inherit it."""
    assert Path("/proc/self/setgroups").read_text() == "allow\n", "the control"
    assert sh(sandbox, "cat /proc/self/setgroups") == "deny\n"


def test_no_controlling_terminal() -> None:
    """The host has one here, and the tenant cannot open it."""
    leader, follower = pty.openpty()
    done = run_script(
        """
import os, sys
from pysandpool import *

os.setsid()
os.open(sys.argv[1], os.O_RDWR)  # becomes the controlling terminal
os.close(os.open("/dev/tty", os.O_RDWR))
with SandboxPool(None, PoolConfig(min_size=1)) as pool, pool.acquire() as lease:
    result = lease.execute(["/bin/sh", "-c", "cut -d' ' -f7 /proc/self/stat; cat < /dev/tty || echo none"])
    print(result.stdout.split(), b"No such device or address" in result.stderr)
""",
        os.ttyname(follower),
    )
    os.close(leader)
    os.close(follower)
    assert (done.stdout, done.stderr) == ("[b'0', b'none'] True\n", "")


# --- the file system -------------------------------------------------------------------------------------


def test_root_listing(sandbox: PooledSandbox) -> None:
    listing = set(sh(sandbox, "ls -A /").split())
    assert {"bin", "dev", "etc", "lib", "proc", "sbin", "tmp", "usr"} <= listing
    host = {name for name in os.listdir("/") if re.fullmatch(r"(s?bin|lib\w*)", name)}
    of_programs = {path.split("/")[1] for path in installed()}
    own = {"bin", "dev", "etc", "lib", "proc", "sbin", "sys", "tmp", "usr"}
    assert listing - own - {"mnt", "workspace"} <= host | of_programs
    assert sh(sandbox, "ls -A /mnt /mnt/workspace; readlink /workspace") == (
        "/mnt:\nworkspace\n\n/mnt/workspace:\nmnt/workspace\n"
    )


def installed() -> list[str]:
    """The paths of the table of what belongs to installed programs."""
    table = Path(__file__).parents[2] / "csrc" / "zygote" / "installed.h"
    return re.findall(r'X\("([^"]+)"', table.read_text(encoding="utf-8"))


ETC = {
    "/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/hosts",
    "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
}  # fmt: skip


def test_etc_and_var_have_only_what_is_in_the_table(sandbox: PooledSandbox) -> None:
    prune = "-path /etc/alternatives -prune -o -path /etc/ssl/certs -prune -o -path '/etc/pki/*/*' -prune -o"
    found = set(sh(sandbox, f"find /etc /var {prune} ! -type d -print 2>/dev/null || :").split())
    allowed = [*ETC, *installed()]
    strange = {path for path in found if not any(belongs(path, one) for one in allowed)}
    assert not strange
    assert {"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf"} <= found
    for path in ("/etc/shadow", "/etc/machine-id", "/etc/hostname", "/etc/fstab", "/etc/resolv.conf", "/etc/ssh"):
        assert sandbox.execute(["/usr/bin/test", "-e", path]).exit_code == 1, path
    assert not sh(sandbox, "ls -A /etc/ssl/private 2>/dev/null || :").split()


def belongs(path: str, entry: str) -> bool:
    return path.startswith(entry[:-1]) if entry.endswith("*") else path == entry or path.startswith(entry + "/")


def test_passwd_is_made_up(sandbox: PooledSandbox) -> None:
    passwd = lines(sh(sandbox, "cat /etc/passwd"))
    assert any(line.split(":")[2] == "1000" for line in passwd)
    assert len(passwd) <= 3
    host = Path("/etc/passwd").read_text().splitlines()
    assert len(host) > 3, "control"
    assert not [line for line in passwd if line in host and not line.startswith(("root:", "nobody:"))]
    assert len(lines(sh(sandbox, "cat /etc/group"))) <= 3


@pytest.mark.parametrize("network", ["none", "loopback"])
def test_its_own_name_can_be_resolved(real_pool: OpenPool, network: str) -> None:
    script = """
        import json, socket
        found = [socket.gethostbyname(name) for name in ("localhost", socket.gethostname())]
        print(json.dumps([*found, socket.getfqdn()]))
    """
    with real_pool(SandboxConfig(network=network)).acquire() as lease:
        assert py(lease, script) == ["127.0.0.1", "127.0.1.1", "sandbox"]


def test_its_own_name_is_known_in_the_network_of_the_host(real_pool: OpenPool) -> None:
    config = SandboxConfig(seccomp_profile=SeccompProfile.NETWORK, deny_network=False)
    with real_pool(config).acquire() as lease:
        assert sh(lease, "getent hosts sandbox").split() == ["127.0.1.1", "sandbox"]
        assert sh(lease, "cat /etc/hosts").endswith(Path("/etc/hosts").read_text())
        assert sh(lease, "cat /etc/nsswitch.conf") == Path("/etc/nsswitch.conf").read_text()


def test_names_are_looked_up_in_files_only(sandbox: PooledSandbox) -> None:
    """The host's nsswitch.conf names its directory service, and its modules would be loaded."""
    assert "passwd: files\n" in sh(sandbox, "cat /etc/nsswitch.conf")


@pytest.mark.parametrize("path", ["/", "/usr", "/usr/bin", "/bin", "/lib", "/etc", "/dev", "/proc"])
def test_nothing_of_it_can_be_written(sandbox: PooledSandbox, path: str) -> None:
    expected = {"EROFS"} if path not in ("/dev", "/proc") else {"EROFS", "EACCES", "EPERM", "ENOENT"}
    assert refusal(sandbox, f"os.close(os.open('{path}/new', os.O_CREAT | os.O_WRONLY))") in expected
    assert refusal(sandbox, f"os.mkdir('{path}/new.d')") in expected
    assert refusal(sandbox, "os.mkdir('/tmp/new.d')") is None, "control"


def test_files_of_the_system_can_be_read_but_not_changed(sandbox: PooledSandbox) -> None:
    assert refusal(sandbox, "open('/usr/bin/env', 'rb').close()") is None
    for change in ("open('/usr/bin/env', 'r+b')", "os.chmod('/usr/bin/env', 0o777)", "os.unlink('/usr/bin/env')"):
        assert refusal(sandbox, change) in ("EROFS", "EPERM", "EACCES"), change
    assert refusal(sandbox, "os.rename('/etc/passwd', '/tmp/passwd')") in ("EROFS", "EXDEV", "EACCES")
    assert refusal(sandbox, "os.link('/etc/passwd', '/tmp/passwd')") in ("EXDEV", "EPERM", "EACCES")


def mounts(sandbox: PooledSandbox) -> dict[str, set[str]]:
    """The mount points inside and their options; of several at one place the last, which is seen."""
    found = {}
    for line in lines(sh(sandbox, "cat /proc/self/mountinfo")):
        fields = line.split()
        found[fields[4]] = set(fields[5].split(","))
    return found


def test_mount_flags(host_dir: Path, real_pool: OpenPool) -> None:
    config = SandboxConfig(fs_readonly=("/usr/share",), fs_readwrite=(str(host_dir),))
    with real_pool(config).acquire() as lease:
        found = mounts(lease)
    assert {"/", "/tmp", "/proc", "/dev/shm", "/usr", str(host_dir)} <= set(found)
    for point, flags in found.items():
        assert "nosuid" in flags, point
        if not point.startswith("/dev") or point == "/dev/shm":
            assert "nodev" in flags, point
        writable = point.startswith(("/dev/", "/proc")) or point in ("/tmp", str(host_dir))
        assert writable or "ro" in flags, point
    assert "noexec" not in found["/tmp"]


def test_no_mount_of_the_host_is_left(sandbox: PooledSandbox) -> None:
    """The old root is detached: what the host has mounted elsewhere does not appear."""
    allowed = re.compile(r"/|/(usr|bin|sbin|lib\w*|etc|dev|proc|tmp|var/lib/gems|var/lib/texmf)(/.*)?")
    assert not [point for point in mounts(sandbox) if not allowed.fullmatch(point)]


def test_tmp_is_private_and_empty(sandbox: PooledSandbox, shared_pool: SandboxPool) -> None:
    assert os.listdir("/tmp"), "control: the host's is not empty"
    assert sh(sandbox, "ls -A /tmp /dev/shm") == "/dev/shm:\n\n/tmp:\n"
    name = f"sandpool-{uuid.uuid4()}"
    sh(sandbox, f"echo mine > /tmp/{name}; echo mine > /dev/shm/{name}")
    assert not Path("/tmp", name).exists()
    assert not Path("/dev/shm", name).exists()
    with shared_pool.acquire() as other:
        assert sh(other, "ls -A /tmp /dev/shm") == "/dev/shm:\n\n/tmp:\n"


def test_programs_run_from_tmp(sandbox: PooledSandbox) -> None:
    assert sh(sandbox, "cp /bin/echo own; ./own runs") == "runs\n"


def test_dev(sandbox: PooledSandbox) -> None:
    needed = {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "shm",
        "pts",
        "ptmx",
    }
    listing = set(sh(sandbox, "ls -A /dev").split())
    assert needed <= listing
    assert listing <= needed
    assert sh(sandbox, "echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1").split() == ["00"] * 3
    assert sh(sandbox, "head -c 64 /dev/urandom | wc -c; head -c 4 /dev/random | wc -c").split() == ["64", "4"]
    assert refusal(sandbox, "os.write(os.open('/dev/full', os.O_WRONLY), b'x')") == "ENOSPC"
    assert refusal(sandbox, "os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))") in ("EPERM", "EACCES")


def test_pseudo_terminals_are_its_own(sandbox: PooledSandbox) -> None:
    script = """
        import json, os, pty
        leader, follower = pty.openpty()
        os.write(leader, b"hello\\n")
        print(json.dumps([os.ttyname(follower), os.read(follower, 10).decode(), os.listdir("/dev/pts")]))
    """
    name, read, listing = py(sandbox, script)
    assert (name, read) == ("/dev/pts/0", "hello\n")
    assert set(listing) == {"0", "ptmx"}


@pytest.fixture
def secrets() -> Iterator[list[Path]]:
    """A file with the same unusual name in several directories of the host, readable by everybody."""
    name = f"sandpool-secret-{uuid.uuid4()}"
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.home(), Path.cwd(), Path("/dev/shm")]
    made = []
    for place in places:
        if os.access(place, os.W_OK):
            path = place / name
            path.write_text("secret")
            path.chmod(0o644)
            made.append(path)
    yield made
    for path in made:
        path.unlink(missing_ok=True)


def test_no_file_of_the_host_is_found(sandbox: PooledSandbox, secrets: list[Path]) -> None:
    assert len(secrets) >= 2
    name = secrets[0].name
    for path in secrets:
        assert path.read_text() == "secret", "control"
        for way in ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/../../../..", "/proc/self/cwd/../../.."):
            result = sandbox.execute(["/bin/cat", f"{way}{path}"])
            assert (result.exit_code, result.stdout) == (1, b""), f"{way}{path}"
    search = "find / -path /usr -prune -o -path '/proc/[0-9]*' -prune -o -name {} -print 2>/dev/null || :"
    assert sh(sandbox, search.format(name)) == ""
    sh(sandbox, f"touch /tmp/{name}")
    assert sh(sandbox, search.format(name)) == f"/tmp/{name}\n", "control: the search finds what is there"


@pytest.mark.parametrize(
    "path",
    [
        "/root",
        "/home",
        "/var/log",
        "/sys/class",
        "/sys/fs",
        "/sys/kernel",
        "/run",
        "/boot",
        "/opt",
        "/srv",
        "/work",
    ],
)
def test_other_directories_of_the_host_are_absent(sandbox: PooledSandbox, path: str) -> None:
    assert sandbox.execute(["/usr/bin/test", "-e", path]).exit_code == 1
    assert sandbox.execute(["/usr/bin/test", "-e", "/usr"]).exit_code == 0, "control"


# --- what the config adds --------------------------------------------------------------------------------


def test_readonly_directory(host_dir: Path, real_pool: OpenPool) -> None:
    (host_dir / "file").write_text("of the host")
    (host_dir / "below").mkdir(mode=0o777)
    with real_pool(SandboxConfig(fs_readonly=(str(host_dir),))).acquire() as lease:
        where = shlex.quote(str(host_dir))
        assert sh(lease, f"cat {where}/file; ls {where}") == "of the hostbelow\nfile\n"
        for change in (f"open('{host_dir}/new', 'w')", f"open('{host_dir}/file', 'r+')", f"os.mkdir('{host_dir}/d')"):
            assert refusal(lease, change) in ("EROFS", "EACCES"), change
        assert refusal(lease, f"open('{host_dir}/below/new', 'w')") == "EROFS"
        (host_dir / "later").write_text("seen at once")
        assert sh(lease, f"cat {where}/later") == "seen at once"
    assert not (host_dir / "new").exists()


def test_readwrite_directory(host_dir: Path, real_pool: OpenPool) -> None:
    (host_dir / "file").write_text("old")
    (host_dir / "file").chmod(0o666)
    with real_pool(SandboxConfig(fs_readwrite=(str(host_dir),))).acquire() as lease:
        sh(lease, f"cd {shlex.quote(str(host_dir))}; cat file; echo new > file; mkdir d; echo more > d/other")
        assert sh(lease, "pwd; ls -A", cwd=str(host_dir)).split() == [str(host_dir), "d", "file"]
    assert (host_dir / "file").read_text() == "new\n"
    assert (host_dir / "d" / "other").read_text() == "more\n"
    # What the tenant's uid has made there is not root's to leave behind for rmtree of an unprivileged host.
    shutil.rmtree(host_dir / "d")


def test_only_what_was_asked_for_is_shown(host_dir: Path, real_pool: OpenPool) -> None:
    for name in ("shown", "hidden"):
        (host_dir / name).mkdir(mode=0o755)
        (host_dir / name / "file").write_text(name)
    with real_pool(SandboxConfig(fs_readonly=(str(host_dir / "shown"),))).acquire() as lease:
        where = shlex.quote(str(host_dir))
        assert sh(lease, f"ls -A {where}; cat {where}/shown/file") == "shown\nshown"
        found = sh(lease, "find / -path /usr -prune -o -path '/proc/[0-9]*' -prune -o -name hidden -print 2>&- || :")
        assert found == ""


def test_single_file(host_dir: Path, real_pool: OpenPool) -> None:
    one, two, other = host_dir / "one", host_dir / "two", host_dir / "other"
    for path in (one, two, other):
        path.write_text(path.name)
        path.chmod(0o666)
    config = SandboxConfig(fs_readonly=(str(one),), fs_readwrite=(str(two),))
    with real_pool(config).acquire() as lease:
        assert sh(lease, f"cat {one} {two}; ls -A {host_dir}") == "onetwoone\ntwo\n"
        assert refusal(lease, f"open('{one}', 'w')") in ("EROFS", "EACCES")
        sh(lease, f"echo changed > {two}")
    assert (one.read_text(), two.read_text()) == ("one", "changed\n")


def test_writable_below_readonly(host_dir: Path, real_pool: OpenPool) -> None:
    below = host_dir / "below"
    below.mkdir()
    below.chmod(0o777)
    config = SandboxConfig(fs_readonly=(str(host_dir),), fs_readwrite=(str(below),))
    with real_pool(config).acquire() as lease:
        assert refusal(lease, f"open('{host_dir}/new', 'w')") in ("EROFS", "EACCES")
        assert refusal(lease, f"open('{below}/new', 'w').close()") is None
    assert (below / "new").exists()


def test_shown_path_keeps_tmp_private(real_pool: OpenPool) -> None:
    path = Path(tempfile.mkdtemp(prefix="sandpool-test-", dir="/tmp"))
    path.chmod(0o755)
    try:
        with real_pool(SandboxConfig(fs_readonly=(str(path),))).acquire() as lease:
            assert sh(lease, "ls -A /tmp").split() == [path.name]
            sh(lease, "echo own > /tmp/own; chmod 755 /tmp/own; cat /tmp/own")
            assert sh(lease, "ls -A /dev/pts/staged 2>/dev/null || :") == "", "nothing beside the shown place"
        assert not Path("/tmp/own").exists()
    finally:
        path.rmdir()


# --- processes -------------------------------------------------------------------------------------------


def test_own_pid_namespace(sandbox: PooledSandbox) -> None:
    script = """
        import json, os
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        print(json.dumps([pids, os.getpid(), os.getppid()]))
    """
    pids, own, parent = py(sandbox, script)
    assert pids == [1, own]
    assert parent == 1
    assert refusal(sandbox, f"os.kill({os.getpid() if os.getpid() > 100 else 99999}, 0)") == "ESRCH"


def test_init_is_out_of_reach(sandbox: PooledSandbox) -> None:
    for name in ("mem", "fd", "root", "cwd", "exe", "environ", "maps", "ns/pid", "auxv"):
        assert refusal(sandbox, f"open('/proc/self/{name}').close()") in (None, "EISDIR"), "control"
        reading = f"os.listdir('/proc/1/{name}')" if name == "fd" else f"open('/proc/1/{name}', 'rb').read(1)"
        assert refusal(sandbox, reading) in ("EACCES", "EPERM"), name
    assert refusal(sandbox, "libc(b'ptrace', 16, 1, 0, 0)") in ("EPERM", "EACCES", "ESRCH", "ENOSYS")


def test_init_survives_signals(sandbox: PooledSandbox) -> None:
    init = sandbox.pid
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGUSR1):
        sandbox.execute(["/bin/sh", "-c", f"kill -{int(number)} 1; kill -{int(number)} -1"])
    assert sandbox.pid == init
    assert sh(sandbox, "echo alive") == "alive\n"


def test_each_lease_has_its_own_namespaces(shared_pool: SandboxPool) -> None:
    script = "; ".join(f"readlink /proc/self/ns/{name}" for name in NAMESPACES)
    host = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    with shared_pool.acquire() as one, shared_pool.acquire() as two:
        first, second = lines(sh(one, script)), lines(sh(two, script))
        assert lines(sh(one, script)) == first, "of the lease, not of the command"
    for name, *links in zip(NAMESPACES, host, first, second):
        assert len(set(links)) == 3, name


def test_kernel_objects_are_not_shared(shared_pool: SandboxPool) -> None:
    """System V memory of one lease is not there for another, alive at the same time or later."""
    make, look = "libc(b'shmget', 0x5a4d, 4096, 0o1666)", "libc(b'shmget', 0x5a4d, 4096, 0)"
    with shared_pool.acquire() as one:
        assert refusal(one, make) is None
        assert refusal(one, look) is None, "control: the same lease finds it"
        with shared_pool.acquire() as two:
            assert refusal(two, look) == "ENOENT"
    with shared_pool.acquire() as three:
        assert refusal(three, look) == "ENOENT"


# --- limits ----------------------------------------------------------------------------------------------


def test_resource_limits(real_pool: OpenPool) -> None:
    names = ["NOFILE", "CORE", "FSIZE", "MEMLOCK", "DATA"]
    script = f"""
        import json, resource
        print(json.dumps([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in {names}]))
    """
    config = SandboxConfig(scratch_size_mb=10, memory_limit_mb=200, data_limit_mb=100)
    with real_pool(config).acquire() as lease:
        found = dict(zip(names, py(lease, script)))
    half = resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2
    assert found["NOFILE"] == [min(1024, half), min(4096, half)]
    assert found["CORE"] in ([0, 0], [1, 1]), "no file; and 1 also starts no helper of the host's, see core(5)"
    assert found["FSIZE"] == [10 * MIB] * 2
    assert found["MEMLOCK"] == [64 * 1024] * 2
    assert found["DATA"] == [100 * MIB] * 2


def test_crash_leaves_no_core_file(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/sh", "-c", "ulimit -c unlimited 2>&1; kill -SEGV $$"])
    assert result.signal == signal.SIGSEGV
    assert sh(sandbox, "ls -A /tmp") == ""


def test_open_files_are_bounded(sandbox: PooledSandbox) -> None:
    script = """
        import json, os
        count = 0
        try:
            while count < 5000:
                os.open("/dev/null", os.O_RDONLY)
                count += 1
        except OSError as error:
            print(json.dumps([count, error.errno]))
    """
    count, err = py(sandbox, script)
    assert count <= 1021
    assert os.strerror(err) == os.strerror(24)


def test_memory_is_bounded(real_pool: OpenPool) -> None:
    with real_pool(SandboxConfig(memory_limit_mb=100)).acquire() as lease:
        assert lease.execute([PYTHON, "-c", f"x = bytearray({50 * MIB})"]).exit_code == 0, "control"
        result = lease.execute([PYTHON, "-c", f"x = bytearray({150 * MIB}); import time; time.sleep(30)"])
    assert (result.oom_killed, result.signal) == (True, signal.SIGKILL)


def test_reserved_memory_is_bounded_only_where_that_is_asked_for(real_pool: OpenPool) -> None:
    reserve = [PYTHON, "-c", f"import mmap; x = mmap.mmap(-1, {1 << 32}, mmap.MAP_PRIVATE); print('fine')"]
    with real_pool(SandboxConfig(memory_limit_mb=64)).acquire() as lease:
        assert lease.execute(reserve).stdout == b"fine\n"
    with real_pool(SandboxConfig(memory_limit_mb=64, data_limit_mb=50)).acquire() as lease:
        result = lease.execute(reserve)
        assert (result.exit_code, result.oom_killed) == (1, False)
        assert b"Cannot allocate memory" in result.stderr
        assert lease.execute([PYTHON, "-c", f"x = bytearray({20 * MIB}); print('fine')"]).stdout == b"fine\n"


FORK_BOMB = """
    import errno, json, os, time
    count, why = 0, None
    try:
        while count < 1000:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError as error:
        why = errno.errorcode[error.errno]
    print(json.dumps([count, why]))
"""


@pytest.mark.parametrize("bound", [1, 8, 32])
def test_processes_are_bounded(real_pool: OpenPool, bound: int) -> None:
    pool = real_pool(SandboxConfig(max_processes=bound), warm=2)
    with pool.acquire() as lease, pool.acquire() as other:
        assert py(lease, FORK_BOMB) == [bound - 1, "EAGAIN"], "with the command itself that many"
        assert py(other, FORK_BOMB) == [bound - 1, "EAGAIN"], "the count is not shared with another sandbox"
        assert py(lease, FORK_BOMB) == [bound - 1, "EAGAIN"], "what was left has ended"


def test_fork_bomb_ends_with_its_execute(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(max_processes=40, timeout_secs=1.0))
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    with pool.acquire() as lease:
        init = lease.pid
        result = lease.execute([PYTHON, "-c", bomb])
        assert result.timed_out
        assert sh(lease, "ls -d /proc/[0-9]* | wc -l") in ("4\n", "3\n"), "init, sh, ls, wc"
    wait_until(lambda: not alive(init), "the sandbox has ended")


def test_one_sandbox_with_a_full_count_does_not_stop_another(real_pool: OpenPool) -> None:
    pool = real_pool(SandboxConfig(max_processes=16), warm=2)
    hold = FORK_BOMB.replace("print(", "time.sleep(60); print(")
    with pool.acquire() as full, pool.acquire() as other:
        running = Call(full.execute, [PYTHON, "-c", textwrap.dedent(hold)], timeout=5)
        wait_until(lambda: any(len(children(pid)) == 15 for pid in children(full.pid)), "full")
        assert sh(other, "echo a | cat | cat | cat") == "a\n"
        full.release()
        with pytest.raises(SandboxReleasedError):
            running.result()


def test_fork_can_be_forbidden(real_pool: OpenPool) -> None:
    with real_pool(SandboxConfig(allow_fork=False)).acquire() as lease:
        assert lease.execute(["/bin/echo", "runs"]).stdout == b"runs\n"
        assert refusal(lease, "os.fork()") in ("EPERM", "EACCES", "EAGAIN")
        threads = (
            "import threading, json; t = threading.Thread(target=print); t.start(); t.join(); print(json.dumps(1))"
        )
        assert py(lease, threads) == 1
        assert lease.execute(["/bin/sh", "-c", "/bin/true; echo $?"]).stdout != b"0\n"


def test_scratch_is_bounded(real_pool: OpenPool) -> None:
    """/tmp and /dev/shm share one bound, and one file may not be larger."""
    with real_pool(SandboxConfig(scratch_size_mb=8)).acquire() as lease:
        for first, second in (("/tmp/a", "/dev/shm/b"), ("/dev/shm/b", "/tmp/a")):
            assert refusal(lease, f"fill('{first}')") is None, "control: there is room for one"
            assert refusal(lease, f"fill('{second}')") == "ENOSPC"
            sh(lease, "rm /tmp/a /dev/shm/b")
        assert refusal(lease, f"os.truncate(os.open('/tmp/a', os.O_CREAT | os.O_RDWR), {8 * MIB})") is None
        assert refusal(lease, f"os.truncate(os.open('/tmp/a', os.O_CREAT | os.O_RDWR), {8 * MIB + 1})") == "EFBIG"


def test_inodes_are_bounded(sandbox: PooledSandbox) -> None:
    script = """
        import errno, json, os
        count, why = 0, None
        try:
            while count < 20000:
                os.mknod(f"/tmp/{count}")
                count += 1
        except OSError as error:
            why = errno.errorcode[error.errno]
        print(json.dumps([count, why]))
    """
    count, why = py(sandbox, script)
    assert (why, 16_000 < count < 16_384) == ("ENOSPC", True)


# --- the network -----------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a server of the host, on its loopback interface."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()  # control: it can be reached
        yield port


def test_no_network_interface_but_lo_and_that_is_down(sandbox: PooledSandbox) -> None:
    interfaces = [line.split(":")[0].strip() for line in lines(sh(sandbox, "cat /proc/net/dev"))[2:]]
    assert interfaces == ["lo"]
    assert lines(sh(sandbox, "cat /proc/net/route"))[1:] == []
    assert sh(sandbox, "cat /proc/net/if_inet6 2>/dev/null || :") == "", "an address appears when it comes up"
    assert "LOCAL" not in sh(sandbox, "cat /proc/net/fib_trie 2>/dev/null || :")
    assert "LOCAL" in Path("/proc/net/fib_trie").read_text(), "control"


def connect(port: int) -> str:
    return f"socket.create_connection(('127.0.0.1', {port}), timeout=5).close()"


def test_essential_profile_has_no_sockets(sandbox: PooledSandbox, listener: int) -> None:
    for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
        made = f"socket.socket(socket.{family}, socket.SOCK_STREAM if '{family}' != 'AF_NETLINK' else socket.SOCK_RAW)"
        assert refusal(sandbox, made) in ("EPERM", "EACCES", "EAFNOSUPPORT"), family
    assert refusal(sandbox, connect(listener)) in ("EPERM", "EACCES", "EAFNOSUPPORT")
    assert refusal(sandbox, "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'") is None


def test_network_profile_in_its_own_namespace_reaches_nothing(real_pool: OpenPool, listener: int) -> None:
    with real_pool(SandboxConfig(seccomp_profile=SeccompProfile.NETWORK)).acquire() as lease:
        assert refusal(lease, "socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()") is None
        assert refusal(lease, connect(listener)) in ("ENETUNREACH", "EACCES", "EPERM")


def test_network_of_the_host_when_it_is_allowed(real_pool: OpenPool, listener: int) -> None:
    config = SandboxConfig(seccomp_profile=SeccompProfile.NETWORK, deny_network=False)
    with real_pool(config).acquire() as lease:
        assert refusal(lease, connect(listener)) is None
        assert sh(lease, "readlink /proc/self/ns/net") == os.readlink("/proc/self/ns/net") + "\n"
        for name in NAMESPACES[:-1]:
            assert sh(lease, f"readlink /proc/self/ns/{name}") != os.readlink(f"/proc/self/ns/{name}") + "\n"


def test_unix_sockets_need_to_be_allowed(host_dir: Path, real_pool: OpenPool) -> None:
    """A socket file in a bound directory is a door to the host."""
    with socket.socket(socket.AF_UNIX) as server:
        path = host_dir / "door"
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        knock = f"socket.socket(socket.AF_UNIX).connect('{path}')"
        shown = (str(host_dir),)
        with real_pool(SandboxConfig(fs_readwrite=shown, allow_unix_sockets=True)).acquire() as lease:
            assert refusal(lease, knock) is None, "control: it can be opened"
        with real_pool(SandboxConfig(fs_readwrite=shown)).acquire() as lease:
            assert refusal(lease, knock) in ("EPERM", "EACCES", "EAFNOSUPPORT")
