"""Where cgroups can be made, and what happens where they cannot. What they enforce is shown in tests/vm."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from eyes import alive, zygote_of
from waiting import wait_until

from pysandpool import (
    NamespaceDegradation,
    PoolConfig,
    PooledSandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxLostError,
    SandboxPool,
)
from pysandpool._backend import cgroup as _cgroup
from pysandpool._backend import hints as _hints
from pysandpool._backend import linux

WANTED = {"memory", "pids"}
ALL = "cpu memory pids\n"


class Tree:
    """A mount of cgroup v2 as a plain directory tree; the files that decide are there."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount

    def make(self, name: str, enabled: str = "", procs: str = "", controllers: str = ALL) -> Path:
        directory = self.mount / name
        directory.mkdir(parents=True, exist_ok=True)
        files = {"cgroup.controllers": controllers, "cgroup.subtree_control": enabled, "cgroup.procs": procs}
        if directory != self.mount:
            files["cgroup.type"] = "domain\n"
        for file, text in files.items():
            (directory / file).write_text(text)
        return directory

    def find(self, own: Path) -> str | None:
        return _cgroup.find_parent(WANTED, own, self.mount)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Seen by an ordinary user: root's own rules have their own tests."""
    monkeypatch.setattr(_cgroup, "_ours", lambda *_: True)
    tree = Tree(tmp_path / "cgroup")
    tree.make("", ALL)
    return tree


def test_the_nearest_directory_that_may_hold_cgroups(tree: Tree) -> None:
    tree.make("user", "memory pids\n")
    own = tree.make("user/session", procs="1\n")
    assert tree.find(own) == str(tree.mount / "user")


def test_a_directory_with_processes_cannot_hold_them(tree: Tree) -> None:
    own = tree.make("session", procs="1\n")
    assert tree.find(own) == str(tree.mount)
    (own / "cgroup.procs").write_text("")
    assert tree.find(own) == str(own)


def test_controllers_must_be_there(tree: Tree) -> None:
    tree.make("", "cpu\n", controllers="cpu\n")
    own = tree.make("session", controllers="cpu memory\n")
    assert tree.find(own) is None


def test_directories_must_be_writable(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tree.make("user/session", ALL)
    tree.make("user", ALL)
    refused = {own / "cgroup.procs"}
    monkeypatch.setattr(_cgroup, "_writable", lambda path: path not in refused)
    assert tree.find(own) == str(tree.mount / "user")
    refused |= {tree.mount / "user", tree.mount / "cgroup.procs"}
    assert tree.find(own) is None


def test_root_takes_only_what_is_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    tree = Tree(tmp_path / "cgroup")
    top = tree.make("", ALL)
    tree.make("system.slice", ALL)
    own = tree.make("system.slice/one.service", procs="1\n")
    assert tree.find(own) is None
    assert tree.find(top) == str(top)
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"1" if Path(path) == tree.mount / "system.slice" else b"")
    assert tree.find(own) == str(tree.mount / "system.slice")


def test_only_dead_hosts_directories_are_swept(tmp_path: Path) -> None:
    mine = Path(_cgroup.new_directory(str(tmp_path)))
    assert mine != Path(_cgroup.new_directory(str(tmp_path)))
    start = mine.name.split("-")[2]
    names = {
        mine.name: "populated 0",
        f"pysandpool-{os.getpid()}-{int(start) + 1}-0": "populated 0",  # the pid is another process's now
        "pysandpool-4194305-1-0": "populated 0",  # above every pid
        "pysandpool-4194305-1-1": "populated 1",
        "somebody-elses": "populated 0",
    }
    for name, events in names.items():
        (tmp_path / name / "s1").mkdir(parents=True)
        (tmp_path / name / "cgroup.events").write_text(f"{events}\nfrozen 0\n")
    swept = set()
    original, _cgroup._remove = _cgroup._remove, lambda directory: swept.add(directory.name)
    try:
        _cgroup.sweep(str(tmp_path))
    finally:
        _cgroup._remove = original
    assert swept == {f"pysandpool-{os.getpid()}-{int(start) + 1}-0", "pysandpool-4194305-1-0"}
    _cgroup.sweep(str(tmp_path / "missing"))


def test_removal_is_of_directories_only(tmp_path: Path) -> None:
    (tmp_path / "gone" / "s1").mkdir(parents=True)
    (tmp_path / "stays" / "s1").mkdir(parents=True)
    (tmp_path / "stays" / "file").write_text("")
    for name in "gone", "stays":
        _cgroup._remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["stays"]


# --- refusal ---------------------------------------------------------------------------------------------


