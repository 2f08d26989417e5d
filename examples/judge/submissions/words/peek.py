# Looks for what belongs to the host: secrets, other people's files, the judge's expected outputs. Prints what
# it found, or "nothing". Outside of a sandbox it finds a lot (tests/repo/test_examples.py checks that it does).
import os
import sys

found = []
FILES = (
    "/etc/shadow /etc/sudoers /etc/machine-id /etc/fstab /etc/crontab /etc/ssh/ssh_config /proc/1/environ "
    "/proc/1/maps /proc/1/mem /proc/kcore /dev/mem /dev/kmsg /dev/vda /dev/sda /dev/nvme0n1 "
    "/var/run/docker.sock /run/docker.sock /proc/1/root/etc/shadow /proc/1/cwd/pyproject.toml"
).split()
FOLDERS = (
    "/root /home /var/log /var/lib/dpkg /var/lib/apt /var/spool /var/tmp /srv /opt /mnt /media /boot /run "
    "/sys/class /sys/fs /sys/kernel /work /Users /proc/1/fd /proc/1/root /proc/1/cwd"
).split()
WANTED = ("problem.json", ".out", ".key", "id_rsa", "id_ed25519", ".env", "history")
KNOWN = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "proc", "dev"}  # programs, not data

for path in FILES:
    try:
        with open(path, "rb") as file:
            if file.read(1):
                found.append(path)
    except OSError:
        if os.path.exists(path) and path.endswith(".sock"):
            found.append(path)
for path in FOLDERS:
    try:
        names = set(os.listdir(path)) - {"workspace"}  # an empty mount point of every sandbox is /mnt/workspace
        found.extend(os.path.join(path, name) for name in names)
    except OSError:
        pass


def names_in(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


visited = 0
for top in sorted(set(names_in("/")) - KNOWN):
    for folder, folders, names in os.walk("/" + top):
        visited += 1
        folders[:] = folders if visited < 20_000 and len(found) < 1_000 else []
        for name in names:
            if name.endswith(WANTED) and os.access(os.path.join(folder, name), os.R_OK):
                found.append(os.path.join(folder, name))
for name in names_in("/proc"):
    if name.isdigit() and int(name) not in (1, os.getpid(), os.getppid()):
        found.append("process " + name)
for name, value in os.environ.items():
    if any(word in name.upper() for word in ("SECRET", "TOKEN", "PASSWORD", "SSH_", "PYTHONPATH", "AWS_")):
        found.append(name + "=" + value)
try:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and not os.readlink("/proc/self/fd/%d" % fd).startswith("/proc/"):
            found.append("fd %d" % fd)
except OSError:
    pass

print("\n".join(found) if found else "nothing")
sys.exit(0)
