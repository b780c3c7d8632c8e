// A device that fails to read while a store is opened: the open is refused, or nothing is missing. What could not be read
// is not taken for torn, since the next start may read it.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "block/faulty_device.h"
#include "block/memory_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr size_t kChunkBytes = 9000;
constexpr uint64_t kForever = 1ULL << 40U;

class ReadErrorTest : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = MemoryDevice::Open(64 << 20);
    ASSERT_TRUE(memory.ok());
    memory_ = memory.value().get();
    device_ = std::make_unique<FaultyDevice>(std::move(memory).value(), FaultPlan{});
    StoreOptions options = SmallOptions();
    options.segment_pages = 128;
    options.collect_in_background = false;
    options.checkpoint_log_bytes = 1ULL << 40U;
    harness_ = std::make_unique<StoreHarness>(*device_, options);
    harness_->Format();
    harness_->Open();
  }

  void Put(uint64_t first, uint64_t count) {
    for (uint64_t i = first; i < first + count; ++i) {
      ASSERT_EQ(harness_->Put(i, kChunkBytes), ErrorCode::kOk);
    }
  }
  void Delete(uint64_t first, uint64_t count) {
    for (uint64_t i = first; i < first + count; ++i) {
      ASSERT_EQ(harness_->Delete(i), ErrorCode::kOk);
    }
  }
  /// Several batches at once: none of them vouches for the others.
  void PutTogether(uint64_t first, uint64_t count) {
    std::vector<std::unique_ptr<TestRequest>> puts;
    for (uint64_t i = first; i < first + count; ++i) {
      auto& put = puts.emplace_back(
          std::make_unique<TestRequest>(PortOp::kPut, MakeId(i), kChunkBytes));
      const Bytes bytes = MakeBytes(i, kChunkBytes);
      std::copy(bytes.begin(), bytes.end(), put->buffer.data());
      put->request.length = kChunkBytes;
      harness_->Submit(*put);
    }
    harness_->Settle();
    for (const auto& put : puts) ASSERT_EQ(put->request.status, ErrorCode::kOk);
  }

  /// The process dies, and each read of the next open fails in turn: so often, and what it tells.
  void FailEachReadOfTheOpen(const std::vector<uint64_t>& present,
                             const std::vector<uint64_t>& absent) {
    harness_->Kill();
    const auto medium = memory_->medium();
    const Bytes image(medium.begin(), medium.end());
    const auto restore = [&] {
      const auto now = memory_->medium();
      std::copy(image.begin(), image.end(), now.begin());
      std::fill(now.begin() + static_cast<std::ptrdiff_t>(image.size()), now.end(), std::byte{0});
    };
    device_->SetPlan({});
    harness_->Open();
    const uint64_t reads = device_->seen(FaultOp::kRead);
    harness_->Kill();
    ASSERT_GT(reads, 10U);
    uint64_t refused = 0;
    for (const uint64_t times : {uint64_t{1}, uint64_t{2}, uint64_t{3}, kForever}) {
      for (uint64_t read = 0; read < reads && !testing::Test::HasFailure(); ++read) {
        SCOPED_TRACE("read " + std::to_string(read) + " of " + std::to_string(reads) +
                     " and those behind it fail, together " + std::to_string(times));
        restore();
        device_->SetPlan({1, {{FaultKind::kIoError, FaultOp::kRead, read, times}}});
        const Status status = harness_->TryOpen();
        device_->SetPlan({});
        if (status.ok()) {
          ASSERT_NE(times, kForever);
          ExpectAll(present, absent);
          harness_->Kill();
        } else {
          ++refused;
          ASSERT_EQ(status.code(), ErrorCode::kIoError) << status.error().message;
          ASSERT_NE(status.error().message.find("cannot read"), std::string::npos);
        }
        harness_->Open();
        ExpectAll(present, absent);
        harness_->Kill();
      }
    }
    EXPECT_GE(refused, reads) << "a device that reads no more is not opened";
  }

  void ExpectAll(const std::vector<uint64_t>& present, const std::vector<uint64_t>& absent) {
    EXPECT_EQ(harness_->store().Stats().recovery_lost_batches, 0U);
    for (const uint64_t i : present) ASSERT_TRUE(harness_->IsWhole(i, kChunkBytes)) << i;
    for (const uint64_t i : absent) {
      ASSERT_EQ(harness_->Has(i), ErrorCode::kChunkNotFound) << "deleted chunk " << i << " is back";
    }
  }

  /// The first segment of the users' puts that is like that, and was in use before if it is free.
  std::optional<uint32_t> Find(SegmentState state) {
    const auto& segments = harness_->partition().segments;
    for (uint32_t i = 0; i < segments.size(); ++i) {
      const Segment& segment = segments[i];
      if (segment.state == state && segment.stream == 0 && segment.generation > 0) return i;
    }
    return std::nullopt;
  }

  static std::vector<uint64_t> Numbers(uint64_t first, uint64_t count) {
    std::vector<uint64_t> numbers(count);
    for (uint64_t i = 0; i < count; ++i) numbers[i] = first + i;
    return numbers;
  }

  MemoryDevice* memory_ = nullptr;
  std::unique_ptr<FaultyDevice> device_;
  std::unique_ptr<StoreHarness> harness_;
};

