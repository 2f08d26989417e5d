"""Hints for a command or a working directory that is missing inside: what the host has in its place."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pysandpool import CommandNotFoundError, Sandbox, SandboxConfig, SandboxError
from pysandpool._backend.python import python_paths
from pysandpool._backend.shown import End, View, open_shown

pytestmark = pytest.mark.slow  # not in `make quick`

HELLO = "#!/bin/sh\necho hello\n"


def program(path: Path, text: str = HELLO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def hint_of(*cmd: str, cwd: str | None = None, env: dict[str, str | None] | None = None, **fields: Any) -> str:
    """The hint, which the message has as well."""
    with Sandbox(SandboxConfig(**fields)) as sandbox, pytest.raises(SandboxError) as raised:
        sandbox.execute(cmd, cwd=cwd, env=env)
    assert raised.value.stage in ("exec", "cwd")
    assert not raised.value.hint or f"; hint: {raised.value.hint}" in str(raised.value)
    return raised.value.hint


# --- a path of the host -----------------------------------------------------------------------------------


def test_it_exists_on_the_host_but_is_not_shown(host_dir: Path) -> None:
    tool = program(host_dir / "tool" / "bin" / "run")
    if host_dir.is_relative_to("/tmp"):
        assert hint_of(str(tool)) == "", "the tenant has a /tmp of its own"
        return
    wanted = f"{tool} exists on the host but is not shown inside: fs_readonly=['{host_dir / 'tool'}']"
    assert hint_of(str(tool)) == wanted
    with Sandbox(SandboxConfig(fs_readonly=[host_dir / "tool"])) as sandbox:
        assert sandbox.execute([str(tool)]).check().stdout == b"hello\n", "the hint helps"


def test_private_directories_are_not_proposed(host_dir: Path) -> None:
    tool = program(host_dir / ".cargo" / "bin" / "run")
    if not host_dir.is_relative_to("/tmp"):
        assert hint_of(str(tool)).endswith(f"fs_readonly=['{tool}']")


def test_it_is_a_link_to_what_is_not_shown(host_dir: Path) -> None:
    target = program(host_dir / "far" / "bin" / "run")
    shown = host_dir / "shown"
    shown.mkdir()
    (shown / "near").symlink_to("second")
    (shown / "second").symlink_to(target)
    hint = hint_of(str(shown / "near"), fs_readonly=[shown])
    if not host_dir.is_relative_to("/tmp"):
        assert hint.startswith(f"{shown / 'second'} is a link to {target}, which is not shown inside: fs_readonly=['")
    (shown / "dangling").symlink_to("nowhere")
    assert hint_of(str(shown / "dangling"), fs_readonly=[shown]).endswith(f"{shown}/nowhere, which does not exist")


@pytest.mark.skipif(not python_paths(), reason="this Python is one of the system, which every sandbox shows")
def test_the_own_python_has_a_field() -> None:
    hint = hint_of(sys.executable)
    assert hint.endswith("fs_python=True")
    if sys.prefix != sys.base_prefix != "/usr":  # a virtual environment, whose interpreter is elsewhere
        assert hint_of(sys.executable, fs_readonly=[sys.prefix]).endswith("fs_python=True")


@pytest.mark.parametrize("writable", [False, True], ids=["readonly", "readwrite"])
def test_its_interpreter_is_missing(host_dir: Path, writable: bool) -> None:
    tool = program(host_dir / "tool", "#!/usr/bin/no-such-python -u\n")
    hint = hint_of(str(tool), **{"fs_readwrite" if writable else "fs_readonly": [host_dir]})
    end = "which does not start inside" if writable else ""
    assert "the interpreter of " in hint
    assert "/usr/bin/no-such-python" in hint
    assert hint.endswith(end)


def test_its_interpreter_is_not_shown(host_dir: Path) -> None:
    if host_dir.is_relative_to("/tmp"):
        return
    other = program(host_dir / "other" / "bin" / "python")
    tool = program(host_dir / "tool", f"#!{other}\n")
    hint = hint_of(str(tool), fs_readonly=[tool])
    assert hint.startswith(f"the interpreter of {tool} is {other}: {other} exists on the host but is not shown inside")


def test_a_script_with_line_ends_of_windows(host_dir: Path) -> None:
    tool = program(host_dir / "tool", "#!/bin/sh\r\necho hello\r\n")
    wanted = f"the interpreter of {tool} is missing: /bin/sh\\r (the script has line ends of Windows)"
    assert hint_of(str(tool), fs_readonly=[host_dir]) == wanted


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_its_loader_is_missing(host_dir: Path) -> None:
    source = host_dir / "a.c"
    source.write_text("int main(void) { return 0; }\n")
    tool = host_dir / "a"
    subprocess.run(["gcc", "-Wl,--dynamic-linker=/lib/no-such-loader.so", "-o", tool, source], check=True)
    tool.chmod(0o755)
    assert hint_of(str(tool), fs_readonly=[host_dir]) == f"the interpreter of {tool} is missing: /lib/no-such-loader.so"


def test_it_is_not_executable_or_no_program(host_dir: Path) -> None:
    text = program(host_dir / "text", "hello\n")
    assert "neither a program of this machine nor a script" in hint_of(str(text), fs_readonly=[host_dir])
    text.chmod(0o644)
    assert "is not executable: chmod +x" in hint_of(str(text), fs_readonly=[host_dir])
    assert hint_of("/usr/bin") == "/usr/bin is a directory"


# --- a name -----------------------------------------------------------------------------------------------


def test_a_similar_name_is_there(host_dir: Path) -> None:
    program(host_dir / "frobnicate3.12")
    program(host_dir / "sibling")
    env: dict[str, str | None] = {"PATH": f"/usr/bin:{host_dir}"}
    assert (
        hint_of("frobnicate", env=env, fs_readonly=[host_dir])
        == "there is no frobnicate inside, but there is frobnicate3.12"
    )
    assert hint_of("sibbling", env=env, fs_readonly=[host_dir]) == "there is no sibbling inside, but there is sibling"
    assert (
        hint_of(str(host_dir / "sibbling"), fs_readonly=[host_dir])
        == "there is no sibbling inside, but there is sibling"
    )
    assert hint_of("qqqqqqqqqqqqqqqq") == ""


def test_the_host_finds_it_in_its_own_path(host_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = program(host_dir / "tools" / "frobnicate")
    monkeypatch.setenv("PATH", f"{host_dir}/tools:{os.environ['PATH']}")
    assert hint_of("frobnicate", fs_readonly=[host_dir]).startswith(f"{tool} is shown, but its directory is not in")
    if not host_dir.is_relative_to("/tmp"):
        hint = hint_of("frobnicate")
        assert hint.startswith(f"{tool} exists on the host but is not shown inside: fs_readonly=['{tool}'], and")
        assert hint.endswith(f"'{host_dir}/tools' in the PATH of env_vars")


def test_another_version_is_named_beside_what_only_the_host_has(
    host_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host where "python" is a script of pyenv, which would not start inside even if it were shown."""
    program(host_dir / "shims" / "frobnicate")
    program(host_dir / "bin" / "frobnicate3")
    monkeypatch.setenv("PATH", f"{host_dir}/shims:{os.environ['PATH']}")
    if not host_dir.is_relative_to("/tmp"):
        hint = hint_of("frobnicate", env={"PATH": f"/usr/bin:{host_dir}/bin"}, fs_readonly=[host_dir / "bin"])
        assert hint.endswith("in the PATH of env_vars; there is frobnicate3 inside")


