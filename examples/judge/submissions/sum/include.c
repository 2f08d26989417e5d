/* Asks the compiler for a file of the host: a compiler's messages quote what it could not parse. */
#include "/etc/shadow"

int main(void)
{
    return 0;
}
