"""Units of systemd: which of the settings that harden a unit forbid sandboxes, and that the hint takes them back."""

from __future__ import annotations

import re

import oci
import pytest
import systemd

from pysandpool._backend.engines import SECCOMP
from pysandpool._backend.forbidden import _OF_UNITS

pytestmark = [pytest.mark.extended, pytest.mark.skipif(bool(systemd.missing()), reason=systemd.missing())]

CALLS = "SystemCallFilter=@system-service"
FORBIDDING = {
    "RestrictNamespaces": ["RestrictNamespaces=yes"],
    "SystemCallFilter, killing": [CALLS],
    "SystemCallFilter, with an errno": [
        CALLS,
        "SystemCallErrorNumber=EPERM",
        "SystemCallFilter=~@privileged @resources",
    ],
    "SystemCallFilter, by a list of what is denied": ["SystemCallFilter=~@mount"],
    "all of them": ["RestrictNamespaces=yes", CALLS, "ProtectHostname=yes", "NoNewPrivileges=yes"],
}
# What `systemd-analyze security` asks for besides.
HARDENED = [
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=read-only"),
    *("PrivateTmp=yes", "PrivateNetwork=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes", "RestrictRealtime=yes"),
    *("MemoryDenyWriteExecute=yes", "ProtectKernelTunables=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes"),
    *("ProtectControlGroups=yes", "ProtectProc=invisible", "ProcSubset=pid", "ProtectClock=yes"),
    *("RestrictAddressFamilies=AF_UNIX", "SystemCallArchitectures=native"),
]


def test_a_plain_unit() -> None:
    found = systemd.run_doctor([])
    assert found["works"], found["error"]
    assert (found["container"], found["uid"]) == ("", 65534)


@pytest.mark.parametrize("name", FORBIDDING)
def test_a_hint_that_is_followed_brings_all(name: str) -> None:
    before = systemd.run_doctor(FORBIDDING[name])
    assert not before["works"]
    assert f"systemctl edit {systemd.UNIT}" in before["hint"]
    [fix] = before["fixes"]
    head, *settings = fix["command"].splitlines()
    assert head == "[Service]"
    after = systemd.run_doctor([*FORBIDDING[name], *settings])
    assert after["works"], after["error"]


def test_unix_sockets_are_needed() -> None:
    before = systemd.run_doctor(["RestrictAddressFamilies=AF_INET"])
    [setting] = re.findall(r"RestrictAddressFamilies=\w+", before["hint"])
    assert systemd.run_doctor(["RestrictAddressFamilies=AF_INET", setting])["works"]


def test_the_recipe_of_the_page_and_all_that_may_stay() -> None:
    page = (oci.ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    [recipe] = re.findall(r'^```ini title="systemctl edit .*"\n\[Service\]\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    assert recipe.splitlines() == list(_OF_UNITS[SECCOMP])
    found = systemd.run_doctor([*HARDENED, *recipe.splitlines()])
    assert found["works"], found["error"]
    assert found["container"] == ""
    [stay] = re.findall(r"All else may stay: (.*?) and the\s+like", page, re.DOTALL)
    assert {one.partition("=")[0] for one in HARDENED} >= set(re.findall(r"\w+(?==)", stay)) - {"User"}
