"""The Landlock tier where tenants have the user's own id: init's supervisor changes files and sends signals for them.

Each host runs in a process of its own, as the user of this test, as an ordinary user and as root that cannot give ids.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci
import pytest

IS_ROOT = os.geteuid() == 0
USER = 23457
HOSTS = {
    "self": [],
    "user": ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"],
    "root without ids": ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"],
}
HOSTS = {name: words for name, words in HOSTS.items() if (name != "self") == IS_ROOT}

BEGIN = """
    import json, os, sys, time
    from pysandpool import *
    from pysandpool import NamespaceDegradation as N
    def pool(**fields):
        return SandboxPool(SandboxConfig(namespace_degradation=N.ALLOW_DEGRADATION, timeout_secs=60, **fields))
"""


class Host:
    """Runs a script that has a pool of its own, and returns what it prints as JSON."""

    def __init__(self, words: list[str], abi: int, home: Path) -> None:
        self.words, self.home = words, home
        self.environ = {
            **os.environ,
            "PYSANDPOOL_TIER": "landlock",
            "PYSANDPOOL_LANDLOCK_ABI": str(abi),
            "TMPDIR": os.fspath(home),
            "HOME": os.fspath(home),
        }

    def run(self, script: str, *args: object) -> Any:
        code = textwrap.dedent(BEGIN) + textwrap.dedent(script)
        command = [*self.words, sys.executable, "-c", code, *map(os.fspath, map(str, args))]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def as_user(self, command: list[str]) -> None:
        subprocess.run([*self.words, *command], env=self.environ, check=True, timeout=60)


@pytest.fixture(params=HOSTS)
def who(request: pytest.FixtureRequest) -> list[str]:
    words = HOSTS[request.param]
    if words and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not here: apt-get install util-linux")
    return words


@pytest.fixture(params=[7, 5])
def host(request: pytest.FixtureRequest, who: list[str]) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        home = Path(name)
        if any(word.startswith("--reuid") for word in who):
            os.chown(home, USER, USER)
        yield Host(who, request.param, home)


TOOLS = {
    "gcc": "printf 'int main(void) { return 0; }\\n' > h.c && gcc h.c -o h && ./h",
    "mode": "touch m && chmod 640 m && test $(stat -c %a m) = 640",
    "tar": "mkdir d && touch -d 2001-01-01 d/f && chmod 750 d/f && tar cf d.tar d && rm -r d && tar xpf d.tar"
    " && test $(stat -c %a:%Y d/f) = 750:$(date -d 2001-01-01 +%s)",
    "cp": "touch -d 2002-02-02 t && cp -p t t2 && test $(stat -c %Y t2) = $(date -d 2002-02-02 +%s)",
    "install": "install -m 751 m i && test $(stat -c %a i) = 751",
    "owner": "chown $(id -u):$(id -g) m && chgrp $(id -g) m",
    "git": "git init -q r && cd r && git config user.email a@b && git config user.name n && echo 1 > f && git add f"
    " && git commit -qm m && cd .. && git clone -q r r2 && test $(cat r2/f) = 1",
    "bind": "touch $1/b && chmod 604 $1/b && test $(stat -c %a $1/b) = 604",
    "set-id": "! chmod 4755 m && ! chmod 2755 d",
}


def test_tools_that_change_files_work(host: Host) -> None:
    bind = host.home / "bind"
    host.as_user(["mkdir", os.fspath(bind)])
    found = host.run(
        """
        found = {}
        with pool(fs_readwrite=(sys.argv[2],)) as p, p.acquire() as lease:
            for name, line in json.loads(sys.argv[1]).items():
                done = lease.execute(["sh", "-ec", line, "sh", sys.argv[2]])
                found[name] = None if done.ok else done.stderr.decode() or done.returncode
            found["tier"] = lease.isolation.tier
        print(json.dumps(found))
        """,
        json.dumps(TOOLS),
        bind,
    )
    assert found == {**dict.fromkeys(TOOLS), "tier": "landlock"}


def closed_to_others(path: str) -> list[str]:
    """The directories on the way to `path` that an ordinary user cannot pass."""
    return [os.fspath(one) for one in Path(path).resolve().parents if not one.stat().st_mode & stat.S_IXOTH]


def test_pip_installs_a_wheel(host: Host) -> None:
    if host.words and (closed := closed_to_others(sys.executable)):
        pytest.skip(f"an ordinary user cannot reach this Python: {closed[-1]} is closed")
    wheel = host.home / "hello_there-1.0-py3-none-any.whl"
    info = "hello_there-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hello_there.py", "print('hello')\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hello-there\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    wheel.chmod(0o644)
    found = host.run(
        """
        with pool(fs_python=True, fs_readonly=(sys.argv[1],)) as p, p.acquire() as lease:
            pip = lease.execute(["python", "-m", "pip", "install", "--no-index", "--target", "site", sys.argv[1]])
            done = lease.execute(["python", "-c", "import hello_there"], env={"PYTHONPATH": "site"})
        print(json.dumps([pip.stderr.decode(), done.stdout.decode()]))
        """,
        wheel,
    )
    assert found[1] == "hello\n", found[0]


# Each is tried on a file and on a directory of the user's, and must return the number of an error.
ATTACKS = """
    import ctypes, os, sys, threading, time
    libc = ctypes.CDLL(None, use_errno=True)
    victim, inside = sys.argv[1:3]
    folder, name = os.path.split(victim)
    def fd_of(path): return os.open(path, os.O_PATH)
    def linked():
        os.path.lexists("l") or os.symlink(victim, "l")
        os.chmod("l", 0o777)
    def linked_folder():
        os.path.lexists("lf") or os.symlink(folder, "lf")
        os.chmod(f"lf/{name}", 0o777)
    def hard_linked():
        try: os.link(victim, "h")
        except OSError: pass
        os.chmod("h" if os.path.exists("h") else victim, 0o777)
    def moved():
        try: os.rename(victim, "moved")
        except OSError: pass
        os.chmod("moved" if os.path.exists("moved") else victim, 0o777)
    def from_there():
        os.chdir(folder)
        try: os.chmod(name, 0o777)
        finally: os.chdir(inside)
    def by_empty_path():
        if libc.fchownat(fd_of(victim), b"", os.getuid(), os.getgid(), 0x1000):
            raise OSError(ctypes.get_errno(), "")
    def races():
        os.path.isdir("door") or os.mkdir("door")
        open(f"door/{name}", "w").close()
        os.path.lexists("up") or os.symlink(folder, "up")
        try: os.chmod(victim, 0o600)
        except OSError: pass
        before = os.stat(victim).st_mode
        over = False
        def swap():
            while not over: libc.renameat2(-100, b"door", -100, b"up", 2)
        thread = threading.Thread(target=swap)
        thread.start()
        done = failed = 0
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            try: os.chmod(f"door/{name}", 0o777); done += 1
            except OSError: failed += 1
        over = True
        thread.join()
        if not (done and (failed or os.stat(victim).st_mode != before)): raise OSError(99, "this was no race")
        if os.stat(victim).st_mode == before: raise PermissionError(1, "a race that was lost")
    attacks = {
        "chmod": lambda: os.chmod(victim, 0o777),
        "times": lambda: os.utime(victim),
        "owner": lambda: os.chown(victim, os.getuid(), os.getgid()),
        "folder": lambda: os.chmod(folder, 0o777),
        "dots": lambda: os.chmod(os.path.relpath(victim), 0o777),
        "dirfd": lambda: os.chmod(name, 0o777, dir_fd=fd_of(folder)),
        "descriptor": lambda: os.chmod(f"/proc/self/fd/{fd_of(victim)}", 0o777),
        "linked": linked, "linked_folder": linked_folder, "from_there": from_there, "by_empty_path": by_empty_path,
        "races": races, "hard_linked": hard_linked, "moved": moved,
    }
    found = {}
    for key, attack in attacks.items():
        try: attack(); found[key] = 0
        except OSError as error: found[key] = error.errno
    print(__import__("json").dumps(found))
