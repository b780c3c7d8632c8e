#ifndef PANDO_BLOCK_FILE_HANDLE_H_
#define PANDO_BLOCK_FILE_HANDLE_H_

#include <cstdint>
#include <utility>

#include "block/block_device.h"
#include "pando/result.h"

namespace pando {

/// Owns a file descriptor.
class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int fd) : fd_(fd) {}
  FileHandle(FileHandle&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileHandle() { Reset(); }
  void Reset();
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

/// Opens for direct I/O; where the file system refuses that (tmpfs, some overlays), opens buffered
/// and says so in the log: durable writes stay durable, they only take the page cache along.
[[nodiscard]] Result<FileHandle> OpenForDirectIo(const FileDeviceOptions& options);

/// Of a regular file or a block device.
[[nodiscard]] Result<uint64_t> SizeOf(int fd);

[[nodiscard]] Error SystemError(std::string_view what, int error_number);

}  // namespace pando

#endif  // PANDO_BLOCK_FILE_HANDLE_H_
