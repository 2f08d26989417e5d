#include <stdio.h>
#include <string.h>

static char a[4096], b[4096], sum[4097];

int main(void)
{
    int n;
    if (scanf("%d", &n) != 1)
        return 1;
    while (n-- > 0 && scanf("%4095s %4095s", a, b) == 2) {
        int i = (int)strlen(a), j = (int)strlen(b), at = (int)sizeof(sum) - 1, carry = 0;
        while (i > 0 || j > 0 || carry) {
            int digit = carry + (i > 0 ? a[--i] - '0' : 0) + (j > 0 ? b[--j] - '0' : 0);
            sum[--at] = (char)('0' + digit % 10);
            carry = digit / 10;
        }
        puts(sum + at);
    }
    return 0;
}
