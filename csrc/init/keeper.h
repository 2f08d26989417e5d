/*
 * The keeper: a process that shares the memory of a standby with an interpreter, and sleeps. The kernel frees the
 * memory of a process before its parent learns how it has ended, which takes longer than most pieces of code. While a
 * keeper has the memory, too, the end of the command frees nothing. init stops the keeper before it reports the end,
 * and kills it afterwards: freeing the memory takes a processor, and the host needs one for the result.
 *
 * The tenant can write to that memory, and so make the keeper run what it likes, but a filter of its own allows the
 * keeper no system call but the one in which it sleeps. It has no descriptors, and a second of processor time.
 */
#ifndef SANDPOOL_INIT_KEEPER_H
#define SANDPOOL_INIT_KEEPER_H

#include <stdbool.h>
#include <sys/types.h>

/* In a standby: starts a keeper, which becomes a child of init. Returns its pid once it sleeps, or 0: there is none,
 * and the end of the command takes longer. */
pid_t sp_keeper_start(void);

/* ---- in init, which has one keeper at the most ---- */

/* The keeper of the new standby; 0: it has none. */
void sp_keeper_take(pid_t pid);
/* A child was reaped. It may have been the keeper. */
void sp_keeper_reaped(pid_t pid);
bool sp_keeper_lives(void);
/* Stops it, if there is one: it runs no instruction any more, whatever the tenant has made of its memory. Only for when
 * the command has ended. If others live that could let it go on, it has to be killed with them. */
void sp_keeper_stop(void);
/* Kills it, if there is one. From now on its memory counts. */
void sp_keeper_kill(void);
/* Kills it unless it still has the memory of `command`, which counts only once then. */
void sp_keeper_look(pid_t command);
/*
 * After the command was reaped: whether the keeper is the only process beside init. False when that is not known. Each
 * other process descends from a child of init, which is listed, alive or dead, until init reaps it: so none can hide by
 * forking and ending while init reads the list.
 */
bool sp_keeper_is_alone(void);
/* Kills it, and waits for its end. Only for when nothing else of the sandbox lives: a process could trace it. */
void sp_keeper_end(void);

#endif
