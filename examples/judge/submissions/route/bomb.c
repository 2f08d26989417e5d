/* A fork bomb. It refuses to go off where it could do harm: outside of the judge's sandboxes. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
    if (getenv("JUDGE_SANDBOX") == NULL) {
        fprintf(stderr, "bomb: this is not a sandbox\n");
        return 99;
    }
    for (;;)
        (void)!fork();
}
