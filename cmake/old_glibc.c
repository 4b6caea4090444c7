// What a new compiler's libraries, and our own code, ask of the C library that older ones do not have. scripts/portable.sh
// puts it behind the older C library, so that it is linked where it is missed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define HIDDEN __attribute__((visibility("hidden")))

// glibc 2.32. Never true: counters are then always atomic.
HIDDEN char __libc_single_threaded = 0;

// glibc 2.30. An older one waits by the time of day alone, which may be set meanwhile: as libstdc++ does there.
HIDDEN int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                  const struct timespec* until) {
  typedef int Wait(pthread_cond_t*, pthread_mutex_t*, clockid_t, const struct timespec*);
  Wait* own = (Wait*)dlsym(RTLD_NEXT, "pthread_cond_clockwait");
  if (own != NULL) return own(condition, mutex, clock, until);
  struct timespec now, deadline;
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &deadline);
  const int64_t left = (until->tv_sec - now.tv_sec) * INT64_C(1000000000) + until->tv_nsec - now.tv_nsec;
  const int64_t nanoseconds = deadline.tv_nsec + (left > 0 ? left : 0);
  deadline.tv_sec += nanoseconds / 1000000000;
  deadline.tv_nsec = nanoseconds % 1000000000;
  return pthread_cond_timedwait(condition, mutex, &deadline);
}

// glibc 2.33. The older call has the same figures as int.
HIDDEN struct mallinfo2 mallinfo2(void) {
  typedef struct mallinfo2 Info(void);
  Info* own = (Info*)dlsym(RTLD_NEXT, "mallinfo2");
  if (own != NULL) return own();
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo old = mallinfo();
  struct mallinfo2 info = {0};
  info.arena = (unsigned)old.arena;
  info.hblkhd = (unsigned)old.hblkhd;
  return info;
}

// glibc 2.36.
HIDDEN uint32_t arc4random(void) {
  uint32_t number;
  if (getrandom(&number, sizeof(number), 0) != sizeof(number)) abort();
  return number;
}
