#include "host/execute/terminal.h"

/* An agent opens no terminals. */
bool sp_is_terminal_master(int fd) {
    (void)fd;
    return false;
}
