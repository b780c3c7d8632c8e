// Power loss for real processes. Preloaded into a process, it keeps beside every write to a file below
// $POWER_LOSS_DIR what stood there before, until an fsync or fdatasync of that file (or the write itself, when it
// is O_DSYNC or RWF_DSYNC) has made it durable. After a kill -9, restore.ts decides for every 512-byte sector that was
// not yet durable which of the versions it has held since its last sync is the one that "reached the disk".
//
// The journal ($POWER_LOSS_JOURNAL) is a run of records, little-endian, each
//   u32 kind, u32 file, u64 index, u64 value, then `value` bytes for FILE and PAGE records
// kinds: 1 FILE (path), 2 PAGE (old content of page `index`, value = 4096), 3 SIZE (index = old size), 4 SYNC (all
// records of the file numbered below `index` are durable), 5 PAGE_SYNC (pages index .. value are durable).
// What it cannot see: io_uring and mmap writes (so the store runs with its posix back end), renames, unlinks.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kFile = 1, kPage, kSize, kSync, kPageSync };
enum { kPageBytes = 4096, kMaxFds = 4096, kMaxFiles = 4096 };

struct record {
  uint32_t kind, file;
  uint64_t index, value;
};

struct file {
  char path[PATH_MAX];
  dev_t dev;
  ino_t ino;
  int reader;  // own buffered descriptor: the caller's may be write-only or O_DIRECT
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file* files;
static uint32_t file_count;
static int fd_file[kMaxFds];  // file + 1, 0: not ours
static int fd_sync[kMaxFds];
static int journal = -1;
static uint64_t records;
static char root[PATH_MAX];

#define REAL(name) __typeof__(name)* real = (__typeof__(name)*)dlsym(RTLD_NEXT, #name)

static void die(const char* what) {
  perror(what);
  abort();
}

static void append(const struct record* r, const void* bytes, size_t length) {
  static ssize_t (*real_writev)(int, const struct iovec*, int);
  if (!real_writev) real_writev = (ssize_t(*)(int, const struct iovec*, int))dlsym(RTLD_NEXT, "writev");
  struct iovec v[2] = {{(void*)r, sizeof *r}, {(void*)bytes, length}};
  if (real_writev(journal, v, 2) != (ssize_t)(sizeof *r + length)) die("power-loss journal");
  records++;
}

static void start(void) {
  static int started;
  if (started) return;
  started = 1;
  const char* dir = getenv("POWER_LOSS_DIR");
  const char* path = getenv("POWER_LOSS_JOURNAL");
  if (!dir || !path || !realpath(dir, root)) return;
  files = calloc(kMaxFiles, sizeof *files);
  int (*real_open)(const char*, int, ...) = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, "open");
  journal = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (journal < 0 || !files) die("power-loss journal");
}

static void opened(int fd, int flags) {
  if (fd < 0 || fd >= kMaxFds) return;
  pthread_mutex_lock(&lock);
  start();
  fd_file[fd] = 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = journal >= 0 && (flags & O_ACCMODE) != O_RDONLY ? readlink(link, path, sizeof path - 1) : -1;
  struct stat s;
  if (n > 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) {
    path[n] = 0;
    size_t length = strlen(root);
    if (strncmp(path, root, length) == 0 && path[length] == '/') {
      uint32_t f = 0;
      while (f < file_count && (files[f].ino != s.st_ino || files[f].dev != s.st_dev)) f++;
      if (f == file_count) {
        if (f == kMaxFiles) die("power-loss: too many files");
        int (*real_open)(const char*, int, ...) = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, "open");
        strcpy(files[f].path, path);
        files[f].dev = s.st_dev;
        files[f].ino = s.st_ino;
        files[f].reader = real_open(path, O_RDONLY | O_CLOEXEC);
        if (files[f].reader < 0) die("power-loss reader");
        struct record r = {kFile, f, 0, (uint64_t)n};
        append(&r, path, (size_t)n);
        file_count++;
      }
      fd_file[fd] = (int)f + 1;
      fd_sync[fd] = (flags & (O_DSYNC | O_SYNC)) != 0;
    }
  }
  pthread_mutex_unlock(&lock);
}

static int ours(int fd) { return fd >= 0 && fd < kMaxFds && fd_file[fd] ? fd_file[fd] : 0; }

