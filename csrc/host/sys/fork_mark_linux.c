#include <stddef.h>
#include <sys/mman.h>

#include "host/sys/fork_mark.h"

#define MARK_SIZE 4096

volatile const uint8_t *sp_fork_mark_new(void) {
    void *page = mmap(NULL, MARK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    /* The kernel clears the page in the child of any fork, even of one that runs no handler of pthread_atfork(). */
    if (madvise(page, MARK_SIZE, MADV_WIPEONFORK) != 0) {
        munmap(page, MARK_SIZE);
        return NULL;
    }
    *(volatile uint8_t *)page = 1;
    return page;
}

void sp_fork_mark_free(volatile const uint8_t *mark) {
    if (mark != NULL) {
        munmap((void *)(uintptr_t)mark, MARK_SIZE);
    }
}
