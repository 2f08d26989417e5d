/*
 * Each mask is a mount, which costs each sandbox about 6 us over its creation and its end. So only files that any uid
 * may read are masked, and of these only those that most directly reveal the host, its devices, kernel addresses, or
 * the load of others; SECURITY.md lists what can still be read. The other files that container runtimes mask need no
 * mask here: kcore, kmsg, slabinfo, vmallocinfo, timer_list, sched_debug, sysrq-trigger and all of /proc/sys belong to
 * the host's root, whose uid exists in no sandbox, and their modes refuse access (tests/isolation/test_proc.py tries
 * each).
 *
 * Landlock cannot replace the masks: its rules only allow, and a rule cannot name the /proc/<pid> of a future process.
 * The mount option subset=pid would cost nothing, but would also hide cpuinfo, meminfo and stat, without which language
 * runtimes choose wrong sizes.
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
