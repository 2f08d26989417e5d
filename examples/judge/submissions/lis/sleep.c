/* Never ends, and uses no CPU time while it does not. */
#include <unistd.h>

int main(void)
{
    for (;;)
        pause();
}
