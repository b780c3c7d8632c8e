#include "store/grower.h"

#include <algorithm>
#include <cerrno>

namespace pando {

void Grower::Pump(bool urgent) {
  if (running_ || partition_.offline || partition_.closing) return;
  if (partition_.full) {
    // Somebody may have made room. Until a segment has come of it the store stays full: what was let in meanwhile would hang.
    if (partition_.Now() - refused_us_ < kLookAgainUs) return;
  } else if (partition_.ungrown_segments() == 0 ||
             (!urgent && partition_.free_segments() >= partition_.options.grow_ahead_segments)) {
    return;
  }
  running_ = true;
  Spawn(partition_.tasks, Grow());
}

Task<Status> Grower::MakeRange(BlockDevice& device, uint64_t offset, uint64_t bytes, Fill fill) {
  const int64_t allocated =
      co_await DeviceIo(device, BlockRequest::Op::kAllocate, offset, nullptr, bytes);
  const bool reserved = allocated != -EOPNOTSUPP;
  if (allocated < 0 && reserved) {
    const bool no_room = allocated == -ENOSPC || allocated == -EFBIG || allocated == -EDQUOT;
    co_return Error{no_room ? ErrorCode::kInsufficientStorage : ErrorCode::kIoError,
                    "cannot allocate a segment (errno " + std::to_string(-allocated) + ")"};
  }
  if (!device.wants_prewrite()) co_return Status();
  constexpr uint64_t kStep = 1 << 20;
  const uint64_t to_write = fill == Fill::kZeros || !reserved ? bytes : 0;
  AlignedBuffer zeros(to_write > 0 ? kStep : kPageBytes);
  for (uint64_t done = 0; done < to_write;) {
    const uint64_t step = std::min(kStep, to_write - done);
    const int64_t moved =
        co_await DeviceIo(device, BlockRequest::Op::kWrite, offset + done, zeros.data(), step);
    if (moved != static_cast<int64_t>(step)) {
      const bool no_room = moved == -ENOSPC || moved == -EDQUOT;
      co_return Error{no_room ? ErrorCode::kInsufficientStorage : ErrorCode::kIoError,
                      "cannot pre-write a segment (result " + std::to_string(moved) + ")"};
    }
    done += step;
  }
  const int64_t flushed = co_await DeviceIo(device, BlockRequest::Op::kFlush, 0, nullptr, 0);
  if (flushed < 0) {
    co_return Error{ErrorCode::kIoError,
                    "cannot flush a segment (errno " + std::to_string(-flushed) + ")"};
  }
  co_return Status();
}

Grower::Fill Grower::FillForRecentWrites() {
  // What one commit of the journal costs the device is about as much as writing so many bytes.
  constexpr uint64_t kLargeWriteBytes = 512 << 10;
  RecentWrites& recent = partition_.recent_puts;
  const bool large = recent.count > 0 && recent.bytes / recent.count >= kLargeWriteBytes;
  // Halved rather than forgotten: a moment without puts does not change the answer.
  recent = {(recent.count + 1) / 2, (recent.bytes + 1) / 2};
  return large ? Fill::kReserved : Fill::kZeros;
}

Task<void> Grower::Grow() {
  const auto next = static_cast<uint32_t>(partition_.segments.size());
  const Status status = co_await MakeRange(partition_.device, partition_.OffsetOf(next, 0),
                                           partition_.segment_bytes(), FillForRecentWrites());
  running_ = false;
  if (status.ok()) {
    partition_.AddSegment();
    if (partition_.full) partition_.Log(LogLevel::kInfo, "the device has room again");
    partition_.full = false;
  } else if (status.code() == ErrorCode::kInsufficientStorage) {
    refused_us_ = partition_.Now();
    if (!partition_.full) {
      partition_.Log(LogLevel::kWarn, status.error().message + "; staying at " +
                                          std::to_string(next) + " segments until there is room");
    }
    partition_.full = true;
  } else {
    partition_.GoOffline(status.error().message.c_str(), -EIO);
  }
}

}  // namespace pando
