/*
 * The agent proves its own confinement before its first command. It tries things that must be refused, on objects of
 * the host that exist and where a success does no harm. A refusal is EPERM (Seatbelt) or EACCES (Landlock, which tests
 * use in its place). Other errors, such as that of a missing file, prove nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent.h"
#include "common/fact.h"
#include "common/fd.h"

/* The directory of all scratch directories of this host; only the profile keeps the agent out of it. */
#define HOSTS_DIRECTORY ".."
#define HOSTS_FILE "../written"
#define DISCARD_PORT 9

static bool refused(int rc) { return rc == -1 && (errno == EPERM || errno == EACCES); }

static bool is_unread(void) {
    sp_auto_fd int fd = open(HOSTS_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return refused(fd);
}

static bool is_unwritten(void) {
    sp_auto_fd int fd = open(HOSTS_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd != -1) {
        (void)unlink(HOSTS_FILE);
    }
    return refused(fd);
}

/* Uses a datagram socket, because connecting it sends nothing. */
static bool is_unconnected(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sp_auto_fd int sock = socket(AF_INET, SOCK_DGRAM, 0);
    if (sock == -1) {
        return refused(sock);
    }
    bool unbound = refused(bind(sock, (const struct sockaddr *)&here, sizeof here));
    here.sin_port = htons(DISCARD_PORT);
    return refused(connect(sock, (const struct sockaddr *)&here, sizeof here)) && unbound;
}

/* Tries a mapping, because some systems accept RLIMIT_DATA but do not count mappings. */
static bool is_memory_limited(uint64_t bytes) {
    const int flags = MAP_PRIVATE | MAP_ANON | MAP_NORESERVE;
    if (bytes == 0) {
        return false;
    }
    void *all = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (all == MAP_FAILED) {
        return errno == ENOMEM;
    }
    (void)munmap(all, (size_t)bytes);
    return false;
}

uint32_t sp_agent_prove(const struct sp_rec_config *config, pid_t host) {
    bool no_connection = (config->flags & SP_CONFIG_NET_HOST) == 0 && is_unconnected();
    uint32_t facts = is_unread() ? SP_FACT_HOST_UNREAD : 0;
    facts |= is_unwritten() ? SP_FACT_HOST_UNWRITTEN : 0;
    facts |= host > 1 && refused(kill(host, 0)) ? SP_FACT_HOST_UNSIGNALLED : 0;
    facts |= no_connection ? SP_FACT_NO_CONNECTION : 0;
    facts |= sp_set_id_is_refused() ? SP_FACT_NO_SET_ID : 0;
    facts |= sp_agent_is_limited(config) ? SP_FACT_LIMITS : 0;
    facts |= is_memory_limited(config->memory_bytes) ? SP_FACT_LIMIT_DATA : 0;
    return facts;
}
