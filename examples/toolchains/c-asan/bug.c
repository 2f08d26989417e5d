#include <stdlib.h>

int main(void) {
    volatile char *bytes = malloc(9);
    return bytes[9];
}
