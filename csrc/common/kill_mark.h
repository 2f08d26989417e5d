/*
 * In the Landlock tier, where signals are supervised (init/supervise.h), init passes this number as a third argument of
 * kill(), which the kernel does not read. A filter lets such a call pass at once, so that no kill of init's depends on
 * its supervisor. The filter that a command installs before its exec refuses the number to tenants.
 */
#ifndef SANDPOOL_COMMON_KILL_MARK_H
#define SANDPOOL_COMMON_KILL_MARK_H

#define SP_KILL_MARK 0x6b696c6cu

#endif
