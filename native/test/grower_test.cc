// What growing the store writes: zeros ahead of small puts, next to nothing ahead of large ones.
#include "store/grower.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "block/memory_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr uint32_t kSegmentPages = 1024;  // 4 MiB
constexpr uint64_t kSegmentBytes = uint64_t{kSegmentPages} * kPageBytes;
constexpr uint32_t kSegments = 24;
constexpr size_t kLarge = 1 << 20;
constexpr size_t kSmall = 16 << 10;

/// RAM that behaves as a file system does whose first write into a range is dear, and counts.
class CountingDevice final : public BlockDevice {
 public:
  CountingDevice() : inner_(std::move(MemoryDevice::Open((1 << 20) + kSegments * kSegmentBytes).value())) {}

  [[nodiscard]] uint64_t size() const override { return inner_->size(); }
  [[nodiscard]] bool wants_prewrite() const override { return true; }
  [[nodiscard]] std::string_view name() const override { return "counting"; }
  [[nodiscard]] size_t in_flight() const override { return inner_->in_flight() + held_.size(); }
  void Submit(BlockRequest* request) override {
    if (request->op == BlockRequest::Op::kWrite) written += request->length;
    if (request->op != BlockRequest::Op::kAllocate) return inner_->Submit(request);
    ++allocations;
    held_.Push(request);
  }
  size_t Poll(uint64_t wait_us) override {
    size_t finished = 0;
    for (size_t n = held_.size(); n > 0; --n, ++finished) Allocate(held_.Pop());
    return finished + inner_->Poll(finished > 0 ? 0 : wait_us);
  }
  void Wake() override { inner_->Wake(); }
  void Close() override { inner_->Close(); }

  uint64_t written = 0;
  uint64_t allocations = 0;
  bool can_allocate = true;
  bool has_room = true;

 private:
  void Allocate(BlockRequest* request) {
    BlockRequest copy;
    copy.op = BlockRequest::Op::kAllocate;
    copy.offset = request->offset;
    copy.length = request->length;
    copy.done = [](BlockRequest*) {};
    if (!has_room) {
      request->result = -ENOSPC;
      return request->done(request);
    }
    inner_->Submit(&copy);
    inner_->Poll(0);
    request->result = copy.result == 0 && !can_allocate ? -EOPNOTSUPP : copy.result;
    request->done(request);
  }

  std::unique_ptr<MemoryDevice> inner_;
  RequestQueue held_;
};

StoreOptions RoomyOptions() {
  StoreOptions options = SmallOptions();
  options.segment_pages = kSegmentPages;
  options.capacity_segments = kSegments;
  options.checkpoint_log_bytes = 1ULL << 40U;
  options.collect_in_background = false;
  return options;
}

class GrowerTest : public testing::Test {
 protected:
  void SetUp() override {
    harness_.Format();
    harness_.Open();
  }

  /// Puts `bytes` in chunks of `length`; bytes written to the device for each byte put.
  double WrittenPerByte(size_t length, uint64_t bytes) {
    const uint64_t before = device_.written;
    for (uint64_t put = 0; put < bytes; put += length) {
      EXPECT_EQ(harness_.Put(next_++, length), ErrorCode::kOk);
    }
    harness_.Settle();
    return static_cast<double>(device_.written - before) / static_cast<double>(bytes);
  }

  void ExpectAllWhole(size_t length) {
    for (uint64_t i = 0; i < next_; ++i) ASSERT_TRUE(harness_.IsWhole(i, length)) << i;
  }

  CountingDevice device_;
  StoreHarness harness_{device_, RoomyOptions()};
  uint64_t next_ = 0;
};

TEST_F(GrowerTest, SmallPutsFindTheirSegmentsWrittenWithZeros) {
  EXPECT_GT(WrittenPerByte(kSmall, 6 * kSegmentBytes), 1.9);
  ExpectAllWhole(kSmall);
}

TEST_F(GrowerTest, LargePutsAreNotWrittenTwice) {
  (void)WrittenPerByte(kLarge, kSegmentBytes);  // until the grower knows them
  const uint64_t allocations = device_.allocations;
  EXPECT_LT(WrittenPerByte(kLarge, 12 * kSegmentBytes), 1.1);
  EXPECT_GE(device_.allocations, allocations + 8) << "the space must be reserved all the same";
  ExpectAllWhole(kLarge);
}

TEST_F(GrowerTest, SmallPutsAfterLargeOnesFindZerosAgain) {
  (void)WrittenPerByte(kLarge, 4 * kSegmentBytes);
  (void)WrittenPerByte(kSmall, 4 * kSegmentBytes);
  EXPECT_GT(WrittenPerByte(kSmall, 4 * kSegmentBytes), 1.9);
}

TEST_F(GrowerTest, WhereNothingReservesSpaceTheZerosDo) {
  device_.can_allocate = false;
  (void)WrittenPerByte(kLarge, kSegmentBytes);
  EXPECT_GT(WrittenPerByte(kLarge, 8 * kSegmentBytes), 1.9);
  ExpectAllWhole(kLarge);
}

TEST_F(GrowerTest, AStoreWithoutRoomRefusesAndGoesOnByItselfWhenThereIsSome) {
  (void)WrittenPerByte(kLarge, 2 * kSegmentBytes);
  device_.has_room = false;
  ErrorCode last = ErrorCode::kOk;
  for (int i = 0; i < 200 && last == ErrorCode::kOk; ++i) {
    last = harness_.Put(next_, kLarge);
    if (last == ErrorCode::kOk) ++next_;
  }
  EXPECT_EQ(last, ErrorCode::kInsufficientStorage);
  harness_.Settle();
  const uint64_t refused = device_.allocations;
  EXPECT_EQ(harness_.Put(next_, kLarge), ErrorCode::kInsufficientStorage);
  EXPECT_EQ(device_.allocations, refused) << "a full device is not asked for each put";
  harness_.now_us += 1500000;
  harness_.Turn();
  harness_.Settle();
  EXPECT_EQ(harness_.Put(next_, kLarge), ErrorCode::kInsufficientStorage) << "still none";
  device_.has_room = true;
  harness_.now_us += 1500000;
  harness_.Turn();
  harness_.Settle();
  for (int i = 0; i < 8; ++i, ++next_) ASSERT_EQ(harness_.Put(next_, kLarge), ErrorCode::kOk) << i;
  EXPECT_TRUE(harness_.LogHas("has room again"));
  ExpectAllWhole(kLarge);
}

TEST_F(GrowerTest, AStoreThatGrewWithoutZerosIsWholeAfterADeath) {
  (void)WrittenPerByte(kLarge, 10 * kSegmentBytes);
  harness_.Kill();
  harness_.Open();
  ExpectAllWhole(kLarge);
}

}  // namespace
}  // namespace pando
