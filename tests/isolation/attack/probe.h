/* What all probes share: one program per class, one named attack per call, and one line that tells how it went. */
#ifndef SANDPOOL_ATTACK_PROBE_H
#define SANDPOOL_ATTACK_PROBE_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void attack(char **args);

struct named_attack {
    const char *name;
    attack *run;
};

_Noreturn static inline void verdict(const char *word, const char *format, va_list rest) {
    printf("%s ", word);
    vprintf(format, rest);
    printf("\n");
    fflush(stdout);
    _exit(0);
}

/* The attack worked. */
__attribute__((format(printf, 1, 2), unused)) _Noreturn static void reached(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    verdict("REACHED", format, rest);
}

/* It did not. */
__attribute__((format(printf, 1, 2), unused)) _Noreturn static void held(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    verdict("HELD", format, rest);
}

/* REACHED when the call succeeded, else HELD with its errno; -1 may also be what an earlier call returned. */
#define JUDGE(what, call)                      \
    do {                                       \
        if ((long)(call) != -1) {              \
            reached("%s", what);               \
        }                                      \
        held("%s: %s", what, strerror(errno)); \
    } while (0)

static inline int run_named(const struct named_attack *attacks, size_t n, int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < n; i++) {
        if (strcmp(argv[1], attacks[i].name) == 0) {
            alarm(60); /* nothing of a probe outlives the suite, on the control either */
            attacks[i].run(argv + 2);
            held("came to its end");
        }
    }
    fprintf(stderr, "no such probe\n");
    return 2;
}

#define PROBES(...)                                                                \
    int main(int argc, char **argv) {                                              \
        static const struct named_attack attacks[] = {__VA_ARGS__};                \
        return run_named(attacks, sizeof attacks / sizeof attacks[0], argc, argv); \
    }

#endif
