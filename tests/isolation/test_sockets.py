"""A socket file in a bound directory is no door to the host; nor is a fifo or a descriptor that was not given."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from pysandpool import Sandbox, SandboxConfig, SeccompProfile
from pysandpool._backend.doors import system_doors

PYTHON = "/usr/bin/python3"
START = "import socket, sys; from socket import *; where, word = sys.argv[1], sys.argv[2].encode()\n"
# Each brings a word to a listener, or fails.
DOORS = {
    "stream": "s = socket(AF_UNIX); s.connect(where + '/stream'); s.sendall(word); s.recv(99)",
    "seqpacket": "s = socket(AF_UNIX, SOCK_SEQPACKET); s.connect(where + '/packets'); s.send(word); s.recv(99)",
    "datagram": "s = socket(AF_UNIX, SOCK_DGRAM); s.sendto(word, where + '/datagram')",
    "raw": "s = socket(AF_UNIX, SOCK_RAW); s.sendto(word, where + '/datagram')",
    "half of a pair": "s, _ = socketpair(AF_UNIX, SOCK_DGRAM); s.sendto(word, where + '/datagram')",
    "half of a raw pair": "s, _ = socketpair(AF_UNIX, SOCK_RAW); s.sendto(word, where + '/datagram')",
    "pair connected anew": "s, _ = socketpair(AF_UNIX, SOCK_DGRAM); s.connect(where + '/datagram'); s.send(word)",
    "sendmsg": "s, _ = socketpair(AF_UNIX, SOCK_DGRAM); s.sendmsg([word], [], 0, where + '/datagram')",
}


class Host:
    """Live listeners in a directory; `heard` is all that reached them."""

    def __init__(self, directory: Path) -> None:
        self.heard: list[bytes] = []
        kinds = {"stream": socket.SOCK_STREAM, "packets": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}
        self._sockets = [socket.socket(socket.AF_UNIX, kind) for kind in kinds.values()]
        for one, name in zip(self._sockets, kinds):
            one.bind(str(directory / name))
            (directory / name).chmod(0o777)
            threading.Thread(target=self._hear, args=(one,), daemon=True).start()

    def _hear(self, listener: socket.socket) -> None:
        try:
            if listener.type == socket.SOCK_DGRAM:
                while True:
                    self.heard.append(listener.recv(16))
            listener.listen()
            while True:
                peer, _ = listener.accept()
                with peer:
                    self.heard.append(peer.recv(16))
                    peer.sendall(b"from outside")
        except OSError:
            pass

    def close(self) -> None:
        for one in self._sockets:
            one.shutdown(socket.SHUT_RDWR) if one.type != socket.SOCK_DGRAM else None
            one.close()


@pytest.fixture
def host(host_dir: Path) -> Iterator[Host]:
    listeners = Host(host_dir)
    yield listeners
    listeners.close()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_a_socket_file_is_no_door(host: Host, host_dir: Path, door: str, field: str) -> None:
    command = [PYTHON, "-c", START + DOORS[door], str(host_dir)]
    subprocess.run([*command, "outside"], check=True, timeout=20)
    wait_until(lambda: b"outside" in host.heard, "the control reaches the listener")
    for profile in SeccompProfile:
        with Sandbox(SandboxConfig(seccomp_profile=profile, **{field: [host_dir]})) as sandbox:  # type: ignore[arg-type]
            result = sandbox.execute([*command, "inside"])
            assert result.exit_code == 1
            assert b"Error: [Errno " in result.stderr
    # What was sent before this word has been heard, or never will be.
    subprocess.run([*command, "last"], check=True, timeout=20)
    wait_until(lambda: b"last" in host.heard, "the control reaches it again")
    assert b"inside" not in host.heard


@pytest.mark.parametrize("field", ["fs_readonly", "fs_readwrite"])
def test_allow_unix_sockets_opens_the_door_knowingly(host: Host, host_dir: Path, field: str) -> None:
    config = SandboxConfig(allow_unix_sockets=True, **{field: [host_dir]})  # type: ignore[arg-type]
    with Sandbox(config) as sandbox:
        sandbox.execute([PYTHON, "-c", START + DOORS["stream"], host_dir, "inside"]).check()
    assert host.heard == [b"inside"]


def test_a_socket_file_itself_bound_is_no_door(host: Host, host_dir: Path) -> None:
    with Sandbox(SandboxConfig(fs_readonly=[host_dir / "stream"])) as sandbox:
        result = sandbox.execute([PYTHON, "-c", START + DOORS["stream"], host_dir, "inside"])
        assert (result.exit_code, host.heard) == (1, [])
        assert sandbox.execute(["/bin/cat", host_dir / "stream"]).exit_code == 1


# --- sockets of the sandbox's own processes --------------------------------------------------------------

# Each needs a unix socket between two processes, and prints "ok".
OWN = {
    "file": """
import os, socket
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("/tmp/socket"); listener.listen()
    if os.fork() == 0:
        client = socket.socket(socket.AF_UNIX); client.connect("/tmp/socket"); client.sendall(b"ok"); os._exit(0)
    print(listener.accept()[0].recv(2).decode())
""",
    "abstract": """
import socket
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0name"); listener.listen()
client = socket.socket(socket.AF_UNIX); client.connect("\\0name"); client.sendall(b"ok")
print(listener.accept()[0].recv(2).decode())
""",
    "datagrams": """
