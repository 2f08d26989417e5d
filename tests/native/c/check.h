/* CHECK, RUN and the last line of a C test program. For programs of one translation unit. RUN_WITHOUT skips a test for
 * a reason; tests/native/test_c.py accepts that only where the machine refuses namespaces. */
#ifndef SANDPOOL_TESTS_CHECK_H
#define SANDPOOL_TESTS_CHECK_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK_SHOWN 10 /* so many failures of each test are printed; all are counted */

static _Atomic unsigned check_failures; /* of the running test, from any of its threads */
static unsigned check_passed;
static unsigned check_failed;
static unsigned check_skipped;

static inline void check_fail(const char *file, int line, const char *what) {
    if (atomic_fetch_add(&check_failures, 1) < CHECK_SHOWN) {
        (void)fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    }
}

#define CHECK(what) ((what) ? (void)0 : check_fail(__FILE__, __LINE__, #what))

#define RUN(test) check_run(#test, test)
/* `lack` is what this machine lacks for the test; NULL: nothing. */
#define RUN_WITHOUT(lack, test) ((lack) == NULL ? check_run(#test, test) : check_skip(#test, lack))

static inline void check_run(const char *name, void (*test)(void)) {
    unsigned failures = 0;

    (void)printf("%s ... ", name);
    (void)fflush(stdout);
    atomic_store(&check_failures, 0);
    test();
    failures = atomic_load(&check_failures);
    if (failures == 0) {
        check_passed++;
        (void)printf("ok\n");
    } else {
        check_failed++;
        (void)printf("FAILED (%u)\n", failures);
    }
}

static inline void check_skip(const char *name, const char *lack) {
    check_skipped++;
    (void)printf("%s ... skipped: %s\n", name, lack);
}

/* A test that hangs is a failure: SIGALRM ends the program. */
static inline void check_deadline(unsigned seconds) { (void)alarm(seconds); }

/* The program's exit status. A run without a test is a failure. */
static inline int check_report(void) {
    (void)printf("%u passed, %u failed, %u skipped\n", check_passed, check_failed, check_skipped);
    return check_failed == 0 && check_passed + check_skipped > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
