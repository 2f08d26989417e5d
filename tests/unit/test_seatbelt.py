"""Profiles of Seatbelt: as texts, which are the same on every system."""

from __future__ import annotations

import errno
import multiprocessing
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pysandpool import Bind, NamespaceDegradation, SandboxConfig, SandboxCreateError, SeccompProfile
from pysandpool._backend.macos import resolved
from pysandpool._backend.seatbelt import canonical, quoted, refused, seatbelt_profile

GOLDEN = Path(__file__).parent / "golden"
AGENT = "/opt/py/pysandpool/_bin/sandpool-agent"
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "paths": {
        "fs_readonly": ["/Users/ann/data", "/Users/ann/out/fixed", "/tmp/in"],
        "fs_readwrite": ["/Users/ann/out", '/Users/ann/o"d) (allow default) ("/\\x'],
    },
    "network": {"deny_network": False, "seccomp_profile": SeccompProfile.NETWORK, "allow_unix_sockets": True},
}
TOKEN = re.compile(r'\s+|(?P<open>\()|(?P<close>\))|(?P<string>"(?:[^"\\]|\\["\\])*")|(?P<word>[a-z0-9*_-]+)', re.I)
Tree = list[Any]


def parsed(text: str) -> Tree:
    """The profile as nested lists; a string is a tuple of one, unescaped. Fails on whatever is no whole token."""
    stack: list[Tree] = [[]]
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, f"no token at {text[at : at + 40]!r}"
        at = match.end()
        if match["open"]:
            stack.append([])
        elif match["close"]:
            assert len(stack) > 1, "one parenthesis too many"
            done = stack.pop()
            stack[-1].append(done)
        elif match["string"]:
            stack[-1].append((re.sub(r"\\(.)", r"\1", match["string"][1:-1]),))
        elif match["word"]:
            stack[-1].append(match["word"])
    assert len(stack) == 1, "a parenthesis is open"
    return stack[0]


def rules(text: str) -> Tree:
    """All rules; each has words of operations, then filters, and no path that is not a string."""
    found = parsed(text)
    assert found[:2] == [["version", "1"], ["deny", "default"]]
    for rule in found[1:]:
        assert rule[0] in ("allow", "deny"), rule
        for part in rule[1:]:
            assert isinstance(part, (str, list)), f"a string outside a filter: {rule}"
    return found


def paths_of(text: str, operation: str) -> set[str]:
    """The subpaths that an operation is allowed for."""
    return {
        part[1][0]
        for rule in rules(text)[2:]
        if rule[0] == "allow" and operation in rule
        for part in rule[1:]
        if isinstance(part, list) and part[0] == "subpath" and isinstance(part[1], tuple)
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_golden(name: str) -> None:
    text = seatbelt_profile(SandboxConfig(**CONFIGS[name]), AGENT)
    rules(text)
    assert text == (GOLDEN / f"seatbelt_{name}.sb").read_text(encoding="utf-8")


# What published profiles use; pysandpool/_backend/seatbelt.py names them.
OPERATIONS = {
    *("default", "process-fork", "process-exec*", "process-info*", "signal", "nvram*", "iokit-get-properties"),
    *("ipc-posix-sem", "sysctl-read", "mach-lookup", "file-read*", "file-read-metadata", "file-write*"),
    *("file-write-data", "file-write-setugid", "file-ioctl"),
    *("network-bind", "network-inbound", "network-outbound", "system-socket"),
}
FILTERS = {
    *("target", "ipc-posix-name-prefix", "sysctl-name", "sysctl-name-prefix", "global-name"),
    *("literal", "subpath", "path-ancestors", "local", "remote", "socket-domain"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_only_what_others_are_known_to_use(name: str) -> None:
    """A word that Seatbelt does not know makes the whole profile void, and no test here can tell."""
    for rule in rules(seatbelt_profile(SandboxConfig(**CONFIGS[name]), AGENT))[1:]:
        assert {part for part in rule[1:] if isinstance(part, str)} <= OPERATIONS, rule
        assert {part[0] for part in rule[1:] if isinstance(part, list)} <= FILTERS, rule


def test_semaphores_are_those_of_multiprocessing() -> None:
    name = multiprocessing.get_context("spawn").Lock()._semlock.name  # type: ignore[attr-defined]
    [rule] = [rule for rule in rules(seatbelt_profile(SandboxConfig(), AGENT)) if "ipc-posix-sem" in rule]
    assert rule == ["allow", "ipc-posix-sem", ["ipc-posix-name-prefix", ("/mp-",)]]
    assert name.startswith("/mp-")


def test_nothing_but_what_was_asked_for_is_writable() -> None:
    config = SandboxConfig(**CONFIGS["paths"])
    assert paths_of(seatbelt_profile(SandboxConfig(), AGENT), "file-write*") == set()
    assert paths_of(seatbelt_profile(config, AGENT), "file-write*") == set(config.fs_readwrite)


def test_the_longest_path_is_in_force() -> None:
    """The last rule that fits counts: what is read-only in a writable directory is closed behind it."""
    text = seatbelt_profile(SandboxConfig(**CONFIGS["paths"]), AGENT)
    opens = text.index('(allow file-read* file-write* (subpath "/Users/ann/out"))')
    assert opens < text.index('(deny file-write* (subpath "/Users/ann/out/fixed"))')


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/tmp/x", "/private/tmp/x"),
        ("/var", "/private/var"),
        ("/etc/ssl", "/private/etc/ssl"),
        ("/variable", "/variable"),
        ("/private/tmp/x", "/private/tmp/x"),
        ("/System/Volumes/Data/Users/ann", "/Users/ann"),
        ("/System/Volumes/Data/tmp/x", "/private/tmp/x"),
    ],
)
def test_paths_are_named_as_seatbelt_sees_them(path: str, seen: str) -> None:
    assert canonical(path) == seen


HOSTILE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)


