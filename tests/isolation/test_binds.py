"""`binds`, `scratch_dirs` and `workdir`: paths of the host at other places, private directories, the default cwd."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest
from older_kernels import open_to_sandboxes
from pools import OpenPool

from pysandpool import Bind, InvalidSandboxConfigError, Sandbox, SandboxConfig, SandboxCreateError, SandboxError

Lines = list[str]


def run(sandbox: object, script: str, **keywords: object) -> str:
    done = sandbox.execute(["/bin/sh", "-c", script], **keywords)  # type: ignore[attr-defined]
    return (done.stdout + done.stderr).decode()


@pytest.fixture
def tree(host_dir: Path) -> Path:
    (host_dir / "sub").mkdir()
    (host_dir / "sub" / "inner").mkdir()
    (host_dir / "file").write_text("text")
    (host_dir / "sub" / "file").write_text("text of sub")
    for path in (host_dir, host_dir / "sub", host_dir / "sub" / "inner"):
        path.chmod(0o755)
    open_to_sandboxes(host_dir, *host_dir.rglob("*"))
    return host_dir


@pytest.mark.parametrize("dst", ["/data", "/deep/er/data", "/tmp/data", "/var/tmp/data"])
def test_a_path_at_another_place(tree: Path, dst: str) -> None:
    with Sandbox(SandboxConfig(binds=[Bind(tree, dst), Bind(tree / "sub", dst + "-rw", readonly=False)])) as sandbox:
        assert run(sandbox, f"cat {dst}/file {dst}-rw/file") == "texttext of sub"
        assert "Read-only" in run(sandbox, f"touch {dst}/new")
        assert run(sandbox, f"echo new > {dst}-rw/new") == ""
        assert "No such file" in run(sandbox, f"ls {tree}") or str(tree).startswith("/tmp")
    assert (tree / "sub" / "new").read_text() == "new\n"


def test_a_file_at_another_place(tree: Path) -> None:
    with Sandbox(SandboxConfig(binds=[Bind(tree / "file", "/etc/my.conf")])) as sandbox:
        assert run(sandbox, "cat /etc/my.conf; echo x > /etc/my.conf").startswith("text/bin/sh: 1: cannot create")


def test_binds_in_each_other(tree: Path) -> None:
    """The longest place wins; the source of the inner one may lie in the outer one, or elsewhere."""
    binds = [Bind(tree, "/data"), Bind(tree / "sub", "/data/sub", readonly=False)]
    with Sandbox(SandboxConfig(binds=binds)) as sandbox:
        assert run(sandbox, "touch /data/sub/made; ls /data/sub") == "file\ninner\nmade\n"
        assert "Read-only" in run(sandbox, "touch /data/no")


def test_one_source_at_two_places(tree: Path) -> None:
    with Sandbox(SandboxConfig(binds=[Bind(tree, "/a"), Bind(tree, "/b", readonly=False)])) as sandbox:
        assert run(sandbox, "touch /b/new && ls /a/new && touch /a/new").startswith("/a/new\n")


def test_a_source_that_was_replaced(tree: Path, real_pool: OpenPool) -> None:
    source = tree / "sub"
    pool = real_pool(SandboxConfig(binds=[Bind(source, "/data", readonly=False)]), warm=1)
    for text in ("2", "3"):
        shutil.rmtree(source)
        source.mkdir()
        source.chmod(0o755)
        (source / "file").write_text(text)
        open_to_sandboxes(source)
        with pool.acquire() as lease:
            assert run(lease, "cat /data/file") == text
            assert run(lease, "touch /data/new") == ""


def test_no_link_in_a_writable_source_is_followed(tree: Path) -> None:
    """A tenant has put it there."""
    (tree / "sub" / "link").symlink_to("/etc")
    binds = [Bind(tree / "sub", "/w", readonly=False), Bind(tree / "sub" / "link", "/shown")]
    with pytest.raises(SandboxCreateError) as refused, Sandbox(SandboxConfig(binds=binds)):
        pass
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.ELOOP)


def test_a_set_id_file_is_covered_at_another_place(tree: Path) -> None:
    program = tree / "sub" / "inner" / "program"
    program.touch()
    program.chmod(0o4755)
    with Sandbox(SandboxConfig(binds=[Bind(tree / "sub", "/w", readonly=False)])) as sandbox:
        assert "Read-only" in run(sandbox, "echo > /w/inner/program")
        assert "busy" in run(sandbox, "mv /w/inner/program /w/away")
        assert run(sandbox, "echo > /w/other") == ""


def test_a_read_only_source_in_a_writable_one_stays_closed_only_at_its_place(tree: Path) -> None:
    """Whoever shows a directory writable at one place and read-only at another one has asked for both."""
    program = tree / "sub" / "program"
    program.touch()
    program.chmod(0o4755)
    with Sandbox(SandboxConfig(binds=[Bind(tree, "/w", readonly=False), Bind(tree / "sub", "/r")])) as sandbox:
        assert "Read-only" in run(sandbox, "touch /r/new")
        assert run(sandbox, "touch /w/sub/new") == ""
        assert "Read-only" in run(sandbox, "echo > /w/sub/program")


@pytest.mark.parametrize("source", ["/proc", "/proc/1", "/sys", "/dev", "/dev/null"])
def test_a_link_to_what_is_never_shown(tree: Path, source: str) -> None:
    (tree / "link").symlink_to(source)
    with pytest.raises(SandboxCreateError) as refused, Sandbox(SandboxConfig(binds=[Bind(tree / "link", "/shown")])):
        pass
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.EINVAL)


def test_below_a_rootfs(tree: Path) -> None:
    root = tree / "root"
    for name in ("proc", "tmp", "dev", "data", "work", "usr", "bin", "lib", "lib64"):
        (root / name).mkdir(parents=True)
    system = [Path(name) for name in ("/usr", "/bin", "/lib", "/lib64") if Path(name).exists()]
    config = SandboxConfig(
        rootfs=root, fs_readonly=system, binds=[Bind(tree / "sub", "/data")], scratch_dirs=["/work"], workdir="/work"
    )
    with Sandbox(config) as sandbox:
        assert run(sandbox, "cat /data/file; touch new; pwd; ls /work; touch /data/no") == (
            "text of sub/work\nnew\ntouch: cannot touch '/data/no': Read-only file system\n"
        )
    missing = SandboxConfig(rootfs=root, fs_readonly=system, binds=[Bind(tree / "sub", "/missing")])
    with pytest.raises(SandboxCreateError, match="ENOENT"), Sandbox(missing):
        pass


def test_scratch_directories_are_private_empty_and_bounded() -> None:
    config = SandboxConfig(scratch_dirs=["/workspace", "/var/tmp"], scratch_size_mb=1, workdir="/workspace")
    for _ in range(2):
        with Sandbox(config) as sandbox:
            assert run(sandbox, "pwd; ls -A /workspace /var/tmp") == "/workspace\n/var/tmp:\n\n/workspace:\n"
            assert run(sandbox, "echo x > a; mkdir /var/tmp/d; cat /workspace/a") == "x\n"
            filled = "head -c 600000 /dev/zero > /var/tmp/a; head -c 600000 /dev/zero > /tmp/b"
            assert "No space" in run(sandbox, filled)
            assert run(sandbox, "ls /dev/shm /tmp") == "/dev/shm:\n\n/tmp:\nb\n"


def test_a_scratch_directory_in_a_path_of_the_host(tree: Path) -> None:
    with Sandbox(SandboxConfig(binds=[Bind(tree, "/data")], scratch_dirs=["/data/sub"])) as sandbox:
        assert run(sandbox, "ls /data/sub; touch /data/sub/mine; ls /data/sub") == "mine\n"
    assert sorted(os.listdir(tree / "sub")) == ["file", "inner"]
    for inside in ("/data/file", "/data/missing"):
        with (
            pytest.raises(SandboxCreateError),
            Sandbox(SandboxConfig(binds=[Bind(tree, "/data")], scratch_dirs=[inside])),
        ):
            pass


def test_workdir_is_where_commands_run(tree: Path) -> None:
    with Sandbox(SandboxConfig(binds=[Bind(tree, "/data")], workdir="/data")) as sandbox:
        assert run(sandbox, "pwd") == "/data\n"
        assert run(sandbox, "pwd", cwd="sub") == "/data/sub\n"
        assert run(sandbox, "pwd", cwd="/tmp") == "/tmp\n"
    with Sandbox(SandboxConfig(workdir="/missing")) as sandbox, pytest.raises(SandboxError, match="/missing"):
        run(sandbox, "pwd")


WRONG: list[tuple[dict[str, object], str]] = [
    ({"binds": Bind("/a", "/b")}, "binds"),
    ({"binds": ["/a:/b"]}, "binds"),
    ({"binds": [Bind("/a", "/c"), Bind("/b", "/c")]}, "binds"),
    ({"binds": [Bind("/a", "/c")], "fs_readonly": ["/c"]}, "binds"),
    ({"binds": [Bind("/srv/root/x", "/c", readonly=False)], "rootfs": "/srv/root"}, "fs_readwrite"),
    ({"scratch_dirs": "/x"}, "scratch_dirs"),
    ({"scratch_dirs": ["x"]}, "scratch_dirs"),
    ({"scratch_dirs": ["/tmp/x"]}, "scratch_dirs"),
    ({"scratch_dirs": ["/usr/x"]}, "scratch_dirs"),
    ({"scratch_dirs": ["/etc"]}, "scratch_dirs"),
    ({"scratch_dirs": ["/a", "/a/b"]}, "scratch_dirs"),
    ({"scratch_dirs": ["/a"], "fs_readonly": ["/a/b"]}, "scratch_dirs"),
    ({"scratch_dirs": ["/a/b"], "binds": [Bind("/x", "/a", readonly=False)]}, "scratch_dirs"),
    ({"scratch_dirs": [f"/d{n}" for n in range(65)]}, "scratch_dirs"),
    ({"workdir": "x"}, "workdir"),
    ({"workdir": 5}, "workdir"),
]


@pytest.mark.parametrize(("fields", "name"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_values_are_named(fields: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidSandboxConfigError, match=name) as refused:
        SandboxConfig(**fields)  # type: ignore[arg-type]
    assert refused.value.field == name


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("a", "/b"), "Bind.src"),
        ((5, "/b"), "Bind.src"),
        (("/proc/self", "/b"), "Bind.src"),
        (("/a", "b"), "Bind.dst"),
        (("/a", "/usr"), "Bind.dst"),
        (("/a", "/tmp"), "Bind.dst"),
        (("/a", "/b", 1), "Bind.readonly"),
        (("/usr/lib", "/b", False), "Bind.src"),
    ],
)
def test_a_wrong_bind_is_named(arguments: tuple[object, ...], name: str) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        Bind(*arguments)  # type: ignore[arg-type]
    assert refused.value.field == name


def test_a_bind_is_a_value() -> None:
    bind = Bind(Path("/srv/./data/"), readonly=False)
    assert (bind.src, bind.dst, bind.readonly) == ("/srv/data", "/srv/data", False)
    assert pickle.loads(pickle.dumps(bind)) == bind
    assert len({bind, Bind("/srv/data", "/srv/data", False), Bind("/srv/data")}) == 2
    config = SandboxConfig(binds=[bind], scratch_dirs=["/w"], workdir="/w")
    assert pickle.loads(pickle.dumps(config)) == config
