// The power goes at every single write of a seeded workload; whatever the disk kept of what was not
// yet durable, every acknowledged chunk is whole afterwards, every acknowledged delete holds,
// nothing half written is served, and the accounting is exact. (B8)
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "support/simulated_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr uint64_t kCapacity = (1 << 20) + 32ULL * 64 * 4096;

// Sanitizers make a life fifty times as long; they see a sample of the crash points.
#if PANDO_SANITIZED
constexpr uint64_t kStep = 15;
constexpr uint64_t kRuns = 3;
#else
constexpr uint64_t kStep = 1;
constexpr uint64_t kRuns = 12;
#endif

size_t LengthOf(uint64_t number) {
  std::mt19937_64 random(number);
  switch (random() % 4) {
    case 0:
      return 1 + random() % 3000;
    case 1:
      return 4096;
    case 2:
      return 1 + random() % 20000;
    default:
      return 1 + random() % 200000;
  }
}

enum class Fate { kAbsent, kPresent, kUnknown };

class Workload {
 public:
  Workload(StoreHarness& harness, std::map<uint64_t, Fate>& fates, uint64_t seed)
      : harness_(harness), fates_(fates), random_(seed) {}

  /// Until the power fails or `operations` are done. Returns false when the power failed.
  bool Run(SimulatedDevice& device, uint64_t operations) {
    for (uint64_t issued = 0; issued < operations || !flying_.empty();) {
      while (issued < operations && flying_.size() < 12) {
        Issue();
        ++issued;
      }
      harness_.Turn();
      if (++turns_ > 300000) {
        ADD_FAILURE() << "no progress";
        return false;
      }
      Reap();
      if (device.crashed()) return false;
    }
    return true;
  }

  /// The requests that were under way when the power failed. Nothing is promised about them.
  void Abandon() {
    for (const auto& request : flying_) fates_[request->number] = Fate::kUnknown;
  }

 private:
  void Issue() {
    uint64_t number = random_() % 60;
    while (busy_.contains(number)) number = random_() % 60;
    const bool remove = random_() % 3 == 0;
    const size_t length = LengthOf(number);
    auto request = std::make_unique<TestRequest>(remove ? PortOp::kDelete : PortOp::kPut,
                                                 MakeId(number), remove ? 0 : length);
    request->number = number;
    if (!remove) {
      const Bytes bytes = MakeBytes(number, length);
      std::copy(bytes.begin(), bytes.end(), request->buffer.data());
      request->request.length = static_cast<uint32_t>(length);
    }
    busy_.insert(number);
    harness_.Submit(*request);
    flying_.push_back(std::move(request));
  }

  void Reap() {
    std::erase_if(flying_, [this](const std::unique_ptr<TestRequest>& request) {
      if (!request->done) return false;
      const ErrorCode code = request->request.status;
      if (request->request.op == PortOp::kPut) {
        EXPECT_EQ(code, ErrorCode::kOk);
        fates_[request->number] = Fate::kPresent;
      } else {
        EXPECT_TRUE(code == ErrorCode::kOk || code == ErrorCode::kChunkNotFound);
        const auto before = fates_.find(request->number);
        if (before != fates_.end() && before->second == Fate::kPresent) {
          EXPECT_EQ(code, ErrorCode::kOk) << "chunk " << request->number << " vanished";
        }
        fates_[request->number] = Fate::kAbsent;
      }
      busy_.erase(request->number);
      return true;
    });
  }

  StoreHarness& harness_;
  std::map<uint64_t, Fate>& fates_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<TestRequest>> flying_;
  std::set<uint64_t> busy_;
  uint64_t turns_ = 0;
};

void Verify(StoreHarness& harness, std::map<uint64_t, Fate>& fates) {
  const StoreStats stats = harness.store().Stats();
  EXPECT_EQ(stats.recovery_lost_batches, 0U) << "a crash was taken for corruption";
  uint64_t present = 0;
  for (auto& [number, fate] : fates) {
    Bytes out;
    const ErrorCode code = harness.Get(MakeId(number), out);
    if (code == ErrorCode::kOk) {
      ASSERT_TRUE(AreBytesOf(number, LengthOf(number), out)) << number;
      ++present;
    }
    if (fate == Fate::kPresent) {
      ASSERT_EQ(code, ErrorCode::kOk) << "acknowledged chunk " << number << " is lost";
    }
    if (fate == Fate::kAbsent) {
      ASSERT_EQ(code, ErrorCode::kChunkNotFound) << "deleted chunk " << number << " came back";
    }
    if (fate == Fate::kUnknown) {
      ASSERT_TRUE(code == ErrorCode::kOk || code == ErrorCode::kChunkNotFound) << number;
      fate = code == ErrorCode::kOk ? Fate::kPresent : Fate::kAbsent;
    }
  }
  EXPECT_EQ(harness.store().Stats().chunks, present);
  EXPECT_TRUE(harness.partition().RecountLive()) << "the accounting is off";
  EXPECT_TRUE(harness.Scrub().empty());
}

