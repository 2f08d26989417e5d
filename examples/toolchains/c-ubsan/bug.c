#include <limits.h>

int main(int count, char **words) {
    (void)words;
    return (INT_MAX - 1 + count + count) != 0;
}
