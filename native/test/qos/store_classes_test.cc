// Classes of service in a chunk store: whose requests reach the device, and what is never held back.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "block/memory_device.h"
#include "support/store_harness.h"

namespace pando {
namespace {

constexpr uint8_t kInteractive = 0;
constexpr uint8_t kBulk = 1;

class StoreClassesTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = MemoryDevice::Open(kDataOffset + 32ULL * 64 * kPageBytes);
    ASSERT_TRUE(device.ok());
    device_ = std::move(device).value();
    harness_ = std::make_unique<StoreHarness>(*device_);
    harness_->Format();
    harness_->Open();
  }

  /// Classes as a region has them, all alike but for the limits.
  void Limit(uint8_t qos_class, double units_per_second) {
    std::vector<ClassPlan> plan(5);
    plan[qos_class].limit = units_per_second;
    harness_->store().SetPlan(plan);
  }

  TestRequest& Submit(PortOp op, uint64_t number, uint8_t qos_class, size_t length = 4096) {
    requests_.push_back(std::make_unique<TestRequest>(op, MakeId(number), length));
    TestRequest& request = *requests_.back();
    request.request.qos_class = qos_class;
    request.request.length = static_cast<uint32_t>(length);
    if (op == PortOp::kPut) {
      const Bytes bytes = MakeBytes(number, length);
      std::copy(bytes.begin(), bytes.end(), request.buffer.data());
    }
    harness_->Submit(request);
    return request;
  }

  [[nodiscard]] size_t Done() const {
    return static_cast<size_t>(std::count_if(requests_.begin(), requests_.end(),
                                             [](const auto& request) { return request->done; }));
  }

  void TurnUntil(uint64_t now_us) {
    while (harness_->now_us < now_us) harness_->Turn();
  }

  std::unique_ptr<MemoryDevice> device_;
  std::vector<std::unique_ptr<TestRequest>> requests_;
  std::unique_ptr<StoreHarness> harness_;
};

TEST_F(StoreClassesTest, AClassGetsNoMoreThanItsLimitAndTheOthersAreNotHeldBack) {
  Limit(kBulk, 1000);
  for (uint64_t i = 0; i < 500; ++i) Submit(PortOp::kPut, i, kBulk);
  TurnUntil(200000);
  // 100 ms of its rate at once, then its rate.
  EXPECT_NEAR(static_cast<double>(Done()), 300, 10);
  TestRequest& other = Submit(PortOp::kPut, 1000, kInteractive);
  TurnUntil(210000);
  EXPECT_TRUE(other.done);
  TurnUntil(600000);
  EXPECT_EQ(Done(), 501U);
  for (uint64_t i = 0; i < 500; ++i) ASSERT_TRUE(harness_->IsWhole(i, 4096));
}

TEST_F(StoreClassesTest, ReadsAndDeletesAreOfAClassToo) {
  for (uint64_t i = 0; i < 40; ++i) ASSERT_EQ(harness_->Put(i, 4096), ErrorCode::kOk);
  Limit(kBulk, 10);  // one unit in 100 ms, and one at once
  const uint64_t from = harness_->now_us;
  Submit(PortOp::kGet, 1, kBulk);
  Submit(PortOp::kDelete, 2, kBulk);
  Submit(PortOp::kGet, 3, kBulk);
  Submit(PortOp::kGet, 4, kBulk);
  TurnUntil(from + 50000);
  EXPECT_EQ(Done(), 2U);
  TurnUntil(from + 350000);
  EXPECT_EQ(Done(), 4U);
}

TEST_F(StoreClassesTest, AsManyAsMayWaitWaitAndMoreAreRefused) {
  Limit(kBulk, 1);
  for (uint64_t i = 0; i < ClassScheduler::kQueueLimit + 50; ++i) Submit(PortOp::kDelete, i, kBulk);
  TurnUntil(harness_->now_us + 1000);
  size_t refused = 0;
  for (const auto& request : requests_) {
    refused += request->done && request->request.status == ErrorCode::kOverloaded ? 1 : 0;
  }
  EXPECT_GT(refused, 40U);
  EXPECT_LE(refused, 50U);
  EXPECT_EQ(harness_->Put(5000, 4096), ErrorCode::kOk);
}

TEST_F(StoreClassesTest, ClosingDoesNotWaitForALimit) {
  Limit(kBulk, 1);
  for (uint64_t i = 0; i < 300; ++i) Submit(PortOp::kPut, i, kBulk);
  TurnUntil(harness_->now_us + 1000);
  EXPECT_LT(Done(), 10U);
  const uint64_t before = harness_->now_us;
  harness_->Close();
  EXPECT_EQ(Done(), 300U);
  EXPECT_EQ(harness_->now_us, before);
  harness_->Open();
  for (uint64_t i = 0; i < 300; ++i) ASSERT_TRUE(harness_->IsWhole(i, 4096));
}

TEST_F(StoreClassesTest, AScrubTakesItsTurnsOneChunkAfterTheOther) {
  for (uint64_t i = 0; i < 20; ++i) ASSERT_EQ(harness_->Put(i, 4096), ErrorCode::kOk);
  Limit(kBackgroundClass, 100);
  const uint64_t from = harness_->now_us;
  EXPECT_TRUE(harness_->Scrub().empty());
  // 20 units at 100 a second, of which a tenth of a second's worth came at once.
  EXPECT_GE(harness_->now_us - from, 80000U);
  EXPECT_LE(harness_->now_us - from, 150000U);
}

TEST_F(StoreClassesTest, PutsThatNeedSpaceDoNotWaitForTheLimitOfTheCollection) {
  Limit(kBackgroundClass, 0.001);
  uint64_t count = 0;
  while (harness_->Put(count, 60000) == ErrorCode::kOk) ++count;
  for (uint64_t i = 0; i < count; i += 2) ASSERT_EQ(harness_->Delete(i), ErrorCode::kOk);
  const uint64_t from = harness_->now_us;
  for (uint64_t i = 0; i < count / 3; ++i) {
    ASSERT_EQ(harness_->Put(10000 + i, 60000), ErrorCode::kOk) << i;
  }
  EXPECT_LT(harness_->now_us - from, 5000000U);
  for (uint64_t i = 1; i < count; i += 2) ASSERT_TRUE(harness_->IsWhole(i, 60000));
  EXPECT_TRUE(harness_->partition().RecountLive());
}

TEST_F(StoreClassesTest, WithoutAPlanNothingIsHeldBack) {
  for (uint64_t i = 0; i < 300; ++i) Submit(PortOp::kPut, i, static_cast<uint8_t>(i % 7));
  EXPECT_EQ(harness_->partition().scheduler.held_back(), 0U);
  harness_->Settle();
  EXPECT_EQ(Done(), 300U);
}

}  // namespace
}  // namespace pando