"""


def test_files_of_the_host_and_of_other_leases_cannot_be_changed(host: Host) -> None:
    found = host.run(
        f"""
        import pathlib
        code = {textwrap.dedent(ATTACKS)!r}
        def state(path):
            return [(s.st_mode, s.st_ctime_ns, s.st_nlink) for s in (os.stat(path), os.stat(os.path.dirname(path)))]
        found = {{}}
        with pool() as p, p.acquire() as lease, p.acquire() as other:
            own = lease.execute(["pwd"]).stdout.decode().strip()
            foreign = pathlib.Path(other.execute(["pwd"]).stdout.decode().strip(), "file")
            other.write_file(str(foreign), b"x")
            folder = pathlib.Path(sys.argv[1], "folder")
            folder.mkdir()
            (folder / "file").write_text("x")
            for name, victim in (("host", folder / "file"), ("lease", foreign)):
                before = state(victim)
                attack = ["python3", "-c", code, str(victim), own]
                done = lease.execute(attack)
                found[name] = json.loads(done.stdout or repr(done.stderr.decode()))
                found[name + " untouched"] = state(victim) == before
            # The control: without a sandbox each of them succeeds.
            import subprocess
            free = pathlib.Path(sys.argv[1], "free")
            free.mkdir()
            attack[3:] = [str(folder / "file"), str(free)]
            found["free"] = json.loads(subprocess.run(attack, cwd=free, capture_output=True, check=True).stdout)
        print(json.dumps(found))
        """,
        host.home,
    )
    assert found["host untouched"]
    assert found["lease untouched"]
    assert set(found["host"].values()) == {1}, found["host"]
    assert set(found["lease"].values()) <= {1, 2, 13}, found["lease"]
    assert set(found["free"].values()) == {0}, found["free"]


SIGNALS = """
    set -e
    sleep 100 & p=$!
    kill $p; wait $p && exit 1 || test $? = 143
    python3 -c 'import os; os.abort()' && exit 1 || test $? = 134
    python3 - <<END
