#include "pando/data_plane.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <thread>

#include "pando/crc32c.h"
#include "pando/port_client.h"
#include "support/store_harness.h"
#include "support/temporary_directory.h"

namespace pando {
namespace {

struct Parameters {
  Backend backend;
  uint32_t reactors;
  WaitMode wait = WaitMode::kAdaptive;
};

class DataPlaneTest : public testing::TestWithParam<Parameters> {
 protected:
  void SetUp() override {
    const bool spdk = GetParam().backend == Backend::kSpdk;
    if (spdk && !ProbeSpdk().reason.empty()) GTEST_SKIP() << ProbeSpdk().reason;
  }
  DataPlaneOptions Options() {
    DataPlaneOptions options;
    options.directory = directory_.path() + "/data";
    options.backend = GetParam().backend;
    options.reactors = GetParam().reactors;
    options.wait = GetParam().wait;
    options.capacity_bytes = 2ULL << 30U;
    for (uint32_t i = 0; GetParam().backend == Backend::kSpdk && i < GetParam().reactors; ++i) {
      BdevOptions bdev;
      bdev.target = directory_.path() + "/disk-" + std::to_string(i);
      std::ofstream(bdev.target, std::ios::app);
      std::filesystem::resize_file(bdev.target, (2ULL << 30U) / GetParam().reactors + (4U << 20U));
      options.bdevs.push_back(bdev);
    }
    options.log = [](LogLevel level, std::string_view text) {
      if (level >= LogLevel::kWarn)
        std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
    };
    return options;
  }
  void Open() {
    auto plane = DataPlane::Open(Options());
    ASSERT_TRUE(plane.ok()) << plane.error().message;
    plane_ = std::move(plane).value();
    auto port = plane_->OpenPort({});
    ASSERT_TRUE(port.ok()) << port.error().message;
    port_ = std::move(port).value();
    client_ = std::make_unique<PortClient>(*port_);
  }
  void Close() {
    client_.reset();
    port_.reset();
    if (plane_) {
      const Status status = plane_->Close();
      EXPECT_TRUE(status.ok()) << status.error().message;
    }
    plane_.reset();
  }
  void TearDown() override { Close(); }

  CqEntry Call(SqEntry entry) {
    entry.token = ++token_;
    EXPECT_TRUE(client_->Push(entry));
    client_->Publish();
    CqEntry completion = {};
    while (!client_->Pop(completion)) std::this_thread::yield();
    EXPECT_EQ(completion.token, entry.token);
    return completion;
  }
  static SqEntry Entry(PortOp op, const ChunkId& id) {
    SqEntry entry = {};
    entry.op = static_cast<uint8_t>(op);
    entry.id = id;
    return entry;
  }
  ErrorCode Put(uint64_t number, size_t length) {
    const Bytes bytes = MakeBytes(number, length);
    std::copy(bytes.begin(), bytes.end(), client_->slab().begin());
    SqEntry entry = Entry(PortOp::kPut, MakeId(number));
    entry.length = static_cast<uint32_t>(length);
    const CqEntry completion = Call(entry);
    EXPECT_EQ(completion.crc32c, Crc32c(bytes));
    return static_cast<ErrorCode>(completion.status);
  }
  bool IsWhole(uint64_t number, size_t length) {
    SqEntry entry = Entry(PortOp::kGet, MakeId(number));
    entry.length = kMaxChunkBytes;
    entry.slab_offset = 8 << 20;
    const CqEntry completion = Call(entry);
    const auto out = client_->slab().subspan(8 << 20, completion.length);
    return completion.status == 0 && completion.chunk_length == length &&
           AreBytesOf(number, length, out);
  }

