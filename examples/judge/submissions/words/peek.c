/* Looks for the host behind the walls: init's files, ".." above the root, inherited descriptors, privileges. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <unistd.h>

static int found;

static void report(const char *what)
{
    puts(what);
    found = 1;
}

static void look_into_file(const char *path)
{
    char byte;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    if (read(fd, &byte, 1) == 1)
        report(path);
    close(fd);
}

static void look_into_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.')
            report(path);
    closedir(folder);
}

int main(void)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            report("an inherited descriptor");

    look_into_file("/../../../../etc/shadow");
    look_into_file("/proc/1/root/etc/shadow");
    look_into_file("/proc/1/mem");
    look_into_file("/proc/1/environ");
    look_into_file("/proc/1/auxv");
    look_into_file("/proc/1/exe");
    look_into_file("/dev/mem");
    look_into_folder("/../../../../home");
    look_into_folder("/../../../../root");
    look_into_folder("/proc/1/fd");
    look_into_folder("/proc/1/cwd");

    if (ptrace(PTRACE_SEIZE, getppid(), 0, 0) == 0)
        report("a parent to trace");
    if (open("/usr/planted", O_WRONLY | O_CREAT, 0600) >= 0 ||
        open("/etc/planted", O_WRONLY | O_CREAT, 0600) >= 0)
        report("a writable system folder");
    if (mknod("/tmp/disk", S_IFBLK | 0600, 0x0800) == 0 || chroot("/tmp") == 0 || setuid(0) == 0)
        report("privileges");
    if (!found)
        puts("nothing");
    return 0;
}
