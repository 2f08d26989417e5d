/* An adjacency matrix of 20,000 x 20,000 numbers: 1.6 GB. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    int n, m;
    if (scanf("%d %d", &n, &m) != 2)
        return 1;
    int **weight = malloc(sizeof(*weight) * (size_t)(n + 1));
    for (int i = 0; i <= n; i++) {
        weight[i] = malloc(sizeof(int) * (size_t)(n + 1));
        if (!weight[i])
            abort();
        for (int j = 0; j <= n; j++)
            weight[i][j] = -1;
    }
    for (int i = 0, a, b, w; i < m; i++) {
        if (scanf("%d %d %d", &a, &b, &w) != 3)
            return 1;
        if (weight[a][b] < 0 || w < weight[a][b])
            weight[a][b] = w;
    }
    long *best = malloc(sizeof(*best) * (size_t)(n + 1));
    char *done = calloc((size_t)n + 1, 1);
    for (int i = 0; i <= n; i++)
        best[i] = -1;
    best[1] = 0;
    for (;;) {
        int here = 0;
        for (int i = 1; i <= n; i++)
            if (!done[i] && best[i] >= 0 && (!here || best[i] < best[here]))
                here = i;
        if (!here)
            break;
        done[here] = 1;
        for (int i = 1; i <= n; i++)
            if (weight[here][i] >= 0 && (best[i] < 0 || best[here] + weight[here][i] < best[i]))
                best[i] = best[here] + weight[here][i];
    }
    printf("%ld\n", best[n]);
    return 0;
}
