#include <stdio.h>
#include <stdlib.h>

struct edge {
    int to, weight, next;
};
struct item {
    long length;
    int node;
};

static struct item *heap;
static int used;

static void push(long length, int node)
{
    int at = ++used;
    for (; at > 1 && heap[at / 2].length > length; at /= 2)
        heap[at] = heap[at / 2];
    heap[at] = (struct item){length, node};
}

static struct item pop(void)
{
    struct item top = heap[1], last = heap[used--];
    int at = 1;
    for (int child; (child = 2 * at) <= used; at = child) {
        if (child < used && heap[child + 1].length < heap[child].length)
            child++;
        if (heap[child].length >= last.length)
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return top;
}

int main(void)
{
    int n, m;
    if (scanf("%d %d", &n, &m) != 2)
        return 1;
    struct edge *edges = malloc(sizeof(*edges) * (size_t)(m + 1));
    int *head = calloc((size_t)n + 1, sizeof(*head));
    long *best = malloc(sizeof(*best) * (size_t)(n + 1));
    heap = malloc(sizeof(*heap) * (size_t)(m + 2));
    if (!edges || !head || !best || !heap)
        return 1;
    for (int i = 1, from; i <= m; i++) {
        if (scanf("%d %d %d", &from, &edges[i].to, &edges[i].weight) != 3)
            return 1;
        edges[i].next = head[from];
        head[from] = i;
    }
    for (int i = 0; i <= n; i++)
        best[i] = -1;
    best[1] = 0;
    push(0, 1);
    while (used) {
        struct item here = pop();
        if (here.length > best[here.node])
            continue;
        for (int i = head[here.node]; i; i = edges[i].next) {
            long length = here.length + edges[i].weight;
            if (best[edges[i].to] < 0 || length < best[edges[i].to]) {
                best[edges[i].to] = length;
                push(length, edges[i].to);
            }
        }
    }
    printf("%ld\n", best[n]);
    return 0;
}
