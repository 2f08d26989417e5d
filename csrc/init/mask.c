/*
 * Each mask is a mount, and each sandbox pays for it at its birth and at its end: about 6 us together. So only what any
 * uid may read is here. The rest of what container runtimes mask needs none: kcore, kmsg, slabinfo, vmallocinfo,
 * timer_list, sched_debug, sysrq-trigger and all of /proc/sys belong to the host's root, whose uid exists in no
 * sandbox, and are refused by their mode (tests/test_proc.py asks for each).
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
    bool is_dir;
} masks[] = {
    {"/proc/keys", false}, {"/proc/kallsyms", false}, {"/proc/interrupts", false}, {"/proc/cmdline", false},
    {"/proc/bus", true},   {"/proc/fs", true},        {"/proc/irq", true},         {"/proc/acpi", true},
    {"/proc/scsi", true},  {"/proc/asound", true},
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
        const char *cover = masks[i].is_dir ? SP_EMPTY_DIR : SP_CLOSED_FILE;
        if ((plan->masks & (1u << i)) != 0 && mount(cover, masks[i].path, NULL, MS_BIND, NULL) != 0) {
            return sp_failed(why, SP_STAGE_MOUNT_PROC, errno, masks[i].path);
        }
    }
    return 0;
}
