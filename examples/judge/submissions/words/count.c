#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS (1 << 17)

static struct slot {
    char word[32];
    int count;
} table[SLOTS];

static int order(const void *left, const void *right)
{
    const struct slot *a = left, *b = right;
    return a->count != b->count ? b->count - a->count : strcmp(a->word, b->word);
}

int main(void)
{
    char word[32];
    while (scanf("%31s", word) == 1) {
        unsigned at = 5381;
        for (const char *p = word; *p; p++)
            at = at * 33 + (unsigned char)*p;
        while (table[at % SLOTS].count && strcmp(table[at % SLOTS].word, word))
            at++;
        strcpy(table[at % SLOTS].word, word);
        table[at % SLOTS].count++;
    }
    qsort(table, SLOTS, sizeof(table[0]), order);
    for (int i = 0; i < 10 && table[i].count; i++)
        printf("%d %s\n", table[i].count, table[i].word);
    return 0;
}