// Of the checkpoint that the newest superblock on the medium names.
bool DamageCheckpoint(Medium& medium) {
  Superblock newest;
  for (uint64_t copy = 0; copy < kSuperblockCopies; ++copy) {
    const auto page =
        std::span<const std::byte>(medium.bytes).subspan(copy * kSuperblockSpacing, kPageBytes);
    const auto superblock = DecodeSuperblock(page);
    if (superblock.ok() && superblock.value().sequence > newest.sequence)
      newest = superblock.value();
  }
  for (uint32_t i = 0; i < newest.checkpoint_segment_count; ++i) {
    const uint64_t offset =
        kDataOffset + uint64_t{newest.checkpoint_segments[i]} * 64 * 4096 + 4096;
    medium.bytes[offset + 17] ^= std::byte{4};
  }
  return newest.checkpoint_segment_count > 0;
}

class CrashTest : public testing::TestWithParam<uint64_t> {};

// Every write is a crash point, three lives long: the survivor of one crash lives into the next.
TEST_P(CrashTest, NothingAcknowledgedIsLostWhereverThePowerFails) {
  const uint64_t seed = GetParam();
  auto blank = std::make_shared<Medium>();
  {
    SimulatedDevice device(blank, kCapacity, seed);
    StoreHarness harness(device);
    harness.Format();
  }
  uint64_t crash_points = 0;
  bool reached_end = false;
  for (uint64_t crash_at = 0; !reached_end && !testing::Test::HasFailure(); crash_at += kStep) {
    SCOPED_TRACE("repeat: --gtest_filter=*CrashTest* seed " + std::to_string(seed) +
                 ", crash at write " + std::to_string(crash_at));
    auto medium = std::make_shared<Medium>(*blank);
    std::map<uint64_t, Fate> fates;
    for (uint64_t life = 0; life < 3 && !testing::Test::HasFailure(); ++life) {
      SimulatedDevice device(medium, kCapacity, seed * 1000 + crash_at * 10 + life);
      StoreHarness harness(device);
      harness.Open();
      if (testing::Test::HasFailure()) return;
      Verify(harness, fates);
      if (testing::Test::HasFailure()) return;
      device.CrashAtWrite(device.writes() + crash_at + life * 3);
      Workload workload(harness, fates, seed + life);
      const bool survived = workload.Run(device, 150);
      reached_end = reached_end || (survived && life == 0);
      device.PowerOff();
      workload.Abandon();
      harness.Kill();
      ++crash_points;
    }
    for (const bool damage : {false, true}) {
      auto copy = std::make_shared<Medium>(*medium);
      const bool replays_all = damage && DamageCheckpoint(*copy);
      SimulatedDevice device(copy, kCapacity, crash_at);
      StoreHarness harness(device);
      harness.Open();
      if (testing::Test::HasFailure()) return;
      if (replays_all) {
        EXPECT_TRUE(harness.LogHas("replaying the whole log"));
      }
      Verify(harness, fates);
    }
  }
  std::printf("%llu crash points\n", static_cast<unsigned long long>(crash_points));
}

std::vector<uint64_t> Seeds() {
  const char* chosen = std::getenv("PANDO_CRASH_SEED");
  if (chosen != nullptr) return {std::strtoull(chosen, nullptr, 10)};
  return {1, 2};
}
INSTANTIATE_TEST_SUITE_P(Seeds, CrashTest, testing::ValuesIn(Seeds()));

// The same, long enough to fill the store many times: collection and checkpoints are under way when
// the power fails.
TEST(CrashUnderCollection, NothingAcknowledgedIsLostWhileSegmentsAreCollected) {
  uint64_t collected = 0;
  uint64_t checkpoints = 0;
  const uint64_t first = Seeds().front() * 12 - 11;
  for (uint64_t seed = first; seed < first + kRuns && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    auto medium = std::make_shared<Medium>();
    StoreOptions options = SmallOptions();
    options.capacity_segments = 20;
    {
      SimulatedDevice device(medium, kCapacity, seed);
      StoreHarness harness(device, options);
      harness.Format();
    }
    std::map<uint64_t, Fate> fates;
    std::mt19937_64 random(seed);
    for (uint64_t life = 0; life < 10 && !testing::Test::HasFailure(); ++life) {
      SimulatedDevice device(medium, kCapacity, seed * 100 + life);
      StoreHarness harness(device, options);
      harness.Open();
      if (testing::Test::HasFailure()) return;
      Verify(harness, fates);
      device.CrashAtWrite(device.writes() + random() % 600);
      if (life % 2 == 0) device.DropAllUnsynced();
      Workload workload(harness, fates, seed * 31 + life);
      workload.Run(device, 1500);
      device.PowerOff();
      workload.Abandon();
      collected += harness.store().Stats().segments_collected;
      checkpoints += harness.store().Stats().checkpoints;
      harness.Kill();
      if (life % 3 == 2) DamageCheckpoint(*medium);
    }
  }
  EXPECT_GT(collected, 8 * kRuns);
  EXPECT_GT(checkpoints, kRuns);
}

}  // namespace
}  // namespace pando
