// A damaged chunk that is written again: at no write may the power fail so that the store knows
// less of the chunk than before, and its bad copy never comes back once the chunk has been deleted.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "support/simulated_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr uint64_t kCapacity = (1 << 20) + 32ULL * 64 * 4096;
// Four large chunks and a small one nearly fill the first segment, so that collecting it is worth
// little even when the small one is gone.
constexpr uint64_t kDamaged = 3;
constexpr size_t kDamagedLength = 3500;
constexpr size_t kLength = 13 * kPageBytes;

size_t LengthOf(uint64_t number) { return number == kDamaged ? kDamagedLength : kLength; }

StoreOptions QuietOptions() {
  StoreOptions options = SmallOptions();
  options.collect_in_background = false;
  options.checkpoint_log_bytes = 1ULL << 40U;  // only when the store is closed
  return options;
}

void FlipPayload(Medium& medium, const IndexEntry& entry) {
  medium.bytes[entry.address * kSlotBytes + 100] ^= std::byte{1};
}

/// A medium with eight chunks of which one is damaged.
std::shared_ptr<Medium> MakeDamagedMedium() {
  auto medium = std::make_shared<Medium>();
  SimulatedDevice device(medium, kCapacity, 1);
  StoreHarness harness(device, QuietOptions());
  harness.Format();
  harness.Open();
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(harness.Put(i, LengthOf(i)), ErrorCode::kOk);
  const IndexEntry entry = *harness.partition().index.Find(MakeId(kDamaged));
  harness.Close();
  FlipPayload(*medium, entry);
  return medium;
}

/// So that the next start replays the whole log.
void DamageCheckpoint(Medium& medium) {
  Superblock newest;
  for (uint64_t copy = 0; copy < kSuperblockCopies; ++copy) {
    const auto page =
        std::span<const std::byte>(medium.bytes).subspan(copy * kSuperblockSpacing, kPageBytes);
    const auto superblock = DecodeSuperblock(page);
    if (superblock.ok() && superblock.value().sequence > newest.sequence)
      newest = superblock.value();
  }
  ASSERT_GT(newest.checkpoint_segment_count, 0U);
  const uint64_t segment = newest.checkpoint_segments[0];
  medium.bytes[kDataOffset + segment * 64 * kPageBytes + kPageBytes + 17] ^= std::byte{4};
}

TEST(Repair, WhereverThePowerFailsADamagedChunkIsDamagedOrWholeAndNeverUnknown) {
  const auto damaged = MakeDamagedMedium();
  bool finished = false;
  for (uint64_t crash_at = 0; !finished; ++crash_at) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE("crash at write " + std::to_string(crash_at) + ", seed " + std::to_string(seed));
      auto medium = std::make_shared<Medium>(*damaged);
      {
        SimulatedDevice device(medium, kCapacity, seed);
        StoreHarness harness(device, QuietOptions());
        harness.Open();
        Bytes out;
        ASSERT_EQ(harness.Get(MakeId(kDamaged), out), ErrorCode::kCorruptChunk);
        device.CrashAtWrite(device.writes() + crash_at);
        TestRequest put(PortOp::kPut, MakeId(kDamaged), kDamagedLength);
        const Bytes bytes = MakeBytes(kDamaged, kDamagedLength);
        std::copy(bytes.begin(), bytes.end(), put.buffer.data());
        put.request.length = kDamagedLength;
        harness.Submit(put);
        while (!put.done && !device.crashed()) harness.Turn();
        finished = put.done;
        device.PowerOff();
        harness.Kill();
      }
      for (const bool whole_log : {false, true}) {
        auto copy = std::make_shared<Medium>(*medium);
        if (whole_log) DamageCheckpoint(*copy);
        SimulatedDevice device(copy, kCapacity, seed);
        StoreHarness harness(device, QuietOptions());
        harness.Open();
        EXPECT_EQ(harness.LogHas("replaying the whole log"), whole_log);
        Bytes out;
        const ErrorCode code = harness.Get(MakeId(kDamaged), out);
        if (finished) {
          ASSERT_EQ(code, ErrorCode::kOk) << "an acknowledged repair is lost";
        } else {
          ASSERT_TRUE(code == ErrorCode::kOk || code == ErrorCode::kCorruptChunk)
              << "the crash made the store forget the chunk: " << ErrorCodeName(code);
        }
        EXPECT_EQ(harness.store().Stats().chunks, 8U);
        EXPECT_TRUE(harness.partition().RecountLive());
      }
    }
  }
}