  TemporaryDirectory directory_;
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<PortClient> client_;
  uint64_t token_ = 0;
};

TEST_P(DataPlaneTest, ChunksSurviveARestart) {
  Open();
  const std::vector<size_t> lengths = {1, 100, 4096, 5000, 65536, 300000, 1 << 20, kMaxChunkBytes};
  for (size_t i = 0; i < lengths.size(); ++i) ASSERT_EQ(Put(i, lengths[i]), ErrorCode::kOk);
  for (size_t i = 0; i < lengths.size(); ++i) EXPECT_TRUE(IsWhole(i, lengths[i]));
  EXPECT_EQ(Call(Entry(PortOp::kDelete, MakeId(2))).status, 0U);
  if (GetParam().backend == Backend::kMemory) return;
  Close();
  Open();
  for (size_t i = 0; i < lengths.size(); ++i)
    EXPECT_EQ(IsWhole(i, lengths[i]), i != 2) << lengths[i];
}

TEST_P(DataPlaneTest, ListingAndStatisticsCoverAllPartitions) {
  Open();
  std::vector<ChunkId> expected;
  for (uint64_t i = 0; i < 300; ++i) {
    ASSERT_EQ(Put(i, 50), ErrorCode::kOk);
    expected.push_back(MakeId(i));
  }
  std::sort(expected.begin(), expected.end());
  std::vector<ChunkId> seen;
  SqEntry entry = Entry(PortOp::kList, ChunkId{});
  entry.length = 11;
  for (;;) {
    const CqEntry completion = Call(entry);
    ASSERT_EQ(completion.status, 0U);
    for (uint32_t i = 0; i < completion.length; ++i) {
      ListRecord record;
      std::memcpy(&record, client_->slab().data() + i * sizeof record, sizeof record);
      seen.push_back(record.id);
    }
    if (completion.value == 0) break;
    entry.id = completion.id;
  }
  EXPECT_EQ(seen, expected);
  ASSERT_EQ(Call(Entry(PortOp::kStats, ChunkId{})).length, sizeof(StoreStats));
  StoreStats stats;
  std::memcpy(&stats, client_->slab().data(), sizeof stats);
  EXPECT_EQ(stats.chunks, 300U);
  EXPECT_EQ(stats.chunk_bytes, 300U * 50);
  EXPECT_EQ(stats.puts, 300U);
  EXPECT_EQ(stats.partitions, GetParam().reactors);
}

TEST_P(DataPlaneTest, ManyRequestsInFlightAllComplete) {
  Open();
  constexpr uint64_t kCount = 5000;
  constexpr size_t kSlots = 256;
  std::map<uint64_t, size_t> slot_of;
  std::vector<size_t> free;
  for (size_t i = 0; i < kSlots; ++i) free.push_back(i);
  uint64_t next = 0;
  uint64_t done = 0;
  while (done < kCount) {
    bool pushed = false;
    while (next < kCount && !free.empty()) {
      const size_t slot = free.back();
      const Bytes bytes = MakeBytes(next, 2000 + next % 5000);
      std::copy(bytes.begin(), bytes.end(),
                client_->slab().begin() + static_cast<std::ptrdiff_t>(slot * 8192));
      SqEntry entry = Entry(PortOp::kPut, MakeId(next));
      entry.token = next;
      entry.length = static_cast<uint32_t>(bytes.size());
      entry.slab_offset = slot * 8192;
      if (!client_->Push(entry)) break;
      free.pop_back();
      slot_of[next++] = slot;
      pushed = true;
    }
    if (pushed) client_->Publish();
    CqEntry completion;
    while (client_->Pop(completion)) {
      ASSERT_EQ(completion.status, 0U);
      free.push_back(slot_of.at(completion.token));
      slot_of.erase(completion.token);
      ++done;
    }
  }
  for (uint64_t i = 0; i < kCount; i += 97) EXPECT_TRUE(IsWhole(i, 2000 + i % 5000)) << i;
}

TEST_P(DataPlaneTest, AnEntryThatMakesNoSenseIsRefusedAndHarmsNothing) {
  Open();
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    SqEntry entry = {};
    for (size_t word = 0; word < sizeof entry; word += 8) {
      const uint64_t value = random();
      std::memcpy(reinterpret_cast<std::byte*>(&entry) + word, &value, 8);
    }
    entry.op = static_cast<uint8_t>(random() % 16);
    if (i % 2 == 0) entry.flags = 0;
    if (i % 2 == 0) entry.qos_class = 0;
    if (i % 4 == 0) entry.slab_offset = random() % 8 * 4096;
    if (i % 4 == 0) entry.length = static_cast<uint32_t>(random() % 70000);
    if (i % 4 == 0) entry.budget_bytes = 1000;
    Call(entry);
  }
  EXPECT_EQ(Put(1, 4096), ErrorCode::kOk);
  EXPECT_TRUE(IsWhole(1, 4096));
}

TEST_P(DataPlaneTest, SyncCompletesAfterEveryEarlierPut) {
  Open();
  for (uint64_t i = 0; i < 64; ++i) {
    SqEntry entry = Entry(PortOp::kPut, MakeId(i));
    entry.token = i;
    entry.length = 4096;
    entry.slab_offset = i * 4096;
    ASSERT_TRUE(client_->Push(entry));
  }
  SqEntry sync = Entry(PortOp::kSync, ChunkId{});
  sync.token = 1000;
  ASSERT_TRUE(client_->Push(sync));
  client_->Publish();
  for (uint64_t done = 0; done < 65;) {
    CqEntry completion;
    if (!client_->Pop(completion)) continue;
    EXPECT_EQ(completion.status, 0U);
    if (completion.token == 1000) {
      EXPECT_EQ(done, 64U);
    }
    ++done;
  }
}

TEST_P(DataPlaneTest, ClosingAPortInFlightSettlesEveryRequest) {
  Open();
  for (int round = 0; round < 10; ++round) {
    PortOptions options;
    options.sq_entries = 256;
    options.cq_entries = 512;
    std::atomic<int> rings{0};
    std::atomic<bool> closed{false};
    options.doorbell = [&] {
      EXPECT_FALSE(closed.load());
      ++rings;
    };
    auto opened = plane_->OpenPort(options);
    ASSERT_TRUE(opened.ok());
    auto port = std::move(opened).value();
    PortClient client(*port);
    EXPECT_FALSE(client.Arm());
    for (uint64_t i = 0; i < 200; ++i) {
      SqEntry entry = Entry(PortOp::kPut, MakeId(100000 + i + 1000 * static_cast<uint64_t>(round)));
      entry.token = i;
      entry.length = 4096;
      entry.slab_offset = i * 4096;
      ASSERT_TRUE(client.Push(entry));
    }
    client.Publish();
    if (round % 2 == 1) std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
    port->Close();
    closed = true;
    std::vector<int> seen(200);
    CqEntry completion;
    while (client.Pop(completion)) {
      ++seen[completion.token];
      EXPECT_TRUE(completion.status == 0 ||
                  completion.status == static_cast<uint32_t>(ErrorCode::kCancelled));
    }
    for (const int count : seen) EXPECT_EQ(count, 1);
    EXPECT_LE(rings.load(), 1);
  }
}

TEST_P(DataPlaneTest, APlanLimitsAClassOnAllPartitionsAndAClosedPortDoesNotWaitForIt) {
  Open();
  std::vector<ClassPlan> plan(3);
  plan[2].limit = 10;
  ASSERT_TRUE(plane_->SetPlan(plan).ok());
  auto opened = plane_->OpenPort({});
  ASSERT_TRUE(opened.ok());
  auto port = std::move(opened).value();
  PortClient client(*port);
  for (uint64_t i = 0; i < 400; ++i) {
    SqEntry entry = Entry(PortOp::kPut, MakeId(i));
    entry.qos_class = 2;
    entry.token = i;
    entry.length = 4096;
    entry.slab_offset = i * 4096;
    ASSERT_TRUE(client.Push(entry));
  }
  client.Publish();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(Put(1000, 4096), ErrorCode::kOk);  // another class
  uint64_t done = 0;
  CqEntry completion;
  while (client.Pop(completion)) ++done;
  EXPECT_LT(done, 100U);
  const auto from = std::chrono::steady_clock::now();
  port->Close();
  EXPECT_LT(std::chrono::steady_clock::now() - from, std::chrono::seconds(10));
  while (client.Pop(completion)) {
    EXPECT_EQ(completion.status, 0U);
    ++done;
  }
  EXPECT_EQ(done, 400U);
}

TEST_P(DataPlaneTest, PlansAreReplacedUnderLoad) {
  Open();
  std::atomic<bool> stop{false};
  std::thread planner([&] {
    for (uint32_t i = 0; !stop; ++i) {
      std::vector<ClassPlan> plan(1 + i % 8);
      for (size_t at = 0; at < plan.size(); ++at) {
        plan[at].weight = 1.0 + static_cast<double>((i + at) % 5);
        plan[at].limit = at == 3 && i % 2 == 0 ? 100000 : 0;
        plan[at].reservation = at == 1 ? 1000 : 0;
      }
      EXPECT_TRUE(plane_->SetPlan(plan).ok());
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  for (uint64_t round = 0; round < 20; ++round) {
    for (uint64_t i = 0; i < 200; ++i) {
      SqEntry entry = Entry(PortOp::kPut, MakeId(round * 1000 + i));
      entry.qos_class = static_cast<uint8_t>(i % 10);
      entry.token = i;
      entry.length = 4096;
      entry.slab_offset = i * 4096;
      ASSERT_TRUE(client_->Push(entry));
    }
    client_->Publish();
    for (uint64_t done = 0; done < 200;) {
      CqEntry completion;
      if (!client_->Pop(completion)) {
        std::this_thread::yield();
        continue;
      }
      EXPECT_EQ(completion.status, 0U);
      ++done;
    }
  }
  stop = true;
  planner.join();
}

TEST_P(DataPlaneTest, APlanThatMeansNothingIsRefused) {
  Open();
  EXPECT_EQ(plane_->SetPlan({}).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(plane_->SetPlan(std::vector<ClassPlan>(65)).code(), ErrorCode::kInvalidArgument);
  for (const ClassPlan& bad :
       {ClassPlan{0, 0, 0, 0}, ClassPlan{1, -1, 0, 0}, ClassPlan{1, 0, std::nan(""), 0},
        ClassPlan{1e-6, 0, 0, 0}, ClassPlan{1, 0, 1e-6, 0},
        ClassPlan{1, 0, 0, std::numeric_limits<double>::infinity()}}) {
    EXPECT_EQ(plane_->SetPlan(std::vector{bad}).code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(plane_->SetPlan(std::vector<ClassPlan>(64)).ok());
  SqEntry entry = Entry(PortOp::kHas, MakeId(1));
  entry.qos_class = 64;
  EXPECT_EQ(Call(entry).status, static_cast<uint32_t>(ErrorCode::kInvalidArgument));
  EXPECT_TRUE(plane_->Close().ok());
  EXPECT_EQ(plane_->SetPlan(std::vector<ClassPlan>(1)).code(), ErrorCode::kClosed);
}

TEST_P(DataPlaneTest, ClosingTheDataPlaneUnderLoadSettlesItsPorts) {
  Open();
  for (uint64_t i = 0; i < 200; ++i) {
    SqEntry entry = Entry(PortOp::kPut, MakeId(i));
    entry.token = i;
    entry.length = 4096;
    entry.slab_offset = i * 4096;
    ASSERT_TRUE(client_->Push(entry));
  }
  client_->Publish();
  EXPECT_TRUE(plane_->Close().ok());
  int count = 0;
  CqEntry completion;
  while (client_->Pop(completion)) ++count;
  EXPECT_EQ(count, 200);
  EXPECT_EQ(plane_->OpenPort({}).code(), ErrorCode::kClosed);
}

TEST_P(DataPlaneTest, ADoorbellRingsOncePerBurstAndIsNeverLost) {
  Open();
  std::atomic<uint64_t> rings{0};
  PortOptions options;
  options.doorbell = [&] { ++rings; };
  auto opened = plane_->OpenPort(options);
  ASSERT_TRUE(opened.ok());
  auto port = std::move(opened).value();
  PortClient client(*port);
  uint64_t seen = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    const uint64_t rung = rings.load();
    const bool waiting = !client.Arm();
    SqEntry entry = Entry(PortOp::kNop, ChunkId{});
    ASSERT_TRUE(client.Push(entry));
    client.Publish();
    ASSERT_TRUE(waiting);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (rings.load() == rung)
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "lost wake-up";
    CqEntry completion;
    while (client.Pop(completion)) ++seen;
  }
  EXPECT_EQ(seen, 3000U);
  EXPECT_EQ(rings.load(), 3000U);
}

std::string NameOf(const testing::TestParamInfo<Parameters>& tested) {
  constexpr std::array<const char*, 4> kNames = {"uring", "posix", "memory", "spdk"};
  return std::string(kNames[static_cast<size_t>(tested.param.backend)]) +
         std::to_string(tested.param.reactors);
}

INSTANTIATE_TEST_SUITE_P(Backends, DataPlaneTest,
                         testing::Values(Parameters{Backend::kUring, 1},
                                         Parameters{Backend::kPosix, 1},
                                         Parameters{Backend::kSpdk, 1},
                                         Parameters{Backend::kSpdk, 2, WaitMode::kInterrupt},
                                         Parameters{Backend::kMemory, 1},
                                         Parameters{Backend::kUring, 2},
                                         Parameters{Backend::kMemory, 3, WaitMode::kInterrupt}),
                         NameOf);

}  // namespace
}  // namespace pando
