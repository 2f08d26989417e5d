"""tools/system_view.py: the page of what is shown of /etc and /var is that of the table in csrc/zygote/installed.h."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import system_view  # noqa: E402


def test_the_page_is_as_the_tool_writes_it() -> None:
    assert system_view.PAGE.read_text(encoding="utf-8") == system_view.page(), "run tools/system_view.py"


def test_the_table_is_read() -> None:
    shown = system_view.shown()
    assert {"/etc/R", "/etc/php", "/etc/os-release", "/var/lib/ghc", "/nix/store", "/etc/java-*"} <= set(shown)
    table = system_view.TABLE.read_text(encoding="utf-8")
    assert len(shown) == table.count('X("'), "no row is missed, and none is there twice"


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/etc/R/Renviron", "shown"),
        ("/etc/java-17-openjdk/net.properties", "shown"),
        ("/etc/maven/m2.conf", "shown"),
        ("/etc/maven/settings.xml", "left out: secret"),
        ("/etc/hosts", "made up"),
        ("/etc/hosts.allow", "left out: tells of the host"),
        ("/etc/machine-id", "left out: tells of the host"),
        ("/etc/ssl/private/key.pem", "left out: secret"),
        ("/etc/strange/file", "left out: of no use"),
    ],
)
def test_verdicts(path: str, word: str) -> None:
    assert system_view.verdict(path)[1].startswith(word)


def test_a_contents_file(tmp_path: Path) -> None:
    (tmp_path / "Contents").write_text("etc/php/8.2/cli/php.ini  php/php8.2-cli,php/other\nusr/bin/php  php/php\n")
    run = [sys.executable, str(ROOT / "tools" / "system_view.py"), "--contents", str(tmp_path / "Contents")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/etc/php\tshown: PHP")
    assert done.stdout.endswith("\tphp8.2-cli\n")


def test_links_that_lead_to_what_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "shown").symlink_to("/etc/os-release")
    (tmp_path / "dangling").symlink_to("/etc/none-of-that-name")
    (tmp_path / "inside").symlink_to("shown")
    (tmp_path / "hidden").symlink_to("../../../../../../../../etc/shells")
    found = list(system_view.hidden_links(tmp_path))
    assert found == ([("/etc/shells", str(tmp_path / "hidden"))] if Path("/etc/shells").exists() else [])