@pytest.mark.parametrize("word", ["cd", "export", "source"])
def test_a_word_of_the_shell_is_no_program(word: str) -> None:
    assert hint_of(word, "/tmp") == f"{word} is a word of the shell, so run a shell: ['sh', '-c', '{word} ...']"


def test_an_empty_word_is_no_command() -> None:
    assert hint_of("") == "the first word of cmd is empty"


def test_a_command_line_is_no_command() -> None:
    assert hint_of("ls -l /") == "cmd is a list of words, and no shell splits them: pass ['ls', '-l', '/']"


# --- a working directory ----------------------------------------------------------------------------------


def test_a_directory_of_the_host_as_cwd(host_dir: Path) -> None:
    hint = hint_of("/bin/pwd", cwd=str(host_dir))
    if not host_dir.is_relative_to("/tmp"):
        assert hint.startswith(f"{host_dir} exists on the host but is not shown inside: fs_readonly=['{host_dir}'], or")
    (host_dir / "link").symlink_to("/opt/nowhere")
    assert "is a link to /opt/nowhere, which does not exist" in hint_of(
        "/bin/pwd", cwd=f"{host_dir}/link", fs_readonly=[host_dir]
    )
    assert hint_of("/bin/pwd", cwd="/usr/bin/env") == "/usr/bin/env is not a directory"
    assert hint_of("/bin/pwd", cwd="nowhere") == ""


