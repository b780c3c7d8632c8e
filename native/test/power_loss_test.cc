// Power fails while several batches are at the device, and of those a later one alone arrived: it must not be met again
// by the life after the next, when its numbers have been given to others.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "support/holding_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr uint64_t kFirstUnacknowledged = 1000000;

class PowerLossTest : public testing::Test {
 protected:
  void Start(const StoreOptions& options) {
    device_ = std::make_unique<HoldingDevice>(
        kDataOffset + uint64_t{options.capacity_segments} * options.segment_pages * kPageBytes);
    harness_ = std::make_unique<StoreHarness>(*device_, options);
    harness_->Format();
    harness_->Open();
  }

  /// Page of its segment that a request begins at.
  [[nodiscard]] uint64_t PageOf(const BlockRequest& request) const {
    return request.offset < kDataOffset
               ? ~uint64_t{0}
               : (request.offset - kDataOffset) / kPageBytes % harness_->options.segment_pages;
  }

  void Put(size_t length) {
    ASSERT_EQ(harness_->Put(acknowledged_.size(), length), ErrorCode::kOk);
    acknowledged_.push_back(length);
  }

  using Puts = std::vector<std::unique_ptr<TestRequest>>;
  /// All at once, so that several batches are at the device and none of them vouches for the one before.
  Puts PutTogether(uint64_t first, size_t count, size_t length) {
    Puts puts;
    for (uint64_t number = first; number < first + count; ++number) {
      auto& put = puts.emplace_back(
          std::make_unique<TestRequest>(PortOp::kPut, MakeId(number), length));
      const Bytes bytes = MakeBytes(number, length);
      std::copy(bytes.begin(), bytes.end(), put->buffer.data());
      put->request.length = static_cast<uint32_t>(length);
      harness_->Submit(*put);
    }
    for (int turn = 0; turn < 100; ++turn) harness_->Turn();
    return puts;
  }

  /// Puts of which the device keeps what `lost` does not name; then the power goes.
  void LosePower(size_t count, size_t length,
                 const std::function<bool(const BlockRequest&)>& lost) {
    device_->holds = lost;
    const Puts puts = PutTogether(kFirstUnacknowledged, count, length);
    ASSERT_GT(device_->held(), 0U);
    device_->FailHeld();
    harness_->Kill();
    device_->holds = nullptr;
    for (const auto& put : puts) {
      // A write into the segment before may have been acknowledged.
      if (put->request.status == ErrorCode::kOk) ++others_;
    }
  }

  void ExpectTheAcknowledgedAndNothingElse() {
    EXPECT_EQ(harness_->store().Stats().recovery_lost_batches, 0U) << "a false alarm";
    EXPECT_EQ(harness_->store().Stats().chunks, acknowledged_.size() + others_);
    for (uint64_t i = 0; i < acknowledged_.size(); ++i) {
      EXPECT_TRUE(harness_->IsWhole(i, acknowledged_[i])) << "acknowledged chunk " << i;
    }
  }

  std::unique_ptr<HoldingDevice> device_;
  std::unique_ptr<StoreHarness> harness_;
  std::vector<size_t> acknowledged_;  // lengths of chunks 0, 1, ...
  size_t others_ = 0;
};

TEST_F(PowerLossTest, ALargeBatchFarBehindTheLostStartOfANewSegmentNeverComesBack) {
  StoreOptions options = SmallOptions();
  options.segment_pages = 16384;
  options.checkpoint_log_bytes = 1ULL << 40U;
  options.capacity_segments = 12;
  Start(options);
  constexpr uint64_t kBatchPages = 1 + kMaxChunkBytes / kPageBytes;
  LosePower(3, kMaxChunkBytes,
            [this](const BlockRequest& request) { return PageOf(request) < 2 * kBatchPages; });
  harness_->Open();
  for (const auto& put : PutTogether(0, 16, 100000)) {
    ASSERT_TRUE(put->done && put->request.status == ErrorCode::kOk);
    acknowledged_.push_back(100000);
  }
  harness_->Kill();
  for (int start = 0; start < 2; ++start) {
    harness_->Open();
    ExpectTheAcknowledgedAndNothingElse();
    harness_->Kill();
  }
}

TEST_F(PowerLossTest, ABatchBehindTheLostStartOfASegmentThatIsUsedAgainNeverComesBack) {
  StoreOptions options = SmallOptions();
  options.checkpoint_log_bytes = 1ULL << 40U;
  options.collect_in_background = false;
  Start(options);
  // All of it is deleted, so that segments are free which hold old batches.
  for (uint64_t i = 0; i < 60; ++i) {
    ASSERT_EQ(harness_->Put(kFirstUnacknowledged + 100 + i, 20000), ErrorCode::kOk);
  }
  for (uint64_t i = 0; i < 60; ++i) {
    ASSERT_EQ(harness_->Delete(kFirstUnacknowledged + 100 + i), ErrorCode::kOk);
  }
  while (harness_->Collect() > 0) {
  }
  const auto used = [this] { return harness_->store().Stats().segments_used; };
  // Up to just before the next segment.
  const auto open = [this]() -> const Segment& {
    const auto& segments = harness_->partition().segments;
    return *std::max_element(segments.begin(), segments.end(), [](const auto& a, const auto& b) {
      return a.first_sequence < b.first_sequence;
    });
  };
  while (open().next_page + 12 < harness_->partition().log_pages()) Put(100);
  LosePower(12, 20000, [this](const BlockRequest& request) { return PageOf(request) == 0; });
  harness_->Open();
  const uint64_t before = used();
  while (used() == before) Put(20000);
  Put(100);
  harness_->Kill();
  for (int start = 0; start < 2; ++start) {
    harness_->Open();
    ExpectTheAcknowledgedAndNothingElse();
    harness_->Kill();
  }
}

}  // namespace
}  // namespace pando
