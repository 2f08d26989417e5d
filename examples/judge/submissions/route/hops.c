/* Takes the path with the fewest edges for the shortest one. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    int n, m;
    if (scanf("%d %d", &n, &m) != 2)
        return 1;
    int *from = malloc(sizeof(int) * (size_t)m), *to = malloc(sizeof(int) * (size_t)m),
        *weight = malloc(sizeof(int) * (size_t)m), *hops = calloc((size_t)n + 1, sizeof(int)),
        *length = calloc((size_t)n + 1, sizeof(int));
    for (int i = 0; i < m; i++)
        if (scanf("%d %d %d", &from[i], &to[i], &weight[i]) != 3)
            return 1;
    hops[1] = 1;
    for (int round = 1, moved = 1; moved && !hops[n]; round++) {
        moved = 0;
        for (int i = 0; i < m; i++)
            if (hops[from[i]] == round && !hops[to[i]]) {
                hops[to[i]] = round + 1;
                length[to[i]] = length[from[i]] + weight[i];
                moved = 1;
            }
    }
    printf("%d\n", hops[n] ? length[n] : -1);
    return 0;
}
