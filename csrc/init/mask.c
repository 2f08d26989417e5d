/*
 * Each mask is a mount, and each sandbox pays for it at its birth and at its end: about 6 us together. So only what any
 * uid may read is here, and of that what names the host, its devices, its kernel's addresses and others' load most
 * directly; SECURITY.md lists what can still be read. The rest of what container runtimes mask needs none: kcore, kmsg,
 * slabinfo, vmallocinfo, timer_list, sched_debug, sysrq-trigger and all of /proc/sys belong to the host's root, whose
 * uid exists in no sandbox, and are refused by their mode (tests/isolation/test_proc.py asks for each).
 *
 * Landlock cannot do it: its rules allow and never take back, and /proc/<pid> of a process to come cannot be named.
 * subset=pid would be free, but takes cpuinfo, meminfo and stat along, without which runtimes size themselves wrongly.
 */
#include "init/mask.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/stage.h"

static const struct mask {
    const char *path;
    const char *cover;
} masks[] = {
    {"/proc/keys", SP_CLOSED_FILE},       {"/proc/kallsyms", SP_CLOSED_FILE},
    {"/proc/interrupts", SP_CLOSED_FILE}, {"/proc/cmdline", SP_CLOSED_FILE},
    {"/proc/bootconfig", SP_CLOSED_FILE}, {"/proc/sys/kernel/random/boot_id", SP_CLOSED_FILE},
    {"/proc/diskstats", SP_EMPTY_FILE}, /* programs that look at disks find none */
    {"/proc/partitions", SP_EMPTY_FILE},  {"/proc/mdstat", SP_EMPTY_FILE},
    {"/proc/pressure", SP_EMPTY_DIR},     {"/proc/bus", SP_EMPTY_DIR},
    {"/proc/fs", SP_EMPTY_DIR},           {"/proc/irq", SP_EMPTY_DIR},
    {"/proc/acpi", SP_EMPTY_DIR},         {"/proc/scsi", SP_EMPTY_DIR},
    {"/proc/asound", SP_EMPTY_DIR},
};

#define COUNT (sizeof masks / sizeof masks[0])

uint32_t sp_masks_found(void) {
    uint32_t found = 0;
    for (size_t i = 0; i < COUNT; i++) {
        found |= access(masks[i].path, F_OK) == 0 ? 1u << i : 0;
    }
    return found;
}

int sp_mask_proc(const struct sp_plan *plan, struct sp_rec_failed *why) {
    for (size_t i = 0; i < COUNT; i++) {
        if ((plan->masks & (1u << i)) != 0 && mount(masks[i].cover, masks[i].path, NULL, MS_BIND, NULL) != 0) {
            return sp_failed(why, SP_STAGE_MOUNT_PROC, errno, masks[i].path);
        }
    }
    return 0;
}
