"""rootfs=: a tree of its own as the root, with everything that a sandbox has on top."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import run_script

from pysandpool import (
    CommandNotFoundError,
    InvalidSandboxConfigError,
    PoolConfig,
    Sandbox,
    SandboxConfig,
    SandboxCreateError,
    SandboxPool,
    SandboxResult,
)

pytestmark = pytest.mark.slow  # not in `make quick`

TOOLS = ("sh", "cat", "ls", "id", "touch", "mkdir")
STATIC = '#include <stdio.h>\nint main(void) { puts("static"); return 0; }\n'


def copy_program(program: str, tree: Path) -> None:
    """The program and the libraries that ldd names, each at its place."""
    libraries = re.findall(
        r"(/\S+)", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    )
    for file in (program, *libraries):
        target = tree / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(file), target)


@pytest.fixture(scope="module", params=["/tmp", "/var/tmp"])
def tree(request: pytest.FixtureRequest) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sandpool-rootfs-", dir=request.param))
    path.chmod(0o755)
    for name in ("proc", "tmp", "dev", "data", "etc"):
        (path / name).mkdir()
    for tool in TOOLS:
        copy_program(f"/bin/{tool}", path)
    (path / "etc" / "passwd").write_text("alone:x:1000:1000::/tmp:/bin/sh\nother:x:7:7::/:/bin/sh\n")
    (path / "etc" / "motd").write_text("of the tree\n")
    source = path / "static.c"
    source.write_text(STATIC)
    subprocess.run(["cc", "-static", "-o", path / "bin" / "static", source], check=True)
    yield path
    shutil.rmtree(path)


def sh(tree: Path, script: str, **fields: Any) -> SandboxResult:
    with Sandbox(SandboxConfig(rootfs=tree, **fields)) as sandbox:
        return sandbox.execute(["/bin/sh", "-c", script])


def test_the_tree_is_the_root(tree: Path) -> None:
    assert not Path("/static.c").exists()
    result = sh(tree, "cat /static.c; id -un; ls /usr/bin /usr/share /home /root 2>/dev/null")
    assert result.stdout == STATIC.encode() + b"sandbox\n", "and nothing of the host's is there"
    with Sandbox(SandboxConfig(rootfs=tree)) as sandbox:
        assert sandbox.execute(["static"]).check().stdout == b"static\n"
        with pytest.raises(CommandNotFoundError):
            sandbox.execute(["/usr/bin/python3", "-c", "1"])


def test_the_tree_is_read_only(tree: Path) -> None:
    script = """
for d in / /bin /etc /dev /data /proc; do touch $d/x 2> /dev/null && echo $d; done
touch /tmp/x /dev/shm/x && echo ok
"""
    assert sh(tree, script).stdout == b"ok\n"
    assert not (tree / "etc" / "x").exists()


def test_what_is_on_top_is_the_sandboxs_own(tree: Path) -> None:
    result = sh(
        tree,
        "ls /tmp; cat /proc/1/comm; echo x > /dev/null; ls /dev/pts; cat /proc/keys; cat /proc/sys/kernel/hostname",
    )
    assert result.check().stdout == b"sandpool-init\nptmx\nsandbox\n"
    assert sorted(os.listdir(tree / "tmp")) == []


def test_binds_go_into_the_tree(tree: Path, host_dir: Path) -> None:
    (host_dir / "file").write_text("text")
    if str(host_dir).startswith("/tmp"):  # shown below the private /tmp
        assert sh(tree, f"cat {host_dir}/file; echo more > {host_dir}/new", fs_readwrite=[host_dir]).stdout == b"text"
        assert (host_dir / "new").read_text() == "more\n"
        return
    with pytest.raises(SandboxCreateError) as refused:
        sh(tree, "true", fs_readonly=[host_dir])
    assert (refused.value.stage, refused.value.errno) == ("bind", errno.ENOENT)
    assert "rootfs" in refused.value.hint
    assert not (tree / "var").exists(), "nothing is made in the tree"
    (tree / host_dir.relative_to("/")).mkdir(parents=True)
    try:
        assert sh(tree, f"cat {host_dir}/file", fs_readonly=[host_dir]).stdout == b"text"
    finally:
        shutil.rmtree(tree / "var")


MADE_UP = ("group", "hosts", "nsswitch.conf", "passwd")


@pytest.mark.parametrize("network", ["none", "loopback"])
def test_made_up_files_are_laid_over_its_etc(tree: Path, network: str) -> None:
    result = sh(tree, "ls /etc; cat /etc/hosts; id -un; id -un other; touch /etc/hosts /etc/x", network=network)
    *listing, localhost, _, own = result.stdout.decode().splitlines()[:-2]
    assert listing == sorted([*MADE_UP, "motd"])
    assert (localhost, own) == ("127.0.0.1 localhost", "127.0.1.1 sandbox")
    assert result.stdout.splitlines()[-2:] == [b"sandbox", b"other"]
    assert result.stderr.count(b"Read-only file system") == 2
    assert sorted(path.name for path in (tree / "etc").iterdir()) == ["motd", "passwd"]


@pytest.mark.parametrize("kind", ["missing", "link"])
def test_a_tree_without_an_etc_of_its_own(tree: Path, kind: str) -> None:
    """Nothing is created in the tree, and nothing is mounted where a link leads."""
    etc, aside = tree / "etc", tree / "data" / "etc"
    etc.rename(aside)
    if kind == "link":
        etc.symlink_to("data/etc")
    try:
        result = sh(tree, "cat /etc/motd", env_vars={"ZYGOTE": f"without etc: {kind}"})
    finally:
        etc.unlink(missing_ok=True)
        aside.rename(etc)
    assert result.stdout == (b"of the tree\n" if kind == "link" else b"")


OVER_OVERLAYS = """
import ctypes, os, sys
import simulate
from pysandpool import Sandbox, SandboxConfig