TEST_F(ReadErrorTest, WithoutACheckpointAReadErrorAtStartLosesNothing) {
  Put(0, 12);
  PutTogether(12, 24);
  FailEachReadOfTheOpen(Numbers(0, 36), {});
}

TEST_F(ReadErrorTest, WithACheckpointAndSegmentsUsedAgainAReadErrorAtStartLosesNothing) {
  Put(0, 90);
  Delete(0, 70);
  harness_->Close();
  harness_->Open();
  for (int i = 0; i < 3; ++i) (void)harness_->Collect();
  Put(100, 30);
  Delete(100, 10);
  PutTogether(200, 24);
  auto present = Numbers(70, 20);
  for (const uint64_t i : Numbers(110, 20)) present.push_back(i);
  for (const uint64_t i : Numbers(200, 24)) present.push_back(i);
  auto absent = Numbers(0, 70);
  for (const uint64_t i : Numbers(100, 10)) absent.push_back(i);
  FailEachReadOfTheOpen(present, absent);
}

TEST_F(ReadErrorTest, APlaceThatStaysUnreadableInTheMiddleOfTheLogIsReportedAndTheRestIsServed) {
  for (const bool at_seal : {false, true}) {
    SCOPED_TRACE(at_seal ? "the last batch of a segment" : "a batch in the middle of a segment");
    harness_.reset();  // it uses the device, which goes next
    SetUp();
    Put(0, 100);
    const Segment& first = harness_->partition().segments[0];
    ASSERT_EQ(first.state, SegmentState::kSealed);
    const IndexEntry entry = *harness_->partition().index.Find(MakeId(5));
    const uint64_t page = at_seal ? kDataOffset / kPageBytes + first.next_page - 1
                                  : entry.address * kSlotBytes / kPageBytes - entry.header_distance;
    harness_->Kill();
    device_->SetUnreadable(page * kPageBytes, kPageBytes);
    harness_->Open();
    if (testing::Test::HasFailure()) return;
    EXPECT_EQ(harness_->store().Stats().recovery_lost_batches, 1U);
    EXPECT_EQ(harness_->store().Stats().recovery_discarded, 0U);
    for (uint64_t i = 0; i < 100; ++i) {
      EXPECT_EQ(harness_->IsWhole(i, kChunkBytes), at_seal || i != 5) << i;
    }
  }
}

