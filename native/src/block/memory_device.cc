#include "block/memory_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "block/file_handle.h"

namespace pando {

Result<std::unique_ptr<MemoryDevice>> MemoryDevice::Open(uint64_t capacity) {
  void* base = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return SystemError("mmap", errno);
  return std::unique_ptr<MemoryDevice>(new MemoryDevice(static_cast<std::byte*>(base), capacity));
}

MemoryDevice::~MemoryDevice() { ::munmap(base_, capacity_); }

int64_t MemoryDevice::Execute(BlockRequest& request) {
  if (request.op == BlockRequest::Op::kFlush) return 0;
  if (request.op == BlockRequest::Op::kAllocate) {
    if (request.offset + request.length > capacity_) return -ENOSPC;
    size_ = std::max(size_, request.offset + request.length);
    return 0;
  }
  int64_t moved = 0;
  uint64_t offset = request.offset;
  for (size_t i = 0; i < request.part_count; ++i) {
    const iovec& part = request.parts[i];
    if (offset > size_) break;
    const uint64_t step = std::min<uint64_t>(part.iov_len, size_ - offset);
    if (request.op == BlockRequest::Op::kRead) {
      std::memcpy(part.iov_base, base_ + offset, step);
    } else {
      std::memcpy(base_ + offset, part.iov_base, step);
    }
    offset += step;
    moved += static_cast<int64_t>(step);
  }
  return moved;
}

size_t MemoryDevice::Poll(uint64_t wait_us) {
  // Only what was there at entry: `done` submits more, and the caller wants its turn.
  size_t count = waiting_.size();
  if (count == 0 && wait_us > 0) {
    std::unique_lock lock(mutex_);
    wake_.wait_until(lock, std::chrono::system_clock::now() + std::chrono::microseconds(wait_us),
                     [this] { return woken_; });
    woken_ = false;
    return 0;
  }
  for (size_t i = 0; i < count; ++i) {
    BlockRequest* request = waiting_.Pop();
    request->result = Execute(*request);
    request->done(request);
  }
  return count;
}

void MemoryDevice::Wake() {
  const std::lock_guard lock(mutex_);
  woken_ = true;
  wake_.notify_one();
}

}  // namespace pando
