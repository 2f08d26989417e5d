"""Debian's cloud kernels, one for each of its releases, with the modules that tests need; kept in build/vm.

Root is needed for none of it: apt works with lists and a cache of its own, beside those of the machine.
"""

from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "vm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHIVE = "http://deb.debian.org/debian"
RELEASES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
"""Of each kernel, the release of Debian that has it."""
# Loaded by inside.py: without the first two an attack's control has nothing to reach.
MODULES = ("vsock", "overlay", "loop")

_FETCH = """
mkdir -p apt/lists/partial apt/cache/archives/partial
printf '%s\\n' '{source}' > apt/sources.list
apt="-o Dir::Etc::sourcelist=$PWD/apt/sources.list -o Dir::Etc::sourceparts=-"
apt="$apt -o Dir::State::lists=$PWD/apt/lists -o Dir::Cache=$PWD/apt/cache"
apt-get $apt update >&2
name=$(apt-cache $apt depends linux-image-cloud-amd64 | grep -o 'linux-image-[0-9].*')
apt-get $apt download $name >&2
dpkg --fsys-tarfile ${{name}}_*.deb | tar -x ./boot --wildcards {modules}
rm -r apt ${{name}}_*.deb
"""


def needs(script: str, what: str, package: str) -> str:
    """What the script prints that installs `what`; SystemExit with the command when that does not work."""
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{what} is missing (Debian, x86_64): apt-get install {package}\n{done.stderr.strip()}")
    return done.stdout


def kernel(version: str) -> Path:
    """The kernel of that version, fetched once."""
    folder = CACHE / version
    if not list(folder.glob("boot/vmlinuz-*")) or len(_packed(version)) != len(MODULES):
        folder.mkdir(parents=True, exist_ok=True)
        fetch = _FETCH.format(
            source=f"deb [signed-by={KEYRING}] {ARCHIVE} {RELEASES[version]} main",
            modules=" ".join(f"'*/{name}.ko*'" for name in MODULES),
        )
        package = "apt dpkg debian-archive-keyring"
        needs(f"cd {folder} && {fetch}", f"what fetches Debian's kernel {version}", package)
    return max(folder.glob("boot/vmlinuz-*"))


def _packed(version: str) -> list[Path]:
    return [path for name in MODULES for path in (CACHE / version).rglob(f"{name}.ko*")]


def modules(version: str) -> dict[str, bytes]:
    """The files of MODULES, by name and unpacked."""
    return {
        path.name.partition(".")[0]: lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        for path in _packed(version)
    }
