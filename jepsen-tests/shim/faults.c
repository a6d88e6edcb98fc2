/* Clocks that lie and disks that fail, inside a member: loaded before the C library (LD_PRELOAD).
 *
 * It answers the calls below in the C library's place and does what the control file says: a page
 * shared with the harness (src/cluster/faults.rs writes it, field by field as here). Not a part of
 * the server: a member without it runs the same program.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct control {
    /* Odd while the harness writes. */
    volatile int64_t sequence;
    /* CLOCK_REALTIME runs so many nanoseconds ahead. */
    volatile int64_t wall_ahead_ns;
    /* Since `anchor_ns` (of the real monotonic clock) both clocks run so many millionths faster... */
    volatile int64_t drift_ppm;
    volatile int64_t anchor_ns;
    /* ...and at that moment earlier drifts had put both ahead by this. */
    volatile int64_t drifted_ns;
    /* Every fsync takes so much longer. */
    volatile int64_t sync_delay_us;
    /* Every fsync fails with this, if not 0. */
    volatile int64_t sync_errno;
};

static struct control *control;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("QUORATE_FAULTS");
    if (path == NULL) return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) control = page;
}

static int64_t nanoseconds(const struct timespec *time) {
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (real_clock_gettime == NULL) {
        real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real_clock_gettime(clock, time);
    if (result != 0 || control == NULL) return result;
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int is_monotonic =
        clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
    if (!is_wall && !is_monotonic) return 0;
    int64_t ahead, drift, anchor, drifted, before;
    do {
        before = control->sequence;
        __sync_synchronize();
        ahead = control->wall_ahead_ns;
        drift = control->drift_ppm;
        anchor = control->anchor_ns;
        drifted = control->drifted_ns;
        __sync_synchronize();
    } while ((before & 1) || before != control->sequence);
    if (ahead == 0 && drift == 0 && drifted == 0) return 0;
    struct timespec real;
    real_clock_gettime(CLOCK_MONOTONIC, &real);
    int64_t since = nanoseconds(&real) - anchor;
    int64_t told = nanoseconds(time) + drifted + since / 1000000 * drift;
    if (is_wall) told += ahead;
    time->tv_sec = told / 1000000000;
    time->tv_nsec = told % 1000000000;
    return 0;
}

/* Whether this sync is to fail; waits first if it is to be slow. */
static int sync_fails(void) {
    if (control == NULL) return 0;
    int64_t delay = control->sync_delay_us;
    if (delay > 0) usleep((useconds_t)delay);
    int64_t error = control->sync_errno;
    if (error != 0) errno = (int)error;
    return error != 0;
}

int fsync(int file) { return sync_fails() ? -1 : real_fsync(file); }

int fdatasync(int file) { return sync_fails() ? -1 : real_fdatasync(file); }
