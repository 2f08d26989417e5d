/* Right for small numbers, wraps around for large ones. */
#include <stdio.h>

int main(void)
{
    int n;
    unsigned long long a, b;
    if (scanf("%d", &n) != 1)
        return 1;
    while (n-- > 0 && scanf("%llu %llu", &a, &b) == 2)
        printf("%llu\n", (unsigned long long)(long long)(a + b) & 0x7fffffffffffffffULL);
    return 0;
}
