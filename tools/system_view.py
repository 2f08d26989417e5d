#!/usr/bin/env python3
"""Writes docs/system-view.md: which paths of /etc and /var a sandbox is shown, and why others are not.

    tools/system_view.py               write the page
    tools/system_view.py --check       change nothing; exit 1 if the page is not as it would be written
    tools/system_view.py --installed   print what the installed packages of Debian have in /etc, and whether it is shown
    tools/system_view.py --contents F  the same for all packages in a Contents file of a Debian archive (plain or .gz)
    tools/system_view.py --links       print which links of /usr lead to files outside of it that are not shown

The table of what is shown is csrc/zygote/installed.h. What is not shown, and why, is written down here.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import os
import pathlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "system-view.md"
TABLE = ROOT / "csrc" / "zygote" / "installed.h"

USR = pathlib.Path("/usr")

# Shown before the table is read: see csrc/zygote/view.c.
ALWAYS = {
    "/etc/alternatives": "links to the chosen one of several programs; mounted",
    "/etc/ca-certificates": "certificates; mounted",
    "/etc/ld-musl-*": "where musl looks for libraries",
    "/etc/ld.so.cache": "where glibc looks for libraries",
    "/etc/localtime": "the time zone",
    "/etc/pki/ca-trust/extracted": "certificates; mounted",
    "/etc/pki/tls/certs": "certificates; mounted",
    "/etc/ssl/certs": "certificates; mounted",
}
MADE_UP = {
    "/etc/group": "the group of the sandbox",
    "/etc/hosts": "localhost and the sandbox's own name; in the host's network its names too",
    "/etc/nsswitch.conf": "names are looked up in files and DNS; in the host's network the host's file",
    "/etc/passwd": "the user of the sandbox",
    "/etc/resolv.conf": "only in the host's network, and then the host's file",
}
# The first pattern that matches a path gives the reason.
LEFT_OUT = {
    "/etc/*shadow*": "secret: passwords",
    "/etc/ssh": "secret: keys of the host",
    "/etc/ssl/private": "secret: keys",
    "/etc/pki": "secret: keys are beside the certificates",
    "/etc/maven": "secret: settings.xml has passwords of repositories; what starts Maven is shown",
    "/etc/npmrc": "secret: tokens of registries",
    "/etc/pip.conf": "secret: passwords of package indexes",
    "/etc/gemrc": "secret: passwords of package sources",
    "/etc/gitconfig": "secret: credentials; tells of the host",
    "/etc/mercurial": "secret: credentials",
    "/etc/subversion": "secret: credentials",
    "/etc/wgetrc": "secret: passwords of proxies",
    "/etc/curlrc": "secret: passwords of proxies",
    "/etc/jupyter": "secret: tokens",
    "/etc/apt": "secret: passwords of archives",
    "/etc/environment": "secret: variables of services",
    "/etc/environment.d": "secret: variables of services",
    "/etc/default": "secret: variables of services",
    "/etc/sysconfig": "secret: variables of services",
    "/etc/profile*": "secret: variables of users",
    "/etc/*bashrc": "secret: variables of users",
    "/etc/odbc*.ini": "secret: passwords of databases",
    "/etc/openmpi": "tells of the host: names of the cluster's machines",
    "/etc/postgresql*": "secret: a server's users",
    "/etc/mysql": "secret: a server's passwords",
    "/etc/redis": "secret: a server's password",
    "/etc/machine-id": "tells of the host",
    "/etc/hostname": "tells of the host",
    "/etc/host*": "tells of the host: its names and who may reach it",
    "/etc/networks": "tells of the host: its networks",
    "/etc/network*": "tells of the host: its networks",
    "/etc/fstab": "tells of the host: its disks",
    "/etc/*tab": "tells of the host: its disks and jobs",
    "/etc/sub[ug]id": "tells of the host: its users",
    "/etc/passwd-": "tells of the host: its users",
    "/etc/group-": "tells of the host: its users",
    "/etc/cron*": "tells of the host: its jobs",
    "/etc/systemd": "tells of the host: its services",
    "/etc/init*": "tells of the host: its services",
    "/etc/rc*": "tells of the host: its services",
    "/etc/pam*": "of no use: nobody logs in inside",
    "/etc/security": "of no use: nobody logs in inside",
    "/etc/ld.so.conf*": "of no use: the cache is shown",
}
OTHERWISE = "of no use to a program inside, or not looked at yet: show it by fs_readonly"

HEAD = """# System view

