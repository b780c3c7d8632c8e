// A segment in which a batch header was lost: what still lives in it is moved out and the segment
// is used again, unless something in it cannot be read.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "block/faulty_device.h"
#include "block/memory_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr size_t kLength = 5000;

class SalvageTest : public testing::Test {
 protected:
  // Thirty chunks in a few segments; the header of number 10's batch rots before the checkpoint
  // knows of it, so that a restart finds an acknowledged batch unreadable.
  void SetUp() override {
    harness_.reset();  // it uses the device, which goes next
    auto memory = MemoryDevice::Open(64 << 20);
    ASSERT_TRUE(memory.ok());
    memory_ = memory.value().get();
    device_ = std::make_unique<FaultyDevice>(std::move(memory).value(), FaultPlan{});
    StoreOptions options = SmallOptions();
    options.collect_in_background = false;
    harness_ = std::make_unique<StoreHarness>(*device_, options);
    harness_->Format();
    harness_->Open();
    for (uint64_t i = 0; i < 30; ++i) ASSERT_EQ(harness_->Put(i, kLength), ErrorCode::kOk);
    const IndexEntry lost = *harness_->partition().index.Find(MakeId(10));
    damaged_ = harness_->partition().SegmentOf(lost);
    const uint64_t page = lost.address * kSlotBytes / kPageBytes - lost.header_distance;
    harness_->Kill();
    memory_->medium()[page * kPageBytes + 200] ^= std::byte{0x10};
    harness_->Open();
    ASSERT_EQ(harness_->store().Stats().recovery_lost_batches, 1U);
    ASSERT_EQ(harness_->store().Stats().segments_damaged, 1U);
    generation_ = Damaged().generation;
  }

  void TearDown() override { harness_.reset(); }

  const Segment& Damaged() { return harness_->partition().segments[damaged_]; }
  void CollectAll() {
    for (int i = 0; i < 20 && harness_->Collect() > 0; ++i) {
    }
  }
  void ExpectWhole(uint64_t except) {
    for (uint64_t i = 0; i < 30; ++i) {
      if (i != 10 && i != except) {
        EXPECT_TRUE(harness_->IsWhole(i, kLength)) << i;
      }
    }
  }

  MemoryDevice* memory_ = nullptr;
  std::unique_ptr<FaultyDevice> device_;
  std::unique_ptr<StoreHarness> harness_;
  uint32_t damaged_ = 0;
  uint32_t generation_ = 0;
};

TEST_F(SalvageTest, WhatLivesInADamagedSegmentIsMovedOutAndTheSegmentIsFreed) {
  EXPECT_FALSE(harness_->Scrub().empty());
  CollectAll();
  EXPECT_EQ(Damaged().state, SegmentState::kFree);
  EXPECT_EQ(harness_->store().Stats().segments_damaged, 0U);
  EXPECT_TRUE(harness_->Scrub().empty()) << "a place is reported that is no more";
  ExpectWhole(10);
  EXPECT_EQ(harness_->Has(10), ErrorCode::kChunkNotFound);
  for (const bool clean : {false, true}) {
    if (clean) {
      harness_->Close();
    } else {
      harness_->Kill();
    }
    harness_->Open();
    EXPECT_EQ(harness_->store().Stats().recovery_lost_batches, 0U);
    EXPECT_EQ(harness_->store().Stats().segments_damaged, 0U);
    ExpectWhole(10);
  }
  // It holds data again, and that survives as well.
  uint64_t next = 100;
  while (Damaged().state == SegmentState::kFree) {
    ASSERT_EQ(harness_->Put(next++, kLength), ErrorCode::kOk);
    ASSERT_LT(next, 2000U);
  }
  harness_->Kill();
  harness_->Open();
  ExpectWhole(10);
  for (uint64_t i = 100; i < next; ++i) EXPECT_TRUE(harness_->IsWhole(i, kLength)) << i;
}

TEST_F(SalvageTest, AChunkThatCannotBeReadHoldsItsSegmentUntilItIsWrittenAgain) {
  uint64_t rotten = 11;
  while (harness_->partition().SegmentOf(*harness_->partition().index.Find(MakeId(rotten))) !=
         damaged_) {
    ++rotten;
  }
  const IndexEntry entry = *harness_->partition().index.Find(MakeId(rotten));
  memory_->medium()[entry.address * kSlotBytes + 9] ^= std::byte{1};
  CollectAll();
  EXPECT_EQ(Damaged().generation, generation_);
  EXPECT_EQ(Damaged().state, SegmentState::kSealed);
  EXPECT_EQ(Damaged().live_chunks, 1U);
  Bytes out;
  EXPECT_EQ(harness_->Get(MakeId(rotten), out), ErrorCode::kCorruptChunk);
  ExpectWhole(rotten);
  EXPECT_EQ(harness_->Put(rotten, kLength), ErrorCode::kOk);
  CollectAll();
  EXPECT_EQ(harness_->store().Stats().segments_damaged, 0U);
  ExpectWhole(10);
}

TEST_F(SalvageTest, ASegmentWithAPlaceThatTheDeviceCannotReadIsEmptiedButNotUsedAgain) {
  // Behind the moves everything is read once more; there the device fails.
  uint64_t reads = 0;
  for (; reads < 1000; ++reads) {
    SetUp();
    device_->SetPlan({1, {{FaultKind::kIoError, FaultOp::kRead, reads, 2}}});
    (void)harness_->Collect();
    device_->SetPlan({});
    if (Damaged().live_chunks == 0 && Damaged().state == SegmentState::kSealed) break;
  }
  ASSERT_LT(reads, 1000U);
  ASSERT_EQ(Damaged().state, SegmentState::kSealed);
  EXPECT_TRUE(harness_->LogHas("is not used again"));
  EXPECT_EQ(harness_->store().Stats().offline, 0U);
  ExpectWhole(10);
  harness_->Close();
  // The collector at work finds that there is no more to be had, and says so.
  harness_->options.collect_in_background = true;
  harness_->Open();
  CollectAll();
  uint64_t next = 100;
  while (harness_->Put(next, kLength) == ErrorCode::kOk) ASSERT_LT(++next, 5000U);
  EXPECT_EQ(Damaged().generation, generation_);
  EXPECT_EQ(harness_->store().Stats().segments_damaged, 1U);
  ExpectWhole(10);
}

}  // namespace
}  // namespace pando