def test_a_quota_that_nothing_enforces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "find_parent", lambda _: None)
    with pytest.raises(SandboxCreateError) as raised:
        SandboxPool(SandboxConfig(cpu_quota_us=50_000))
    assert (raised.value.stage, raised.value.errno, raised.value.detail) == ("limits", errno.ENOTSUP, "cpu_quota_us")
    assert "cgroup" in raised.value.hint


@pytest.mark.parametrize("where", ["/usr", "/nothing/here"])
def test_a_named_parent_that_cannot_be_used_is_refused(where: str) -> None:
    with pytest.raises(SandboxCreateError) as raised:
        SandboxPool(SandboxConfig(cgroup_parent=where))
    assert (raised.value.stage, raised.value.errno) == ("cgroup", errno.ENODEV if where == "/usr" else errno.ENOENT)
    assert raised.value.hint == _hints.delegate()


def test_degradation_goes_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "find_parent", lambda _: None)
    for parent in "/usr", None:
        config = SandboxConfig(
            cgroup_parent=parent,
            cpu_quota_us=50_000,
            namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION,
        )
        with SandboxPool(config) as pool, pool.acquire() as sandbox:
            assert sandbox.execute(["/bin/true"]).exit_code == 0


def test_what_was_only_found_is_dispensable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "find_parent", lambda _: "/usr")
    with SandboxPool(SandboxConfig()) as pool, pool.acquire() as sandbox:
        assert sandbox.execute(["/bin/true"]).exit_code == 0
    with pytest.raises(SandboxCreateError, match="cgroup"):
        SandboxPool(SandboxConfig(cpu_quota_us=50_000))


# --- a real one: it holds a sandbox without any controller, and says what it used -------------------------


@pytest.fixture
def bare() -> Iterator[Path]:
    found = _cgroup._own_cgroup()
    if found is None or not _cgroup._usable(found[1], set()):
        pytest.skip("no cgroup v2 that may be written")
    before = set(found[1].glob("pysandpool-*"))
    yield found[1]
    assert set(found[1].glob("pysandpool-*")) == before


def unlimited(parent: Path) -> SandboxConfig:
    return SandboxConfig(memory_limit_mb=None, max_processes=None, cgroup_parent=parent)


def cgroup_of(sandbox: PooledSandbox) -> str:
    return Path(f"/proc/{sandbox.pid}/cgroup").read_text().rpartition("0::")[2].strip()


def test_each_sandbox_is_born_in_its_own(bare: Path) -> None:
    with SandboxPool(unlimited(bare), PoolConfig(min_size=2)) as pool:
        one, other = pool.acquire(), pool.acquire()
        assert re.fullmatch(r"/pysandpool-[\d-]+/s\d+", cgroup_of(one))
        assert cgroup_of(one) != cgroup_of(other)
        seen = one.execute(["/bin/cat", "/proc/self/cgroup"]).stdout.decode()
        assert "0::/\n" in seen, "its own is all that it sees"
        used = one.execute(["/bin/sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done"])
        assert used.user_time > 0
        assert (one.isolation.memory, one.isolation.processes) == ("none", "none"), "nothing is limited by it"
        left = bare / cgroup_of(one).lstrip("/")
        assert left.is_dir()
        one.release()
        wait_until(lambda: not left.exists(), "the directory goes after its sandbox")


def test_what_a_command_leaves_is_killed_with_the_cgroup(bare: Path) -> None:
    with SandboxPool(unlimited(bare), PoolConfig(min_size=1)) as pool, pool.acquire() as sandbox:
        if "cpu" not in (bare / "cgroup.controllers").read_text().split():
            with pytest.raises(SandboxCreateError) as raised:
                SandboxPool(SandboxConfig(cpu_quota_us=50_000, cgroup_parent=bare))
            assert (raised.value.stage, raised.value.errno) == ("cgroup", errno.ENOTSUP)
        sandbox.execute(["/bin/sh", "-c", "sleep 1000 & sleep 1000 &"])
        procs = bare / cgroup_of(sandbox).lstrip("/") / "cgroup.procs"
        assert str(sandbox.pid) in procs.read_text().split()
    assert not procs.exists()


def test_cgroups_of_a_dead_zygote_go(bare: Path) -> None:
    with SandboxPool(unlimited(bare), PoolConfig(min_size=1)) as pool:
        with pool.acquire() as sandbox:
            sandbox.execute(["/bin/true"]).check()
            lost = cgroup_of(sandbox)
            init = sandbox.pid
            os.kill(zygote_of(sandbox), signal.SIGKILL)
            wait_until(lambda: not alive(init), "the sandbox dies with its zygote")
            with pytest.raises(SandboxLostError):
                sandbox.execute(["/bin/true"])
        with pool.acquire() as sandbox:
            sandbox.execute(["/bin/true"]).check()  # in place of an idle one that has died with the zygote
            assert cgroup_of(sandbox) != lost
