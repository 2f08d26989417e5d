#include <pthread.h>
#include <stddef.h>

static int shared;

static void *add(void *unused) {
    shared++;
    return unused;
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, add, NULL);
    shared++;
    return pthread_join(thread, NULL);
}
