/* Loaded before libc (LD_PRELOAD): an fsync takes DELAY nanoseconds longer, as on a disk that is slower. The
 * core is free meanwhile, and several may wait at once, so programs that sync in parallel lose little by it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

typedef int sync_function(int);

static int delayed(const char *name, int file)
{
    struct timespec left = {DELAY / 1000000000L, DELAY % 1000000000L};
    while (nanosleep(&left, &left) != 0)
        ;
    return ((sync_function *)dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file)
{
    return delayed("fsync", file);
}

int fdatasync(int file)
{
    return delayed("fdatasync", file);
}
