"""What a tenant tries on a real Mac. Each attack first succeeds outside of the sandbox, or is no attack there at all.

Prints a table; exits with 1 when a row is not as it has to be. Run by the workflow: see README.md beside this file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from pysandpool import PoolConfig, SandboxPool

PYTHON = "/usr/bin/python3"
# name -> Python that exits with 0 when the attack works; sys.argv[1:] are a file of the host, a port, a pid outside.
ATTACKS = {
    "a file of the host is read": "open(sys.argv[1]).read()",
    "a file of the host is written": "open(sys.argv[1], 'a').write('x')",
    "it is read by the data volume's name": "open('/System/Volumes/Data' + sys.argv[1]).read()",
    "the users are listed": "os.listdir('/Users')",
    "a file is left in /tmp": "open('/tmp/sandpool-was-here', 'w')",
    "a server on the host's loopback": "socket.create_connection(('127.0.0.1', int(sys.argv[2])), 3)",
    "a name is looked up": "socket.getaddrinfo('localhost', 80); socket.create_server(('127.0.0.1', 0))",
    "a process outside is signalled": "os.kill(int(sys.argv[3]), 0)",
    "a process outside is attached to": "libc.ptrace(14, int(sys.argv[3]), 0, 0) == 0 or fail()",
    "a set-id program gains root": "'uid=0' in run('/usr/bin/at', '-l') + run('/usr/bin/su', '-c', 'id') or fail()",
    "a job is given to launchd": "must('/bin/launchctl', 'submit', '-l', 'sandpool', '--', '/usr/bin/true')",
    "an AppleEvent is sent": "must('/usr/bin/osascript', '-e', 'tell app \"Finder\" to get name')",
    "the keychain is read": "must('/usr/bin/security', 'list-keychains')",
    "shared memory is opened": "libc.shm_open(b'/sandpool', 0x202, 0o600) >= 0 or fail()",
    "a set-id file is made": "open('own', 'w'); os.chmod('own', 0o4755); os.stat('own').st_mode & 0o4000 or fail()",
}
# What has to work inside.
NEEDS = {
    "echo": ["/bin/echo", "hello"],
    "sh": ["/bin/sh", "-c", "echo x > own && cat own"],
    "python": [PYTHON, "-c", "import json, multiprocessing; multiprocessing.Lock()"],
    "git": ["/usr/bin/git", "init", "-q", "repository"],
    "clang": ["/bin/sh", "-c", "echo 'int main(void){return 0;}' > a.c && /usr/bin/clang a.c -o a && ./a"],
}
PROLOGUE = """
import ctypes, os, socket, subprocess, sys
libc = ctypes.CDLL(None)
def fail(): raise SystemExit(1)
def must(*words): subprocess.run(words, check=True)
def run(*words): return subprocess.run(words, capture_output=True, text=True).stdout
"""


def main() -> int:
    bad = 0
    server = socket.create_server(("127.0.0.1", 0))
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder, SandboxPool(None, PoolConfig(min_size=1)) as pool:
        secret = Path(folder, "secret")
        secret.write_text("secret", encoding="utf-8")
        words = [os.fspath(secret), str(server.getsockname()[1]), str(os.getpid())]
        for name, code in ATTACKS.items():
            command = [PYTHON, "-c", PROLOGUE + code, *words]
            outside = subprocess.run(command, capture_output=True, check=False, cwd=folder).returncode == 0
            with pool.acquire() as lease:
                inside = lease.execute(command).exit_code == 0
            bad += inside
            print(f"{'HOLE' if inside else 'holds':6} {name} (outside: {'works' if outside else 'refused, too'})")
        for name, command in NEEDS.items():
            with pool.acquire() as lease:
                done = lease.execute(command)
            bad += done.exit_code != 0
            print(f"{'works' if done.exit_code == 0 else 'BROKEN':6} {name} {done.stderr[-200:]!r}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
