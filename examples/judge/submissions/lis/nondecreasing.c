/* Counts equal numbers as increasing. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    int n, used = 0, number;
    if (scanf("%d", &n) != 1)
        return 1;
    int *piles = malloc(sizeof(*piles) * (size_t)(n + 1));
    if (!piles)
        return 1;
    while (n-- > 0 && scanf("%d", &number) == 1) {
        int low = 0, high = used;
        while (low < high) {
            int middle = (low + high) / 2;
            if (piles[middle] <= number)
                low = middle + 1;
            else
                high = middle;
        }
        piles[low] = number;
        used += low == used;
    }
    printf("%d\n", used);
    return 0;
}