TEST_F(ReadErrorTest, ASegmentInWhichABatchCannotBeReadIsNotFreedAndTheStoreCanBeOpenedAgain) {
  enum class Case { kFirstPage, kFirstPageWithDeletes, kInTheMiddle };
  for (const Case which : {Case::kFirstPage, Case::kFirstPageWithDeletes, Case::kInTheMiddle}) {
    SCOPED_TRACE(which == Case::kFirstPage ? "the first page, nothing in the segment is needed"
                 : which == Case::kInTheMiddle ? "a page in the middle"
                                               : "the first page, the segment holds deletes");
    const bool with_deletes = which != Case::kFirstPage;
    harness_.reset();  // it uses the device, which goes next
    SetUp();
    Put(0, 8);
    if (with_deletes) Delete(0, 4);
    Put(8, 92);
    const Segment& first = harness_->partition().segments[0];
    ASSERT_EQ(first.state, SegmentState::kSealed);
    const IndexEntry entry = *harness_->partition().index.Find(MakeId(6));
    const uint64_t page = entry.address * kSlotBytes / kPageBytes - entry.header_distance;
    device_->SetUnreadable(which == Case::kInTheMiddle ? page * kPageBytes : kDataOffset,
                           kPageBytes);
    harness_->Close();
    harness_->Open();
    if (testing::Test::HasFailure()) return;
    Delete(with_deletes ? 4 : 0, with_deletes ? 36 : 40);
    ASSERT_EQ(harness_->partition().segments[0].live_chunks, 0U);
    ASSERT_EQ(harness_->partition().segments[0].tombstones > 0, with_deletes);
    const uint32_t generation = harness_->partition().segments[0].generation;
    (void)harness_->Collect();
    for (const bool clean : {true, false}) {
      if (clean) {
        harness_->Close();
      } else {
        harness_->Kill();
      }
      const Status status = harness_->TryOpen();
      ASSERT_TRUE(status.ok()) << status.error().message;
      EXPECT_EQ(harness_->partition().segments[0].state, SegmentState::kSealed);
      EXPECT_EQ(harness_->partition().segments[0].generation, generation);
      ExpectAll(Numbers(40, 60), Numbers(0, 40));
      for (int i = 0; i < 3; ++i) (void)harness_->Collect();
    }
    EXPECT_TRUE(harness_->LogHas("is not used again"));
    EXPECT_EQ(harness_->store().Stats().segments_damaged, 1U);
  }
}

// What a tool makes of the disk that fills with zeros what it could not read.
TEST_F(ReadErrorTest, ACopyWithZerosForWhatCannotBeReadIsOpenedAndServesTheRest) {
  enum class Place { kEndOfLog, kFirstOfFree, kFirstOfUsed };
  for (const Place place : {Place::kEndOfLog, Place::kFirstOfFree, Place::kFirstOfUsed}) {
    SCOPED_TRACE(place == Place::kEndOfLog      ? "the page behind the end of the log"
                 : place == Place::kFirstOfFree ? "the first page of a free segment"
                                                : "the first page of a segment just begun");
    const bool at_end = place == Place::kEndOfLog;
    const bool in_use = place == Place::kFirstOfUsed;
    harness_.reset();  // it uses the device, which goes next
    SetUp();
    Put(0, 90);
    Delete(0, 70);
    for (int i = 0; i < 3; ++i) (void)harness_->Collect();
    harness_->Close();
    harness_->Open();
    ASSERT_TRUE(Find(SegmentState::kOpen) && Find(SegmentState::kFree));
    const uint32_t begun = *Find(SegmentState::kOpen);
    uint64_t last = 100;
    if (at_end) Put(last++, 1);
    // The last one begins a segment: nothing vouches for it, nor lies behind it.
    while (in_use && *Find(SegmentState::kOpen) == begun) Put(last++, 1);
    const uint32_t target =
        *Find(place == Place::kFirstOfFree ? SegmentState::kFree : SegmentState::kOpen);
    const uint64_t at = harness_->partition().OffsetOf(
        target, at_end ? harness_->partition().segments[target].next_page : 0);
    harness_->Kill();
    device_->SetUnreadable(at, kPageBytes);
    const auto medium = memory_->medium();
    const Bytes before(medium.begin(), medium.end());
    for (int start = 0; start < 2; ++start) {
      const Status status = harness_->TryOpen();
      ASSERT_FALSE(status.ok());
      EXPECT_EQ(status.code(), ErrorCode::kIoError);
      EXPECT_NE(status.error().message.find("nothing was changed"), std::string::npos);
      EXPECT_NE(status.error().message.find("with zeros"), std::string::npos);
      EXPECT_TRUE(std::equal(before.begin(), before.end(), memory_->medium().begin()));
    }
    device_->SetUnreadable(0, 0);
    std::ranges::fill(memory_->medium().subspan(at, kPageBytes), std::byte{0});
    for (int start = 0; start < 2; ++start) {
      harness_->Open();
      if (testing::Test::HasFailure()) return;
      auto present = Numbers(70, 20);
      for (const uint64_t i : Numbers(100, last - 100 - (in_use ? 1 : 0))) present.push_back(i);
      auto absent = Numbers(0, 70);
      if (in_use) absent.push_back(last - 1);  // it lay there
      ExpectAll(present, absent);
      Put(500 + static_cast<uint64_t>(start), 1);
      harness_->Kill();
    }
  }
}

}  // namespace
}  // namespace pando
