/* The textbook O(n^2). */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    int n, longest = 0;
    if (scanf("%d", &n) != 1)
        return 1;
    int *number = malloc(sizeof(int) * (size_t)(n + 1)), *best = malloc(sizeof(int) * (size_t)(n + 1));
    if (!number || !best)
        return 1;
    for (int i = 0; i < n && scanf("%d", &number[i]) == 1; i++) {
        best[i] = 1;
        for (int j = 0; j < i; j++)
            if (number[j] < number[i] && best[j] + 1 > best[i])
                best[i] = best[j] + 1;
        if (best[i] > longest)
            longest = best[i];
    }
    printf("%d\n", longest);
    return 0;
}
