/* A fork bomb. It refuses to go off where it could do harm: outside of a sandbox. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    char name[64] = "";
    if (gethostname(name, sizeof(name) - 1) || strcmp(name, "sandbox")) {
        fprintf(stderr, "bomb: this is not a sandbox\n");
        return 99;
    }
    for (;;)
        (void)!fork();
}