// REQUIRES lock. Keeps what the pages of [offset, offset + length) hold now, and the size if it will grow.
static void keep(int f, uint64_t offset, uint64_t length) {
  struct stat s;
  if (fstat(files[f].reader, &s) != 0) die("power-loss fstat");
  if (offset + length > (uint64_t)s.st_size) {
    struct record r = {kSize, (uint32_t)f, (uint64_t)s.st_size, 0};
    append(&r, "", 0);
  }
  static ssize_t (*real_pread)(int, void*, size_t, off_t);
  if (!real_pread) real_pread = (ssize_t(*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
  for (uint64_t page = offset / kPageBytes; page * kPageBytes < offset + length; page++) {
    char old[kPageBytes] = {0};
    if (real_pread(files[f].reader, old, sizeof old, (off_t)(page * kPageBytes)) < 0) die("power-loss pread");
    struct record r = {kPage, (uint32_t)f, page, kPageBytes};
    append(&r, old, sizeof old);
  }
}

static void durable_pages(int f, uint64_t offset, uint64_t length) {
  if (length == 0) return;
  struct record r = {kPageSync, (uint32_t)f, offset / kPageBytes, (offset + length - 1) / kPageBytes};
  append(&r, "", 0);
}

static uint64_t total(const struct iovec* v, int n) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum += v[i].iov_len;
  return sum;
}

// The write happens under the lock, so that journal order is write order.
#define GUARDED(fd, offset, length, sync, call)                    \
  int f = ours(fd) - 1;                                            \
  if (f < 0) return call;                                          \
  pthread_mutex_lock(&lock);                                       \
  uint64_t at = (uint64_t)(offset);                                \
  keep(f, at, (uint64_t)(length));                                 \
  ssize_t done = call;                                             \
  if (done > 0 && (sync)) durable_pages(f, at, (uint64_t)done);    \
  int saved = errno;                                               \
  pthread_mutex_unlock(&lock);                                     \
  errno = saved;                                                   \
  return done

static uint64_t position(int fd) {
  int flags = fcntl(fd, F_GETFL);
  struct stat s;
  if ((flags & O_APPEND) && fstat(fd, &s) == 0) return (uint64_t)s.st_size;
  return (uint64_t)lseek(fd, 0, SEEK_CUR);
}

ssize_t pwrite(int fd, const void* b, size_t n, off_t o) {
  REAL(pwrite);
  GUARDED(fd, o, n, fd_sync[fd], real(fd, b, n, o));
}
ssize_t pwrite64(int fd, const void* b, size_t n, off64_t o) {
  REAL(pwrite64);
  GUARDED(fd, o, n, fd_sync[fd], real(fd, b, n, o));
}
ssize_t pwritev(int fd, const struct iovec* v, int n, off_t o) {
  REAL(pwritev);
  GUARDED(fd, o, total(v, n), fd_sync[fd], real(fd, v, n, o));
}
ssize_t pwritev64(int fd, const struct iovec* v, int n, off64_t o) {
  REAL(pwritev64);
  GUARDED(fd, o, total(v, n), fd_sync[fd], real(fd, v, n, o));
}
ssize_t pwritev2(int fd, const struct iovec* v, int n, off_t o, int flags) {
  REAL(pwritev2);
  GUARDED(fd, o, total(v, n), fd_sync[fd] || (flags & (RWF_DSYNC | RWF_SYNC)), real(fd, v, n, o, flags));
}
ssize_t pwritev64v2(int fd, const struct iovec* v, int n, off64_t o, int flags) {
  REAL(pwritev64v2);
  GUARDED(fd, o, total(v, n), fd_sync[fd] || (flags & (RWF_DSYNC | RWF_SYNC)), real(fd, v, n, o, flags));
}
ssize_t write(int fd, const void* b, size_t n) {
  REAL(write);
  GUARDED(fd, position(fd), n, fd_sync[fd], real(fd, b, n));
}
ssize_t writev(int fd, const struct iovec* v, int n) {
  REAL(writev);
  GUARDED(fd, position(fd), total(v, n), fd_sync[fd], real(fd, v, n));
}

static int truncated(int fd, uint64_t size) {
  int f = ours(fd) - 1;
  if (f < 0) return 0;
  pthread_mutex_lock(&lock);
  struct stat s;
  if (fstat(fd, &s) == 0 && (uint64_t)s.st_size > size) {
    keep(f, size, (uint64_t)s.st_size - size);
  }
  struct record r = {kSize, (uint32_t)f, (uint64_t)s.st_size, 0};
  append(&r, "", 0);
  pthread_mutex_unlock(&lock);
  return 0;
}
int ftruncate(int fd, off_t size) {
  REAL(ftruncate);
  truncated(fd, (uint64_t)size);
  return real(fd, size);
}
int ftruncate64(int fd, off64_t size) {
  REAL(ftruncate64);
  truncated(fd, (uint64_t)size);
  return real(fd, size);
}

#define SYNCED(call)                                     \
  int f = ours(fd) - 1;                                  \
  pthread_mutex_lock(&lock);                             \
  uint64_t before = records;                             \
  pthread_mutex_unlock(&lock);                           \
  int result = call;                                     \
  if (f >= 0 && result == 0) {                           \
    pthread_mutex_lock(&lock);                           \
    struct record r = {kSync, (uint32_t)f, before, 0};   \
    append(&r, "", 0);                                   \
    pthread_mutex_unlock(&lock);                         \
  }                                                      \
  return result

int fsync(int fd) {
  REAL(fsync);
  SYNCED(real(fd));
}
int fdatasync(int fd) {
  REAL(fdatasync);
  SYNCED(real(fd));
}

#define OPENED(name, call)                                    \
  int mode = 0;                                               \
  if (flags & (O_CREAT | O_TMPFILE)) {                        \
    va_list a;                                                \
    va_start(a, flags);                                       \
    mode = va_arg(a, int);                                    \
    va_end(a);                                                \
  }                                                           \
  REAL(name);                                                 \
  int fd = call;                                              \
  int saved = errno;                                          \
  opened(fd, flags);                                          \
  errno = saved;                                              \
  return fd

int open(const char* path, int flags, ...) { OPENED(open, real(path, flags, mode)); }
int open64(const char* path, int flags, ...) { OPENED(open64, real(path, flags, mode)); }
int openat(int dir, const char* path, int flags, ...) { OPENED(openat, real(dir, path, flags, mode)); }
int openat64(int dir, const char* path, int flags, ...) { OPENED(openat64, real(dir, path, flags, mode)); }

int close(int fd) {
  REAL(close);
  if (fd >= 0 && fd < kMaxFds) fd_file[fd] = 0;
  return real(fd);
}
