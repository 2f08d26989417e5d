#include "init/sysv.h"

#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

/* SHM_STAT_ANY etc., which are newer than some headers. They ignore permissions, which a tenant may have removed. */
#define SHM_STAT_OF_ANY 15
#define MSG_STAT_OF_ANY 13
#define SEM_STAT_OF_ANY 20

/* The header of a message, with the unused space of its slab, and a semaphore with its cache line. */
#define MESSAGE_COST 128
#define QUEUE_COST 512
#define SEMAPHORE_COST 192
/* What the kernel keeps for each thread that has used SEM_UNDO: for a set, and for each of its semaphores. */
#define UNDO_COST 128
#define UNDO_SEMAPHORE_COST 2

uint64_t sp_sysv_used(unsigned threads) {
    struct shm_info segments;
    struct msginfo queues;
    struct seminfo semaphores;
    memset(&segments, 0, sizeof segments);
    memset(&queues, 0, sizeof queues);
    memset(&semaphores, 0, sizeof semaphores);
    (void)shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&segments);
    (void)msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&queues);
    (void)semctl(0, 0, SEM_INFO, &semaphores);
    /* msgctl(2) and semctl(2): pool = queues, map = messages, tql = bytes; usz = sets, aem = semaphores. */
    return ((uint64_t)segments.shm_rss + segments.shm_swp) * (uint64_t)sysconf(_SC_PAGESIZE) +
           (uint64_t)(unsigned)queues.msgtql + (uint64_t)(unsigned)queues.msgmap * MESSAGE_COST +
           ((uint64_t)(unsigned)queues.msgpool + (unsigned)semaphores.semusz) * QUEUE_COST +
           (uint64_t)(unsigned)semaphores.semusz * threads * UNDO_COST +
           (uint64_t)(unsigned)semaphores.semaem * (SEMAPHORE_COST + (uint64_t)threads * UNDO_SEMAPHORE_COST);
}

void sp_sysv_remove(void) {
    struct shmid_ds segment;
    struct msqid_ds queue;
    struct semid_ds set;
    /* INFO returns the highest index in use; STAT of an index returns the identifier of the object, or an error. */
    int last = shmctl(0, SHM_INFO, &segment);
    for (int i = 0; i <= last; i++) {
        int id = shmctl(i, SHM_STAT_OF_ANY, &segment);
        (void)(id != -1 ? shmctl(id, IPC_RMID, NULL) : 0);
    }
    struct msginfo queues;
    last = msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&queues);
    for (int i = 0; i <= last; i++) {
        int id = msgctl(i, MSG_STAT_OF_ANY, &queue);
        (void)(id != -1 ? msgctl(id, IPC_RMID, NULL) : 0);
    }
    struct seminfo semaphores;
    last = semctl(0, 0, SEM_INFO, &semaphores);
    for (int i = 0; i <= last; i++) {
        int id = semctl(i, 0, SEM_STAT_OF_ANY, &set);
        (void)(id != -1 ? semctl(id, 0, IPC_RMID) : 0);
    }
}
