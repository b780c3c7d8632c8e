// The one interface to storage. Asynchronous, single-threaded (all calls but Wake from one thread),
// and dumb: offsets and pages, no knowledge of chunks.
#ifndef PANDO_BLOCK_BLOCK_DEVICE_H_
#define PANDO_BLOCK_BLOCK_DEVICE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "block/aligned_buffer.h"
#include "pando/data_plane.h"
#include "pando/result.h"

namespace pando {

/// Intrusive: lives in the structure of whoever waits for it, until `done` runs.
struct BlockRequest {
  enum class Op : uint8_t {
    kRead,
    kWrite,
    kFlush,     // every completed write becomes durable
    kAllocate,  // the range exists and reads as zeros where it was never written (on a bdev: as
                // what others left there); grows the device.
                // -EOPNOTSUPP: the range may be written, and only that makes sure of its space
  };
  static constexpr size_t kMaxParts = 2;

  Op op = Op::kRead;
  bool durable = false;  // kWrite: completes only when the bytes survive power loss
  uint8_t part_count = 0;
  uint64_t offset = 0;  // multiple of 4096, as is the sum of the parts
  uint64_t length = 0;  // kAllocate; set from the parts otherwise
  iovec parts[kMaxParts] = {};

  int64_t result = 0;  // bytes moved (0 for flush and allocate) or -errno
  void (*done)(BlockRequest*) = nullptr;
  void* context = nullptr;

  // The device's own, while it holds the request.
  BlockRequest* next = nullptr;
  uint64_t moved = 0;
  uint32_t pieces = 0;
  int failure = 0;

  void SetPart(void* data, size_t size) {
    parts[0] = {data, size};
    part_count = 1;
    length = size;
  }
  void AddPart(void* data, size_t size) {
    parts[part_count++] = {data, size};
    length += size;
  }
};

/// First in, first out, without allocation.
class RequestQueue {
 public:
  void Push(BlockRequest* request) {
    request->next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = request;
    tail_ = request;
    ++size_;
  }
  BlockRequest* Pop() {
    BlockRequest* request = head_;
    if (request == nullptr) return nullptr;
    head_ = request->next;
    if (head_ == nullptr) tail_ = nullptr;
    --size_;
    return request;
  }
  [[nodiscard]] size_t size() const { return size_; }

 private:
  BlockRequest* head_ = nullptr;
  BlockRequest* tail_ = nullptr;
  size_t size_ = 0;
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  /// Bytes that exist now.
  [[nodiscard]] virtual uint64_t size() const = 0;
  /// Bytes that it can grow to, as far as it knows.
  [[nodiscard]] virtual uint64_t capacity() const { return UINT64_MAX; }
  /// False when fresh ranges need no zeros written to make later durable writes cheap.
  [[nodiscard]] virtual bool wants_prewrite() const = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Takes the request; never calls `done` itself.
  virtual void Submit(BlockRequest* request) = 0;
  /// Starts what was submitted and runs `done` of what has finished. Waits up to `wait_us` when
  /// nothing has (0 = not at all); Wake ends the wait. Returns how many finished.
  virtual size_t Poll(uint64_t wait_us) = 0;
  /// Thread safe.
  virtual void Wake() = 0;
  /// Readable while Poll has something to finish; for a reactor that waits for other things too. -1:
  /// nothing finishes outside of Poll. Asked for once, on the thread that polls.
  [[nodiscard]] virtual int event_fd() { return -1; }
  /// event_fd() stays readable, and is to be watched for edges (EPOLLET): there is one whenever something has come that
  /// Poll would finish, and now and then one without.
  [[nodiscard]] virtual bool tells_edges() const { return false; }
  /// Requests that have not finished.
  [[nodiscard]] virtual size_t in_flight() const = 0;
  /// REQUIRES: in_flight() == 0.
  virtual void Close() = 0;
};

struct FileDeviceOptions {
  std::string path;
  bool create = false;
  LogSink log;
};

[[nodiscard]] Result<std::unique_ptr<BlockDevice>> OpenUringDevice(
    const FileDeviceOptions& options);
[[nodiscard]] Result<std::unique_ptr<BlockDevice>> OpenPosixDevice(
    const FileDeviceOptions& options);

}  // namespace pando

#endif  // PANDO_BLOCK_BLOCK_DEVICE_H_
