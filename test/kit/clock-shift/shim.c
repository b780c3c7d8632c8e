// A wall clock that a test sets while the process runs. Preloaded into a process, it adds the number of nanoseconds in the file
// $CLOCK_SHIFT_FILE (one i64, little-endian, mapped) to every answer of the real-time clock. The monotonic clocks, which timers and
// leases go by, stay as they are, as when somebody sets the clock of a machine. What it cannot see: system calls made without libc.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t* shift;
static int (*real_clock_gettime)(clockid_t, struct timespec*);

__attribute__((constructor)) static void open_shift(void) {
  real_clock_gettime = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  const char* path = getenv("CLOCK_SHIFT_FILE");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void* at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (at != MAP_FAILED) shift = at;
}

static int shifted(clockid_t id, struct timespec* out) {
  // Somebody may ask before the constructor has run.
  if (!real_clock_gettime) open_shift();
  int result = real_clock_gettime(id, out);
  if (result != 0 || !shift || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return result;
  int64_t ns = __atomic_load_n(shift, __ATOMIC_RELAXED) + (int64_t)out->tv_sec * 1000000000 + out->tv_nsec;
  out->tv_sec = ns / 1000000000;
  out->tv_nsec = ns % 1000000000;
  return 0;
}

int clock_gettime(clockid_t id, struct timespec* out) { return shifted(id, out); }

int gettimeofday(struct timeval* restrict out, void* restrict zone) {
  (void)zone;
  struct timespec now;
  int result = shifted(CLOCK_REALTIME, &now);
  if (result != 0) return result;
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* out) {
  struct timespec now;
  if (shifted(CLOCK_REALTIME, &now) != 0) return (time_t)-1;
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