@settings(deadline=None)  # the machine may be slow
@given(HOSTILE, HOSTILE)
def test_a_hostile_path_stays_one_string(first: str, second: str) -> None:
    path = f"/h/{first}"
    config = SandboxConfig(fs_readonly=[path], fs_readwrite=[f"/w/{second}"])
    text = seatbelt_profile(config, AGENT)
    assert paths_of(text, "file-write*") == {canonical(one) for one in config.fs_readwrite}
    plain = [rule[0] for rule in rules(seatbelt_profile(SandboxConfig(), AGENT))]
    assert len(rules(text)) == len(plain) + 3, "one rule for each path, and one that closes the first"


def has_no_spelling(text: str) -> bool:
    return any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in text)


@settings(deadline=None)  # the machine may be slow
@given(st.text())
def test_quoting_reads_back_or_refuses(text: str) -> None:
    if has_no_spelling(text):
        with pytest.raises(SandboxCreateError, match="rename it"):
            quoted(text)
    else:
        assert parsed(quoted(text)) == [(text,)]


@pytest.mark.parametrize("bad", ["a\nb", "a\tb", "a\rb", "a\x7f", "a\x01"])
def test_control_characters_are_refused(bad: str) -> None:
    with pytest.raises(SandboxCreateError, match="rename it"):
        seatbelt_profile(SandboxConfig(fs_readonly=[f"/h/{bad}"]), AGENT)


@pytest.mark.parametrize(
    "fields", [{"memory_limit_mb": 100}, {"max_processes": 7}, {"cpu_quota_us": 50_000}, {"cgroup_parent": "/c"}]
)
def test_a_limit_that_was_asked_for_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SandboxCreateError, match=next(iter(fields))) as caught:
        seatbelt_profile(SandboxConfig(**fields), AGENT)
    assert (caught.value.errno, caught.value.stage) == (errno.ENOTSUP, "seatbelt")
    degraded = SandboxConfig(**fields, namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)
    assert refused(degraded) == []


@pytest.mark.parametrize(
    "fields",
    [
        *({"rootfs": "/r"}, {"network": "loopback"}, {"allow_fork": False}, {"scratch_dirs": ["/work"]}),
        {"binds": [Bind("/h/one", "/h/other")]},
    ],
)
def test_what_cannot_be_is_refused_in_any_case(fields: dict[str, Any]) -> None:
    """And the hint does not send anybody to a degradation that would change nothing."""
    config = SandboxConfig(**fields, namespace_degradation=NamespaceDegradation.ALLOW_DEGRADATION)
    with pytest.raises(SandboxCreateError, match=next(iter(fields))) as caught:
        seatbelt_profile(config, AGENT)
    assert "leave it at its default" in caught.value.hint
    assert "ALLOW_DEGRADATION" not in caught.value.hint


def test_links_of_every_shown_path_are_resolved(tmp_path: Path) -> None:
    """A rule of Seatbelt for the name of a link covers nothing behind it."""
    real = tmp_path / "real"
    for name in ("list", "write", "bind", "bind-write"):
        (real / name).mkdir(parents=True)
        (tmp_path / name).symlink_to(real / name)
    binds = [Bind(tmp_path / "bind"), Bind(tmp_path / "bind-write", readonly=False)]
    config = SandboxConfig(fs_readonly=[tmp_path / "list"], fs_readwrite=[tmp_path / "write"], binds=binds)
    found = resolved(config)
    assert found.fs_readonly == (f"{real}/list", f"{real}/bind")
    assert found.fs_readwrite == (f"{real}/write", f"{real}/bind-write")
    assert found.binds == ()
    with pytest.raises(SandboxCreateError, match="missing") as caught:
        resolved(SandboxConfig(binds=[Bind(tmp_path / "missing")]))
    assert (caught.value.stage, caught.value.errno) == ("bind", errno.ENOENT)
