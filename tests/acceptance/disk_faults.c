/* A disk that fails: the n-th change of files whose path begins in a certain way. Preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char prefix[4096];
static long left = -1;    /* changes until one fails; -1: none does */
static int error, forever; /* what it says, and whether all after it fail, too */
static int fired;

void disk_fails(const char *path, long at, int number, int from_then_on) {
    snprintf(prefix, sizeof prefix, "%s", path);
    left = at; error = number; forever = from_then_on; fired = 0;
}

int disk_failed(void) { return fired; }

static int fails(int file) {
    char link[64], path[4096];
    ssize_t length;
    if (left < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, prefix, strlen(prefix)) != 0) return 0;
    if (left > 1) { left--; return 0; }
    if (!forever) left = -1;
    fired++;
    errno = error;
    return 1;
}

#define REAL(name, type) \
    static __typeof__(type) real; \
    if (!real) real = (__typeof__(type))dlsym(RTLD_NEXT, name)

ssize_t write(int file, const void *data, size_t size) {
    REAL("write", ssize_t (*)(int, const void *, size_t));
    return fails(file) ? -1 : real(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    REAL("pwrite", ssize_t (*)(int, const void *, size_t, off_t));
    return fails(file) ? -1 : real(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL("pwrite64", ssize_t (*)(int, const void *, size_t, off64_t));
    return fails(file) ? -1 : real(file, data, size, at);
}

int fsync(int file) {
    REAL("fsync", int (*)(int));
    return fails(file) ? -1 : real(file);
}

int fdatasync(int file) {
    REAL("fdatasync", int (*)(int));
    return fails(file) ? -1 : real(file);
}

int ftruncate(int file, off_t size) {
    REAL("ftruncate", int (*)(int, off_t));
    return fails(file) ? -1 : real(file, size);
}

int ftruncate64(int file, off64_t size) {
    REAL("ftruncate64", int (*)(int, off64_t));
    return fails(file) ? -1 : real(file, size);
}