Programs keep data outside of `/usr`, too. A sandbox is shown the paths of these tables, if the host has them,
read-only. `tools/system_view.py` writes this page; `tools/system_view.py --installed` applies it to the packages of a
Debian system. Show any other path with `fs_readonly`.

A path is shown if an installed program does not work without it, and nobody would put a secret or the host's identity
there. Only files that any user may read are copied; directories named `fpm`, `apache2`, `pool.d` and `private` are left
out everywhere. Links are kept where they work inside; of other links the file that they lead to is copied. Copies are
made when a pool is opened: a change on the host is seen by pools that are opened later.
"""


def shown() -> dict[str, str]:
    """The paths of the table, and what each belongs to."""
    text = TABLE.read_text(encoding="utf-8")
    mounted, copied = text.split("#define SP_COPIED")
    rows = re.compile(r'X\("([^"]+)",\s*"([^"]+)"\)')
    found = {path: f"{what}; mounted" for path, what in rows.findall(mounted)}
    return {**found, **dict(rows.findall(copied))}


def page() -> str:
    """The text of the page."""
    return "\n".join(
        [
            HEAD,
            "## Shown\n",
            *_rows("what it belongs to", {**ALWAYS, **shown()}),
            "\n## Made up\n",
            *_rows("what it says", MADE_UP),
            "\n## Left out\n",
            *_rows("why", LEFT_OUT),
            f"| all others | {OTHERWISE} |",
            "",
        ]
    )


def _rows(title: str, table: dict[str, str]) -> Iterator[str]:
    yield f"| path | {title} |"
    yield "|---|---|"
    for path in table if table is LEFT_OUT else sorted(table):
        yield f"| `{path}` | {table[path]} |"


def verdict(path: str) -> tuple[str, str]:
    """(the entry of the table that decides about `path`, the verdict)."""
    for table, word in ((MADE_UP, "made up"), ({**ALWAYS, **shown()}, "shown"), (LEFT_OUT, "left out")):
        for pattern, why in table.items():
            if (
                fnmatch.fnmatch(path, pattern)
                or path.startswith(pattern + "/")
                or fnmatch.fnmatch(path, pattern + "/*")
            ):
                return pattern, f"{word}: {why}"
    return "/".join(path.split("/")[:3]), f"left out: {OTHERWISE}"


def installed() -> Iterator[tuple[str, str]]:
    """(path, package) of the files in /etc that dpkg knows."""
    for name in sorted(pathlib.Path("/var/lib/dpkg/info").glob("*.list")):
        for path in name.read_text(encoding="utf-8").splitlines():
            if path.startswith("/etc/"):
                yield path, name.stem.split(":")[0]


def contents(name: str) -> Iterator[tuple[str, str]]:
    """The same for a Contents file, whose lines are "etc/php/8.2/cli/php.ini  php/php8.2-cli,..."."""
    data = pathlib.Path(name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode(encoding="utf-8")
    for line in text.splitlines():
        path, _, packages = line.strip().rpartition(" ")
        if path.startswith("etc/"):
            yield "/" + path.strip(), packages.split(",")[0].rpartition("/")[2]


def hidden_links(top: pathlib.Path) -> Iterator[tuple[str, str]]:
    """(what a link below `top` leads to, the link), for links that work on the host and not in a sandbox."""
    for folder, folders, files in os.walk(top):
        for link in (pathlib.Path(folder, name) for name in sorted(folders + files)):
            target = os.path.normpath(link.parent / os.readlink(link)) if link.is_symlink() else ""
            outside = target.startswith(("/etc/", "/var/", "/opt/", "/srv/")) and link.exists()
            if outside and not verdict(target)[1].startswith("shown"):
                yield target, str(link)


def report(files: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line for each entry that decides about some of the files."""
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path, package in files:
        groups[verdict(path)].add(package)
    for (pattern, text), packages in sorted(groups.items()):
        some = ", ".join(sorted(packages)[:3]) + (", ..." if len(packages) > 3 else "")
        yield f"{pattern}\t{text}\t{some}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--installed", action="store_true")
    parser.add_argument("--contents")
    parser.add_argument("--links", action="store_true")
    args = parser.parse_args()
    if args.installed or args.contents:
        print("\n".join(report(contents(args.contents) if args.contents else installed())))
        return 0
    if args.links:
        print("\n".join(f"{target}\t{verdict(target)[1]}\t{link}" for target, link in hidden_links(USR)))
        return 0
    if args.check:
        return 0 if PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
