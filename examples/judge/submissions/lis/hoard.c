/* Takes memory and touches it until there is no more, then gives up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    for (;;) {
        char *block = malloc(1 << 20);
        if (!block) {
            fprintf(stderr, "out of memory\n");
            return 1;
        }
        memset(block, 1, 1 << 20);
    }
}