import socket
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.send(b"ok"); print(other.recv(2).decode())
""",
    "forkserver": """
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        print("ok" if pool.map(abs, [-1, -2]) == [1, 2] else "")
""",
    "manager": """
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        shared = manager.dict(word="ok"); print(shared["word"])
""",
}


def own(config: SandboxConfig, kind: str) -> bytes:
    with Sandbox(config) as sandbox:
        result = sandbox.execute(["sh", "-c", "cat > program.py && exec python3 program.py"], input=OWN[kind].encode())
        return result.stdout if result.exit_code == 0 else result.stderr


@pytest.mark.parametrize("kind", OWN)
def test_a_sandbox_that_shows_no_path_has_unix_sockets(kind: str) -> None:
    assert own(SandboxConfig(), kind) == b"ok\n"
    assert own(SandboxConfig(allow_unix_sockets=False), kind) != b"ok\n", "the control"


@pytest.mark.parametrize("profile", SeccompProfile)
def test_by_default_a_path_of_the_caller_takes_them_away(profile: SeccompProfile, host_dir: Path) -> None:
    file = host_dir / "file"
    file.touch()
    for shown in ({"fs_readonly": [host_dir]}, {"fs_readwrite": [host_dir]}, {"fs_readonly": [file]}):
        config = SandboxConfig(seccomp_profile=profile, **shown)  # type: ignore[arg-type]
        assert b"Address family not supported" in own(config, "file"), shown
        with Sandbox(config) as sandbox:
            assert sandbox.isolation.unix_sockets == "full"
    assert own(SandboxConfig(fs_readwrite=[host_dir], allow_unix_sockets=True), "file") == b"ok\n"


NAME = f"\0sandpool-test-{os.getpid()}"


@pytest.mark.parametrize("abi", [0, 5, 6])
def test_in_the_hosts_network_only_landlock_keeps_abstract_sockets_apart(
    abi: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSANDPOOL_LANDLOCK_ABI", str(abi))
    config = SandboxConfig(network="host", deny_network=False, seccomp_profile=SeccompProfile.NETWORK)
    with Sandbox(config) as sandbox:
        report = sandbox.isolation
    # The kernel may have an older ABI than 6 itself.
    scoped = report.landlock_abi >= 6
    assert report.unix_sockets == ("partial" if scoped else "full")
    assert (own(config, "file") == b"ok\n") == scoped
    knock = f"s = socket(AF_UNIX); s.connect({NAME!r})"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(NAME)
        listener.listen()
        subprocess.run([PYTHON, "-c", START + knock, "", ""], check=True, timeout=20)
        with Sandbox(config) as sandbox:
            result = sandbox.execute([PYTHON, "-c", START + knock, "", ""])
            assert (b"Operation not permitted" if scoped else b"Address family not supported") in result.stderr


def test_a_socket_in_a_directory_of_the_system_is_a_door() -> None:
    """Where the table of the host's sockets names one, commands get none by default."""
    table = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 22 /run/dbus/system_bus_socket
0000000000000000: 00000003 00000000 00000000 0001 03 33
0000000000000000: 00000002 00000000 00010000 0001 01 44 @/usr/abstract
"""
    assert system_doors("") == system_doors(table) == []
    doors = [f"{path}/a socket" for path in ("/usr/local/var/run", "/lib64", "/etc/x")]
    rows = "".join(f"0000000000000000: 00000002 00000000 00010000 0001 01 55 {door}\n" for door in doors)
    assert system_doors(table + rows) == doors


# A descriptor that names a directory or a connected socket of the host would be a door of its own.
INHERITED = """
import os
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]
print(fds, [os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in fds])
"""


def test_no_descriptor_of_the_host_is_inherited(host: Host, host_dir: Path) -> None:
    near, far = socket.socketpair()
    os.set_inheritable(far.fileno(), True)
    with near, far:
        control = subprocess.run(
            [PYTHON, "-c", f"import os; os.write({far.fileno()}, b'reached')"], check=False, close_fds=False
        )
        assert (control.returncode, near.recv(9)) == (0, b"reached"), "the control inherits it"
        with Sandbox(SandboxConfig(fs_readwrite=[host_dir])) as sandbox:
            found = sandbox.execute([PYTHON, "-c", INHERITED]).check().stdout
    assert found == b"[0, 1, 2] ['/dev/null', 'pipe', 'pipe']\n"


def test_pairs_inside_work_and_name_nothing(host_dir: Path) -> None:
    """What the doors above lack is the address, not the pair."""
    code = """
import os, socket
one, other = socket.socketpair()
one.sendall(b"x"); assert other.recv(1) == b"x"
r, w = os.pipe()
socket.send_fds(one, [b"."], [w])
_, (got,), _, _ = socket.recv_fds(other, 1, 1)
os.write(got, b"y"); assert os.read(r, 1) == b"y"
print("ok")
"""
    with Sandbox(SandboxConfig(fs_readwrite=[host_dir])) as sandbox:
        assert sandbox.execute([PYTHON, "-c", code]).check().stdout == b"ok\n"


def test_a_fifo_is_a_pipe_to_whoever_holds_the_other_end(host_dir: Path) -> None:
    """Told in SECURITY.md: it carries bytes, and neither descriptors nor authority."""
    fifo = host_dir / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        with Sandbox(SandboxConfig(fs_readwrite=[host_dir])) as sandbox:
            sandbox.execute(["/bin/sh", "-c", f"echo bytes > {fifo}"]).check()
        assert os.read(end, 16) == b"bytes\n"
        with Sandbox(SandboxConfig(fs_readonly=[host_dir])) as sandbox:
            sandbox.execute(["/bin/sh", "-c", f"echo too > {fifo}"])
    finally:
        os.close(end)
