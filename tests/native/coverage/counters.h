/* Where the zygote leaves the counters of a stem's module, in a coverage run: above what either has in use. */
#define SP_COUNTERS_FD 300
