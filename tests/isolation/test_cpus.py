"""/sys/devices/system/cpu: programs see which processors there are, and no counters of what others do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pysandpool import PooledSandbox, Sandbox, SandboxConfig

CPUS = Path("/sys/devices/system/cpu")
VALUES = re.compile(
    r"(kernel_max|offline|online|possible|present)"
    r"|cpu\d+/(online|cpu_capacity)"
    r"|cpu\d+/topology/(cluster|core|die|package|physical_package|thread)_(id|cpus|cpus_list|siblings|siblings_list)"
    r"|cpu\d+/cache/index\d+/(coherency_line_size|id|level|number_of_sets|physical_line_partition|shared_cpu_list"
    r"|shared_cpu_map|size|type|ways_of_associativity)"
)

pytestmark = pytest.mark.skipif(not CPUS.exists(), reason="this host shows no /sys")


def sh(sandbox: PooledSandbox, script: str) -> str:
    return sandbox.execute(["/bin/sh", "-c", script]).check().stdout.decode()


def test_only_values_about_processors_are_shown(sandbox: PooledSandbox) -> None:
    found = sh(sandbox, "cd /sys; find . ! -type d").split()
    names = [path.removeprefix("./devices/system/cpu/") for path in found]
    assert [name for name in names if not VALUES.fullmatch(name)] == []
    assert {"online", "possible", "cpu0/topology/core_id"} <= set(names)
    host = {str(path.relative_to(CPUS)) for path in CPUS.rglob("*")}
    assert [name for name in host if not VALUES.fullmatch(name)], "control: the host has more"


def test_the_values_are_those_of_the_host(sandbox: PooledSandbox) -> None:
    lines = sh(sandbox, f"cd {CPUS}; for f in $(find . -type f); do echo $f $(cat $f); done").splitlines()
    for line in lines:
        name, _, value = line.partition(" ")
        assert value == " ".join((CPUS / name).read_text().split()), name
    shown = {line.split()[0].removeprefix("./") for line in lines}
    for path in CPUS.rglob("*"):
        name = str(path.relative_to(CPUS))
        if VALUES.fullmatch(name) and path.is_file() and os.access(path, os.R_OK) and path.stat().st_mode & 0o004:
            assert name in shown


@pytest.mark.skipif(shutil.which("lscpu") is None, reason="there is no lscpu here")
def test_lscpu(sandbox: PooledSandbox) -> None:
    command = ["lscpu", "-e=CPU,CORE,SOCKET,CACHE,ONLINE"]
    outside = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C", **os.environ})
    assert sandbox.execute(command).check().stdout.decode() == outside.stdout


def test_nothing_of_it_can_be_written(sandbox: PooledSandbox) -> None:
    result = sandbox.execute(["/bin/sh", "-c", f"cd {CPUS}; echo 0 > online; echo 0 > new; chmod 666 online; mkdir d"])
    assert result.stderr.count(b"Read-only file system") == 4
    assert "nosuid,nodev" in sh(sandbox, "grep -m 1 ' / / ' /proc/self/mountinfo")


def test_the_path_may_be_configured_and_no_other_below_sys() -> None:
    with Sandbox(SandboxConfig(fs_readonly=[CPUS])) as sandbox:
        assert sandbox.execute(["/usr/bin/test", "-e", f"{CPUS}/cpuidle"]).exit_code == 1
        assert sandbox.execute(["/usr/bin/test", "-e", f"{CPUS}/online"]).exit_code == 0
