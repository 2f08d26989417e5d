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


def test_allow_unix_sockets_opens_the_door_knowingly(host: Host, host_dir: Path) -> None:
    with Sandbox(SandboxConfig(fs_readonly=[host_dir], allow_unix_sockets=True)) as sandbox:
        sandbox.execute([PYTHON, "-c", START + DOORS["stream"], host_dir, "inside"]).check()
    assert host.heard == [b"inside"]


def test_a_socket_file_itself_bound_is_no_door(host: Host, host_dir: Path) -> None:
    with Sandbox(SandboxConfig(fs_readonly=[host_dir / "stream"])) as sandbox:
        result = sandbox.execute([PYTHON, "-c", START + DOORS["stream"], host_dir, "inside"])
        assert (result.exit_code, host.heard) == (1, [])
        assert sandbox.execute(["/bin/cat", host_dir / "stream"]).exit_code == 1


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
