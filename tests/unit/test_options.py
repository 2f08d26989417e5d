"""The options of `pysandpool run`, and the configuration that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from pysandpool import Bind, InvalidSandboxConfigError, NamespaceDegradation, SandboxConfig, SeccompProfile
from pysandpool.cli.main import parser_of_all
from pysandpool.cli.options import config_of

HOST = {"network": "host", "deny_network": False, "seccomp_profile": SeccompProfile.NETWORK}


def parsed(*words: str) -> Any:
    return parser_of_all().parse_args(["run", *words, "--", "true"])


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ([], {}),
        (["--timeout", "2.5"], {"timeout_secs": 2.5}),
        (["--timeout", "inf"], {"timeout_secs": None}),
        (["--memory", "64"], {"memory_limit_mb": 64}),
        (["--memory-limit-mb", "64"], {"memory_limit_mb": 64}),
        (["--memory=inf", "--max-processes=inf"], {"memory_limit_mb": None, "max_processes": None}),
        (["--max-processes", "5"], {"max_processes": 5}),
        (["--scratch", "8"], {"scratch_size_mb": 8}),
        (["--scratch-size-mb", "inf"], {"scratch_size_mb": None}),
        (["--max-output-bytes", "0"], {"max_output_bytes": 0}),
        (["--rootfs", "/srv/root"], {"rootfs": "/srv/root"}),
        (["--network", "none"], {"network": "none"}),
        (["--network", "loopback"], {"network": "loopback"}),
        (["--network", "host"], HOST),
        (["--python"], {"fs_python": True}),
        (["--unix-sockets"], {"allow_unix_sockets": True}),
        (["--allow-degradation"], {"namespace_degradation": NamespaceDegradation.ALLOW_DEGRADATION}),
        (["--env", "A=1", "--env", "B=", "--env=C=x=y"], {"env_vars": {"A": "1", "B": "", "C": "x=y"}}),
        (
            ["--bind", "/srv/a:/a", "--bind", "here:/b:ro", "--workdir", "/a"],
            {"binds": [Bind("/srv/a", "/a", False), Bind(Path.cwd() / "here", "/b")], "workdir": "/a"},
        ),
        (
            ["--ro", "/usr/share", "--rw", "here"],
            {"fs_readonly": ["/usr/share"], "fs_readwrite": [Path.cwd() / "here"]},
        ),
    ],
)
def test_options(words: list[str], fields: dict[str, Any]) -> None:
    assert config_of(parsed(*words)) == SandboxConfig(**fields)


def test_env_without_a_value_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDPOOL_COPIED", "from here")
    assert config_of(parsed("--env", "SANDPOOL_COPIED")).env_vars == {"SANDPOOL_COPIED": "from here"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network"], "expected one argument"),
        (["--network", "bridge"], "invalid choice: 'bridge'"),
        (["--memory", "1g"], "'1g' is not a whole number, or inf"),
        (["--timeout", "soon"], "'soon' is not a number of seconds, or inf"),
        (["--env", "=x"], "'=x' is neither K=V nor"),
        (["--env", "SANDPOOL_NOT_SET"], "'SANDPOOL_NOT_SET' is neither K=V nor a variable that is set here"),
        (["--bind", "/a"], "'/a' is not SRC:DST"),
        (["--bind", "/a:/b:no"], "is not SRC:DST"),
        (["--what"], "unrecognized arguments"),
    ],
)
def test_a_wrong_command_line(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed(*words)
    assert exit_.value.code == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("words", [["--memory", "0"], ["--timeout", "-1"], ["--max-output-bytes", "-1"]])
def test_a_value_outside_its_range(words: list[str]) -> None:
    with pytest.raises(InvalidSandboxConfigError):
        config_of(parsed(*words))


def test_options_behind_the_command_are_the_commands() -> None:
    args = parser_of_all().parse_args(["run", "--json", "ls", "--memory", "1"])
    assert (args.command, args.json, args.memory_limit_mb) == (["ls", "--memory", "1"], True, None)


def test_every_option_says_what_it_does() -> None:
    (commands,) = (action for action in parser_of_all()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(commands.choices) == {"run", "shell", "bench", "doctor"}
    for name, command in commands.choices.items():
        assert command.description, name
        assert [action.dest for action in command._actions if len(action.help or "") < 10] == [], name
