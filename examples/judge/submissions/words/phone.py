# Looks for a way out: datagrams, TCP to the world and to whatever listens on this machine, local sockets, names.
import socket
import sys

found = []


def attempt(what, action):
    try:
        action()
    except OSError:
        return
    found.append(what)


def listening():
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        for row in rows:
            if row[3] == "0A":
                yield int(row[1].rsplit(":", 1)[1], 16)


def datagram(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", address)


def stream(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.3)
        sock.connect(address)


attempt("udp 127.0.0.1", lambda: datagram(socket.AF_INET, ("127.0.0.1", 53)))
for port in sorted({22, 80, 443, 5432, 6379, *listening()}):
    attempt("tcp 127.0.0.1:%d" % port, lambda: stream(socket.AF_INET, ("127.0.0.1", port)))
    attempt("tcp [::1]:%d" % port, lambda: stream(socket.AF_INET6, ("::1", port)))
for path in ("/run/docker.sock", "/run/dbus/system_bus_socket", "\0/tmp/.X11-unix/X0"):
    attempt("unix " + path.strip("\0"), lambda: stream(socket.AF_UNIX, path))

print("\n".join(found) if found else "nothing")
sys.exit(0)
