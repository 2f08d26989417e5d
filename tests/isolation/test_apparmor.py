"""The AppArmor profile of the hints, read by the parser of a Debian that has AppArmor 4. No kernel here enforces it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pysandpool._backend import forbidden

pytestmark = pytest.mark.extended

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# With lists and a cache of its own; the libraries come with it, so that it runs on an older Debian.
FETCH = f"""
mkdir -p apt/lists/partial apt/cache/archives/partial
echo 'deb [signed-by={KEYRING}] http://deb.debian.org/debian trixie main' > apt/sources.list
apt="-o Dir::Etc::sourcelist=$PWD/apt/sources.list -o Dir::Etc::sourceparts=-"
apt="$apt -o Dir::State::lists=$PWD/apt/lists -o Dir::Cache=$PWD/apt/cache"
apt-get $apt update
apt-get $apt download apparmor libapparmor1 libc6
for one in *.deb; do dpkg -x $one root; done
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debian")
    done = subprocess.run(["sh", "-ec", FETCH], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"AppArmor 4 of Debian 13 cannot be fetched: {done.stderr[-300:]}")
    return folder / "root"


def parse(debian: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What the parser says of a profile, which it loads into no kernel."""
    [loader] = debian.glob("usr/lib64/ld-linux-*.so.*")
    [libraries] = debian.glob("usr/lib/*-linux-gnu")
    command: list[str | Path] = [loader, "--library-path", libraries, debian / "usr/sbin/apparmor_parser"]
    command += ["--skip-kernel-load", "--skip-cache", "--base", debian / "etc/apparmor.d", "--names"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["plain", "a [b] {c} ?*^@"])
def test_the_parser_takes_the_profile(debian: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forbidden, "PROGRAMS", tmp_path / name)
    done = parse(debian, forbidden.apparmor_text())
    assert (done.returncode, done.stdout) == (0, "pysandpool\n"), done.stderr
    broken = parse(debian, forbidden.apparmor_text().replace("userns,", "users,"))
    assert broken.returncode != 0
