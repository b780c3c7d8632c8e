#include "block/file_handle.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pando {

void FileHandle::Reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Error SystemError(std::string_view what, int error_number) {
  ErrorCode code = ErrorCode::kIoError;
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == ENOMEM) {
    code = ErrorCode::kInsufficientStorage;
  }
  char text[128] = {};
  const char* message = ::strerror_r(error_number, text, sizeof text);
  return Error{code, std::string(what) + ": " + message};
}

Result<FileHandle> OpenForDirectIo(const FileDeviceOptions& options) {
  int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  if (options.create) flags |= O_CREAT | O_EXCL;
  int fd = ::open(options.path.c_str(), flags | O_DIRECT, 0600);
  if (fd < 0 && errno == EINVAL) {
    if (options.log) {
      options.log(LogLevel::kWarn,
                  options.path + ": no direct I/O here, going through the page cache");
    }
    // The first attempt may have created the file before it failed.
    if (options.create) ::unlink(options.path.c_str());
    fd = ::open(options.path.c_str(), flags, 0600);
  }
  if (fd < 0) return SystemError("open " + options.path, errno);
  return FileHandle(fd);
}

Result<uint64_t> SizeOf(int fd) {
  struct stat info = {};
  if (::fstat(fd, &info) != 0) return SystemError("fstat", errno);
  if (S_ISBLK(info.st_mode)) {
    uint64_t size = 0;
    if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return SystemError("BLKGETSIZE64", errno);
    return size;
  }
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace pando
