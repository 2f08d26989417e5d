"""A tenant has no more of the machine than an ordinary process, whatever its host was given."""

from __future__ import annotations

import json
import os
import sys

import pytest
from scripts import run_script

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux lets processes inherit")

SCRIPT = """
import contextlib, ctypes, json, os, subprocess, sys
from pysandpool import NamespaceDegradation, SandboxConfig, SandboxPool

user, tier, oom, has_more = json.loads(sys.argv[1])
libc = ctypes.CDLL(None)
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}[os.uname().machine]
LOOK = ["/usr/bin/python3", "-c", '''
import ctypes, json, os
libc = ctypes.CDLL(None)
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
found = {"policy": os.sched_getscheduler(0), "niceness": os.getpriority(os.PRIO_PROCESS, 0)}
found |= {"io": libc.syscall(IOPRIO_GET, 1, 0), "personality": libc.personality(0xffffffff), "oom": 0}
try:
    with open("/proc/self/oom_score_adj") as file:
        found["oom"] = int(file.read())
except PermissionError:  # the Landlock tier shows none
    pass
print(json.dumps(found))
''']
with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
    file.write(str(oom))
if not has_more:
    os.nice(7)
elif os.geteuid() == 0:
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    libc.syscall(IOPRIO_SET, 1, 0, 1 << 13 | 4)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
if has_more:
    libc.personality(0x40000)
if user is not None and os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
fields = {}
if tier == "landlock":
    os.environ["PYSANDPOOL_TIER"] = tier
    fields["namespace_degradation"] = NamespaceDegradation.ALLOW_DEGRADATION
host = subprocess.run(LOOK, stdout=subprocess.PIPE, check=True).stdout
with SandboxPool(SandboxConfig(**fields)) as pool, pool.acquire() as lease:
    tenant = lease.execute(LOOK).check().stdout
print(json.dumps([json.loads(host), json.loads(tenant)]))
"""


def host_and_tenant(user: int | None, tier: str, oom: int, *, has_more: bool) -> tuple[dict[str, int], dict[str, int]]:
    done = run_script(SCRIPT, json.dumps([user, tier, oom, has_more]))
    assert (done.returncode, done.stderr) == (0, "")
    host, tenant = json.loads(done.stdout)
    return host, tenant


@pytest.mark.parametrize("user", [None, 65534])
@pytest.mark.parametrize("tier", ["full", "landlock"])
def test_a_tenant_inherits_no_more_than_an_ordinary_process_has(user: int | None, tier: str) -> None:
    """Neither real-time scheduling, with which it would keep others from every processor, nor addresses that are known.

    Only a host with CAP_SYS_RESOURCE has the oom_score_adj that it is given here.
    """
    host, tenant = host_and_tenant(user, tier, -1000, has_more=True)
    assert host["personality"] == 0x40000, "the control"
    if os.geteuid() == 0:
        assert (host["policy"], host["niceness"], host["io"]) == (os.SCHED_RR, -5, 1 << 13 | 4), "the control"
    assert tenant == {"policy": os.SCHED_OTHER, "niceness": 0, "io": 0, "personality": 0, "oom": 0}


def test_what_is_less_stays() -> None:
    """A host that is nice, and that the kernel may end early, has such tenants."""
    host, tenant = host_and_tenant(None, "full", 300, has_more=False)
    assert (tenant["niceness"], tenant["oom"]) == (host["niceness"], host["oom"]) == (7, 300)