// The repair names the copy that it replaces, and what it says outlives its own segment: a delete
// of the good copy says nothing about the bad one, and is forgotten with the good one's segment.
TEST(Repair, TheBadCopyOfARepairedAndDeletedChunkStaysDeadWhateverIsCollected) {
  for (const bool moved : {false, true}) {
    SCOPED_TRACE(moved ? "the good copy was moved before its delete" : "the good copy stayed");
    const auto medium = MakeDamagedMedium();
    {
      SimulatedDevice device(medium, kCapacity, 1);
      StoreHarness harness(device, QuietOptions());
      harness.Open();
      const auto segment_of_damaged = [&] {
        return harness.partition().SegmentOf(*harness.partition().index.Find(MakeId(kDamaged)));
      };
      uint64_t filler = 100;
      const auto churn = [&](int times) {
        for (int i = 0; i < times; ++i, ++filler) {
          ASSERT_EQ(harness.Put(filler, kLength), ErrorCode::kOk);
          ASSERT_EQ(harness.Delete(filler), ErrorCode::kOk);
        }
      };
      // Old ones only, which are worth more than the segment of the bad copy: that one must stay.
      const auto dead_segments = [&] {
        const Partition& partition = harness.partition();
        return std::count_if(
            partition.segments.begin(), partition.segments.end(), [&](const Segment& segment) {
              return segment.state == SegmentState::kSealed && segment.live_chunks == 0 &&
                     segment.sealed_sequence + 20 < partition.applied_sequence;
            });
      };
      const uint32_t bad = segment_of_damaged();
      const uint32_t generation = harness.partition().segments[bad].generation;
      ASSERT_EQ(harness.partition().segments[bad].state, SegmentState::kSealed);
      Bytes out;
      ASSERT_EQ(harness.Get(MakeId(kDamaged), out), ErrorCode::kCorruptChunk);
      ASSERT_EQ(harness.Put(kDamaged, kDamagedLength), ErrorCode::kOk);
      const uint32_t good = segment_of_damaged();
      ASSERT_NE(good, bad);
      EXPECT_EQ(harness.partition().segments[good].tombstones, 1U);
      churn(10);
      while (moved && segment_of_damaged() == good) ASSERT_EQ(harness.Collect(), 1U);
      ASSERT_EQ(harness.Delete(kDamaged), ErrorCode::kOk);
      // Checkpoints and collections, until every record of that time has been looked at twice.
      for (int round = 0; round < 8; ++round) {
        churn(10);
        harness.Close();
        harness.Open();
        while (dead_segments() > 0) ASSERT_EQ(harness.Collect(), 1U);
      }
      harness.Close();
      harness.Open();
      ASSERT_EQ(harness.partition().segments[bad].generation, generation)
          << "the bad copy is gone: this shows nothing";
      ASSERT_EQ(harness.partition().segments[bad].state, SegmentState::kSealed);
      harness.Kill();
    }
    DamageCheckpoint(*medium);
    SimulatedDevice device(medium, kCapacity, 1);
    StoreHarness harness(device, QuietOptions());
    harness.Open();
    ASSERT_TRUE(harness.LogHas("replaying the whole log"));
    EXPECT_EQ(harness.Has(kDamaged), ErrorCode::kChunkNotFound) << "a dead copy came back";
  }
}

TEST(Repair, ARepairThatFindsNoRoomChangesNothingAndSucceedsOnceThereIsSome) {
  auto medium = std::make_shared<Medium>();
  SimulatedDevice device(medium, kCapacity, 1);
  StoreHarness harness(device);
  harness.Format();
  harness.Open();
  uint64_t count = 0;
  while (harness.Put(count, kLength) == ErrorCode::kOk) ASSERT_LT(++count, 1000U);
  const IndexEntry entry = *harness.partition().index.Find(MakeId(5));
  harness.Close();
  FlipPayload(*medium, entry);
  SimulatedDevice again(medium, kCapacity, 2);
  StoreHarness reopened(again);
  reopened.Open();
  EXPECT_FALSE(reopened.IsWhole(5, kLength));
  EXPECT_EQ(reopened.Put(count, kLength), ErrorCode::kInsufficientStorage);
  EXPECT_EQ(reopened.Put(5, kLength), ErrorCode::kInsufficientStorage);
  Bytes out;
  EXPECT_EQ(reopened.Get(MakeId(5), out), ErrorCode::kCorruptChunk);
  for (uint64_t i = 6; i < count; i += 3) ASSERT_EQ(reopened.Delete(i), ErrorCode::kOk);
  EXPECT_EQ(reopened.Put(5, kLength), ErrorCode::kOk);
  EXPECT_TRUE(reopened.IsWhole(5, kLength));
  EXPECT_EQ(reopened.store().Stats().damaged_chunks, 0U);
  EXPECT_TRUE(reopened.partition().RecountLive());
}

}  // namespace
}  // namespace pando