# --- what a tenant wrote ----------------------------------------------------------------------------------


def test_a_link_of_a_tenant_tells_nothing_about_the_host(host_dir: Path) -> None:
    """A control first: the same link in a read-only path, which somebody else has made, is followed."""
    secret = program(host_dir / "host" / "secret")
    shared = host_dir / "shared"
    shared.mkdir()
    (shared / "there").symlink_to(secret)
    (shared / "not").symlink_to(secret.with_name("other"))
    config = {"readonly": SandboxConfig(fs_readonly=[shared]), "readwrite": SandboxConfig(fs_readwrite=[shared])}
    ends = {name: [View(one).follow(str(shared / link)) for link in ("there", "not")] for name, one in config.items()}
    kinds = {name: {end.kind for end in found} for name, found in ends.items()}
    if not host_dir.is_relative_to("/tmp"):
        assert kinds["readonly"] == {"hidden", "absent"}
    assert kinds["readwrite"] == {"unknown"}
    assert hint_of(str(shared / "there"), fs_readwrite=[shared]) == hint_of(str(shared / "not"), fs_readwrite=[shared])


def test_an_interpreter_that_a_tenant_names_tells_nothing_about_the_host(host_dir: Path) -> None:
    secret = program(host_dir / "host" / "secret")
    shared = host_dir / "shared"
    hints = []
    for name in (str(secret), str(secret.with_name("other"))):
        tool = program(shared / "tool", f"#!{name}\n")
        hints.append(hint_of(str(tool), fs_readwrite=[shared]).replace(name, "NAME"))
    assert hints[0] == hints[1] != ""


def test_what_is_not_a_regular_file_is_not_opened(host_dir: Path) -> None:
    os.mkfifo(host_dir / "fifo")
    (host_dir / "far").mkdir()
    program(host_dir / "far" / "tool")
    (host_dir / "link").symlink_to("far")
    for below in ("fifo", "link/tool", "far", "nothing"):
        with pytest.raises(OSError, match=r"regular|directory|levels|No such"):
            open_shown(End("found", "/x", "", "", str(host_dir), below, True))
    os.close(open_shown(End("found", "/x", "", "", str(host_dir), "far/tool", True)))


def test_control_characters_of_a_tenant_do_not_reach_the_message(host_dir: Path) -> None:
    tool = program(host_dir / "tool", "#!/bin/\x1b[31mred\n")
    assert "\x1b" not in hint_of(str(tool), fs_readwrite=[host_dir])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#!",
        b"#!\n",
        b"#! \0",
        b"\x7fELF",
        b"\x7fELF\2\1" + b"\xff" * 200,
        b"\x7fELF\1\1" + b"\xff" * 200,
        b"#!" + b"a" * 9000,
    ],
    ids=["empty", "shebang", "line", "nul", "elf", "elf64", "elf32", "long"],
)
def test_a_broken_file_gives_an_error_and_no_other(host_dir: Path, content: bytes) -> None:
    tool = host_dir / "tool"
    tool.write_bytes(content)
    tool.chmod(0o755)
    with Sandbox(SandboxConfig(fs_readwrite=[host_dir])) as sandbox, pytest.raises(CommandNotFoundError) as raised:
        sandbox.execute([str(tool)])
    assert raised.value.errno in (errno.ENOEXEC, errno.ENOENT, errno.EACCES)