simulate.own_mounts()
mount, tree, lower = ctypes.CDLL(None, use_errno=True).mount, sys.argv[1], sys.argv[2]
for _ in range(2):  # as deep as the kernel allows
    options = f"lowerdir={tree}:{lower}".encode()
    assert mount(b"overlay", tree.encode(), b"overlay", 0, options) == 0, os.strerror(ctypes.get_errno())
with Sandbox(SandboxConfig(rootfs=tree)) as sandbox:
    print(sandbox.execute(["/bin/sh", "-c", "id -un; ls /etc"]).check().stdout.decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount an overlay of a tree that others own")
def test_where_no_overlay_can_be_mounted(tree: Path, tmp_path: Path) -> None:
    """Files that exist are covered, and the others are not there."""
    done = run_script(OVER_OVERLAYS, str(tree), str(tmp_path))
    assert (done.stdout.split(), done.stderr) == (["sandbox", "motd", "passwd"], "")


def test_the_locale_is_c_where_the_tree_has_no_other(tree: Path) -> None:
    """Perl and bash complain about a locale that is missing."""
    assert sh(tree, "echo $LANG $LC_CTYPE", env_vars={"ZYGOTE": "C"}).stdout == b"C\n"
    (tree / "usr/lib/locale/C.utf8").mkdir(parents=True)
    try:
        assert sh(tree, "echo $LANG $LC_CTYPE", env_vars={"ZYGOTE": "UTF-8"}).stdout == b"C C.UTF-8\n"
    finally:
        shutil.rmtree(tree / "usr/lib/locale")


def test_links_in_the_tree_stay_in_it(tree: Path) -> None:
    (tree / "out").symlink_to("/etc/hostname")
    (tree / "up").symlink_to("../../../../../../etc/motd")
    try:
        result = sh(tree, "cat /out; cat /up")
        assert result.stdout == b"of the tree\n"
    finally:
        (tree / "out").unlink()
        (tree / "up").unlink()


@pytest.mark.parametrize("name", ["proc", "tmp", "dev"])
@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_a_mount_point_that_is_none(tree: Path, name: str, kind: str) -> None:
    (tree / name).rmdir()
    try:
        if kind == "file":
            (tree / name).touch()
        elif kind == "link":
            (tree / name).symlink_to("data")
        with pytest.raises(SandboxCreateError) as refused:
            # Not the zygote of the tests above, which has its root already.
            sh(tree, "true", env_vars={"ZYGOTE": "of its own"})
    finally:
        if kind != "missing":
            (tree / name).unlink()
        (tree / name).mkdir()
    assert (refused.value.stage, refused.value.errno) == (
        "rootfs",
        errno.ENOENT if kind == "missing" else errno.ENOTDIR,
    )
    assert name in str(refused.value)
    assert "mkdir" in refused.value.hint


def test_a_rootfs_that_is_none(tree: Path, host_dir: Path) -> None:
    (host_dir / "link").symlink_to("/")
    wrong = {tree / "static.c": errno.ENOTDIR, tree / "none": errno.ENOENT, host_dir / "link": errno.EINVAL}
    for path, err in wrong.items():
        with pytest.raises(SandboxCreateError) as refused:
            sh(path, "true")
        assert (refused.value.stage, refused.value.errno) == ("rootfs", err)
        assert str(path) in str(refused.value)
        assert refused.value.hint


@pytest.mark.parametrize("value", ["relative", "/", "/tmp", "/proc/1/root", "", "/a\0b"])
def test_bad_values(value: str) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(rootfs=value)
    assert (refused.value.field, refused.value.value) == ("rootfs", value)


@pytest.mark.parametrize("writable", ["/srv/tree", "/srv", "/srv/tree/usr"])
def test_no_tenant_writes_the_tree(writable: str) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(rootfs="/srv/tree", fs_readwrite=[writable])
    assert (refused.value.field, refused.value.value) == ("fs_readwrite", writable)
    assert SandboxConfig(rootfs="/srv/tree", fs_readwrite=["/srv/tree2"]).rootfs == "/srv/tree"


def test_a_pool_of_it(tree: Path) -> None:
    with SandboxPool(SandboxConfig(rootfs=tree), PoolConfig(min_size=2)) as pool:
        for _ in range(4):
            with pool.acquire() as sandbox:
                assert sandbox.execute(["static"]).check().stdout == b"static\n"