import subprocess
try: subprocess.run(["sleep", "9"], timeout=0.1)
except subprocess.TimeoutExpired: print("stopped")
END
    for victim; do kill -0 $victim 2> /dev/null && exit 2; kill -9 $victim 2> /dev/null && exit 3; done
    exit 0
"""


def test_signals_reach_own_processes_and_no_others(host: Host) -> None:
    found = host.run(
        """
        import subprocess
        bystander = subprocess.Popen(["sleep", "60"])
        with pool() as p, p.acquire() as lease, p.acquire() as other:
            neighbour = other.popen(["sleep", "60"])
            zygote = int(open(f"/proc/{lease.pid}/stat").read().rsplit(")", 1)[1].split()[1])
            victims = [bystander.pid, os.getpid(), lease.pid, other.pid, zygote, neighbour.pid]
            done = lease.execute(["sh", "-c", sys.argv[1], "sh", *map(str, victims)])
            alive = bystander.poll() is None and neighbour.poll() is None
        bystander.kill()
        print(json.dumps([done.exit_code, done.stdout.decode(), alive, done.stderr.decode()]))
        """,
        textwrap.dedent(SIGNALS),
    )
    assert found[:3] == [0, "stopped\n", True], found


ONLY_NEWEST = pytest.mark.parametrize("host", [7], indirect=True)
TAKE = "cat {0}/key; echo x > {0}/new; chmod 777 {0}/key; ls -a {0}"


@ONLY_NEWEST
def test_a_link_in_a_writable_bind_gives_no_rights(host: Host) -> None:
    """One tenant replaces a path that the configuration names by a link, and the next one tries what it leads to."""
    found = host.run(
        """
        import pathlib
        home = pathlib.Path(sys.argv[1])
        for name in "rw", "rw/part", "secret":
            (home / name).mkdir()
        (home / "secret" / "key").write_text("k3y\\n")
        found = []
        with pool(fs_readwrite=(str(home / "rw"), str(home / "rw" / "part"))) as p:
            with p.acquire() as lease:
                lease.execute(["sh", "-c", f"cd {home}/rw && rmdir part && ln -s {home}/secret part"]).check()
            for _ in range(3):
                try:
                    done = p.run(["sh", "-c", sys.argv[2].format(home / "secret")])
                except SandboxCreateError as error:
                    assert error.stage == "bind", error
                else:
                    found.append(done.stdout.decode())
        state = [(path.name, path.stat().st_mode & 0o777) for path in (home / "secret").iterdir()]
        # The control: named in the configuration, the same path can be read and written.
        with pool(fs_readwrite=(str(home / "secret"),)) as p:
            named = p.run(["sh", "-c", sys.argv[2].format(home / "secret")]).stdout.decode()
        print(json.dumps([found, state, named]))
        """,
        host.home,
        TAKE,
    )
    assert set(found[0]) <= {""}
    assert [name for name, _ in found[1]] == ["key"]
    assert found[1][0][1] != 0o777
    assert found[2].split() == ["k3y", ".", "..", "key", "new"]


@ONLY_NEWEST
@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_directories_of_leases_are_not_shown_with_a_bind_that_contains_them(host: Host, field: str) -> None:
    found = host.run(
        """
        with pool(**{sys.argv[2]: (sys.argv[1],)}) as p, p.acquire() as lease, p.acquire() as other:
            other.write_file("key", b"k3y")
            theirs = other.execute(["pwd"]).stdout.decode().strip()
            done = lease.execute(["sh", "-c", sys.argv[3].format(theirs)])
            untouched = other.execute(["sh", "-c", "ls; stat -c %a key"]).stdout.decode()
        print(json.dumps([done.stdout.decode(), untouched, os.path.dirname(theirs)]))
        """,
        host.home,
        field,
        TAKE,
    )
    assert found[0] == ""
    assert found[1].split() == ["key", "644"]
    assert not Path(found[2]).exists()


@ONLY_NEWEST
@pytest.mark.parametrize("target", ["/proc", "/sys", "/"])
def test_a_bind_that_leads_to_the_whole_machine_is_refused(host: Host, target: str) -> None:
    found = host.run(
        """
        os.symlink(sys.argv[1], "/".join((os.environ["HOME"], "link")))
        try:
            with pool(fs_readonly=("/".join((os.environ["HOME"], "link")),)) as p:
                print(json.dumps(p.run(["ls", os.environ["HOME"] + "/link/"]).stdout.decode()))
        except SandboxCreateError as error:
            print(json.dumps([error.stage, error.errno]))
        """,
        target,
    )
    assert found == ["bind", 22]


@pytest.mark.slow
@pytest.mark.skipif(bool(oci.missing()), reason=oci.missing())
@pytest.mark.parametrize("user", [0, 1000])
def test_tools_work_in_a_container_as_docker_makes_it(user: int) -> None:
    """Docker's seccomp profile lets a process have a listener, and the container's /proc shows the tenant's memory."""
    script = f"""
        found = {{}}
        with pool() as p, p.acquire() as lease:
            for name, line in {TOOLS!r}.items():
                if name != "bind":
                    done = lease.execute(["sh", "-ec", line])
                    found[name] = None if done.ok else done.stderr.decode() or done.returncode
            found["tier"] = lease.isolation.tier
        print(json.dumps(found))
    """
    code = textwrap.dedent(BEGIN) + textwrap.dedent(script)
    done = oci.run_python(code, container=oci.Container(user=user, no_new_privileges=True))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {**{name: None for name in TOOLS if name != "bind"}, "tier": "landlock"}
