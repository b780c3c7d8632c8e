#include "support/simulated_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pando {

SimulatedDevice::SimulatedDevice(std::shared_ptr<Medium> medium, uint64_t capacity, uint64_t seed)
    : medium_(std::move(medium)), capacity_(capacity), random_(seed), current_(medium_->bytes) {}

SimulatedDevice::Write SimulatedDevice::CopyOf(const BlockRequest& request) {
  Write write;
  write.offset = request.offset;
  for (size_t i = 0; i < request.part_count; ++i) {
    const auto* from = static_cast<const std::byte*>(request.parts[i].iov_base);
    write.bytes.insert(write.bytes.end(), from, from + request.parts[i].iov_len);
  }
  return write;
}

void SimulatedDevice::Submit(BlockRequest* request) {
  if (request->op == BlockRequest::Op::kWrite && writes_++ >= crash_at_) crashed_ = true;
  queue_.push_back(request);
}

void SimulatedDevice::ApplyTo(std::vector<std::byte>& image, const Write& write) const {
  if (write.offset + write.bytes.size() > image.size()) return;
  std::copy(write.bytes.begin(), write.bytes.end(),
            image.begin() + static_cast<std::ptrdiff_t>(write.offset));
}

int64_t SimulatedDevice::Execute(BlockRequest& request) {
  switch (request.op) {
    case BlockRequest::Op::kFlush:
      for (const Write& write : cached_) ApplyTo(medium_->bytes, write);
      cached_.clear();
      return 0;
    case BlockRequest::Op::kAllocate:
      if (request.offset + request.length > capacity_) return -ENOSPC;
      if (request.offset + request.length > current_.size()) {
        current_.resize(request.offset + request.length);
        medium_->bytes.resize(current_.size());
      }
      return 0;
    case BlockRequest::Op::kRead: {
      if (request.offset + request.length > current_.size()) return 0;
      uint64_t at = request.offset;
      for (size_t i = 0; i < request.part_count; ++i) {
        std::memcpy(request.parts[i].iov_base, current_.data() + at, request.parts[i].iov_len);
        at += request.parts[i].iov_len;
      }
      return static_cast<int64_t>(request.length);
    }
    case BlockRequest::Op::kWrite: {
      Write write = CopyOf(request);
      ApplyTo(current_, write);
      if (request.durable) {
        ApplyTo(medium_->bytes, write);
      } else {
        cached_.push_back(std::move(write));
      }
      return static_cast<int64_t>(request.length);
    }
  }
  return -EINVAL;
}

size_t SimulatedDevice::Poll(uint64_t) {
  if (off_) {
    // Whoever still waits learns that nothing happened.
    std::vector<BlockRequest*> failed;
    failed.swap(queue_);
    for (BlockRequest* request : failed) {
      request->result = -EIO;
      request->done(request);
    }
    return failed.size();
  }
  if (crashed_) return 0;
  // Some of what is queued, in any order.
  const size_t count = queue_.empty() ? 0 : 1 + random_() % queue_.size();
  for (size_t i = 0; i < count && !crashed_; ++i) {
    const size_t pick = random_() % queue_.size();
    BlockRequest* request = queue_[pick];
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(pick));
    request->result = Execute(*request);
    request->done(request);
  }
  return count;
}

void SimulatedDevice::Tear(const Write& write) {
  Write torn = write;
  // Whole sectors arrive or do not; the rest keeps what was there.
  for (size_t at = 0; at < torn.bytes.size(); at += 512) {
    if (random_() % 2 == 0) continue;
    const uint64_t offset = torn.offset + at;
    if (offset + 512 > medium_->bytes.size()) continue;
    std::memcpy(torn.bytes.data() + at, medium_->bytes.data() + offset, 512);
  }
  ApplyTo(medium_->bytes, torn);
}

void SimulatedDevice::PowerOff() {
  std::vector<Write> open = std::move(cached_);
  cached_.clear();
  for (const BlockRequest* request : queue_) {
    if (request->op == BlockRequest::Op::kWrite) open.push_back(CopyOf(*request));
  }
  crashed_ = off_ = true;
  if (drop_all_) return;
  std::shuffle(open.begin(), open.end(), random_);
  for (const Write& write : open) {
    switch (random_() % 3) {
      case 0:
        break;
      case 1:
        ApplyTo(medium_->bytes, write);
        break;
      default:
        Tear(write);
        break;
    }
  }
}

}  // namespace pando
