#include "pando/digest_workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

namespace pando {
namespace {

/// What JavaScript does, in C++: one producer and consumer of one worker's rings.
class Client {
 public:
  Client(DigestWorkers* workers, uint32_t worker) : workers_(workers), worker_(worker) {
    std::byte* base = workers->rings(worker).data();
    control_ = reinterpret_cast<PortControl*>(base);
    sq_ = reinterpret_cast<DigestSqEntry*>(base + control_->sq_offset);
    cq_ = reinterpret_cast<DigestCqEntry*>(base + control_->cq_offset);
  }

  /// Waits for room by taking completions.
  void Submit(DigestSqEntry entry) {
    while (tail_ - head_ == control_->sq_entries) Drain();
    sq_[tail_ & (control_->sq_entries - 1)] = entry;
    control_->sq_tail.value.store(++tail_);
    if (control_->sleeping.value.load() == 1) workers_->Kick(worker_);
  }

  void Drain() {
    while (head_ != control_->cq_tail.value.load()) {
      const DigestCqEntry& done = cq_[head_ & (control_->cq_entries - 1)];
      order.push_back(done.token);
      completions[done.token] = done;
      control_->cq_head.value.store(++head_);
    }
  }

  /// Sleeps on the doorbell, with the arm-and-look-again protocol.
  void WaitForAll(std::atomic<uint32_t>* rings) {
    for (;;) {
      Drain();
      if (head_ == tail_) return;
      const uint32_t seen = rings->load();
      control_->armed.value.store(1);
      if (control_->cq_tail.value.load() != head_) {
        control_->armed.value.store(0);
        continue;
      }
      rings->wait(seen);
    }
  }

  std::map<uint32_t, DigestCqEntry> completions;
  std::vector<uint32_t> order;

 private:
  DigestWorkers* workers_;
  uint32_t worker_;
  PortControl* control_;
  DigestSqEntry* sq_;
  DigestCqEntry* cq_;
  uint32_t tail_ = 0;
  uint32_t head_ = 0;
};

DigestSqEntry Entry(uint32_t token, DigestOp op, uint32_t stream, uint8_t algorithms = 0) {
  DigestSqEntry entry{};
  entry.token = token;
  entry.op = static_cast<uint8_t>(op);
  entry.stream = stream;
  entry.algorithms = algorithms;
  return entry;
}

class DigestWorkersTest : public testing::Test {
 protected:
  DigestWorkersTest() : slab_(1U << 20U) {
    for (size_t i = 0; i < slab_.size(); ++i) slab_[i] = static_cast<std::byte>(i * 7 + (i >> 8U));
  }

  DigestWorkersOptions Options(uint32_t workers, uint32_t entries) {
    DigestWorkersOptions options;
    options.workers = workers;
    options.entries = entries;
    options.slab = slab_;
    options.doorbell = [this] {
      rung_.fetch_add(1);
      rung_.notify_all();
    };
    return options;
  }

  std::vector<std::byte> slab_;
  std::atomic<uint32_t> rung_{0};
};

TEST_F(DigestWorkersTest, StreamsInterleaveAndEachKeepsItsOrder) {
  constexpr uint32_t kStreams = 100;
  constexpr uint32_t kUpdates = 50;
  DigestWorkers workers(Options(2, 64));
  std::vector<std::thread> threads;
  for (uint32_t worker = 0; worker < 2; ++worker) {
    threads.emplace_back([&, worker] {
      // Both clients wait on one bell; a needless wake is harmless.
      Client client(&workers, worker);
      uint32_t token = 0;
      for (uint32_t update = 0; update < kUpdates; ++update) {
        for (uint32_t stream = 0; stream < kStreams; ++stream) {
          auto entry = Entry(token++, DigestOp::kUpdate, stream, update == 0 ? kDigestAll : 0);
          entry.slab_offset = (stream * 997 + update * 131 + worker) % 900'000;
          entry.length = (stream * 31 + update * 17) % 5000;
          client.Submit(entry);
        }
      }
      for (uint32_t stream = 0; stream < kStreams; ++stream) {
        client.Submit(Entry(1'000'000 + stream, DigestOp::kFinish, stream));
      }
      client.WaitForAll(&rung_);
      for (uint32_t stream = 0; stream < kStreams; ++stream) {
        BodyDigest expected(kDigestAll);
        for (uint32_t update = 0; update < kUpdates; ++update) {
          expected.Update(std::span<const std::byte>(slab_).subspan(
              (stream * 997 + update * 131 + worker) % 900'000, (stream * 31 + update * 17) % 5000));
        }
        DigestResults results;
        expected.Finish(&results);
        const DigestCqEntry& done = client.completions.at(1'000'000 + stream);
        EXPECT_EQ(done.status, 0U);
        EXPECT_EQ(std::memcmp(&done.results, &results, sizeof(results)), 0) << stream;
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(DigestWorkersTest, BadRequestsAreAnsweredNotObeyed) {
  DigestWorkers workers(Options(1, 8));
  Client client(&workers, 0);
  client.Submit(Entry(1, DigestOp::kUpdate, 5));  // never begun
  auto outside = Entry(2, DigestOp::kUpdate, 0, kDigestMd5);
  outside.slab_offset = slab_.size() - 10;
  outside.length = 11;
  client.Submit(outside);
  auto far = outside;
  far.token = 3;
  far.slab_offset = UINT64_MAX;
  client.Submit(far);
  client.Submit(Entry(4, DigestOp::kFinish, kMaxDigestStreams, kDigestMd5));
  client.Submit(Entry(5, static_cast<DigestOp>(9), 0));
  client.Submit(Entry(6, DigestOp::kAbort, 7));
  client.WaitForAll(&rung_);
  for (uint32_t token = 1; token <= 5; ++token) {
    EXPECT_EQ(client.completions.at(token).status, static_cast<uint32_t>(ErrorCode::kInvalidArgument)) << token;
  }
  EXPECT_EQ(client.completions.at(6).status, 0U);
}

TEST_F(DigestWorkersTest, ClosingWithWorkQueuedReturns) {
  for (int round = 0; round < 50; ++round) {
    DigestWorkers workers(Options(2, 256));
    Client client(&workers, static_cast<uint32_t>(round) % 2);
    for (uint32_t i = 0; i < 100; ++i) {
      auto entry = Entry(i, DigestOp::kUpdate, 0, i == 0 ? uint8_t{kDigestMd5} : uint8_t{0});
      entry.length = 100'000;
      client.Submit(entry);
    }
    workers.Close();
    workers.Close();
  }
}

TEST_F(DigestWorkersTest, NoWakeUpIsLostOverManyShortBursts) {
  DigestWorkers workers(Options(1, 4));
  Client client(&workers, 0);
  for (uint32_t i = 0; i < 20'000; ++i) {
    client.Submit(Entry(i, DigestOp::kFinish, 0, kDigestCrc32));
    if (i % 3 == 0) client.WaitForAll(&rung_);
  }
  client.WaitForAll(&rung_);
  EXPECT_EQ(client.order.size(), 20'000U);
}

TEST_F(DigestWorkersTest, FragmentsAreComputedInTheSlabAndWhatIsNoneIsRefused) {
  DigestWorkers workers(Options(1, 16));
  Client client(&workers, 0);
  // Two data fragments of which the second ends early, two parity fragments.
  const auto write = [this](size_t at, const std::vector<uint32_t>& words) {
    std::memcpy(slab_.data() + at, words.data(), words.size() * 4);
    return static_cast<uint32_t>(words.size() * 4);
  };
  const auto ask = [&](uint32_t token, size_t at, const std::vector<uint32_t>& words) {
    DigestSqEntry entry = Entry(token, DigestOp::kRecompute, 0);
    entry.slab_offset = at;
    entry.length = write(at, words);
    client.Submit(entry);
    client.WaitForAll(&rung_);
    return static_cast<ErrorCode>(client.completions.at(token).status);
  };
  const std::vector<std::byte> first(slab_.begin() + 4096, slab_.begin() + 8192);
  const std::vector<std::byte> second(slab_.begin() + 8192, slab_.begin() + 9192);
  EXPECT_EQ(ask(1, 12288, {2, 2, 4096, 2, 0, 4096, 4096, 1, 8192, 1000, 2, 12288, 3, 16384}), ErrorCode::kOk);
  EXPECT_EQ(ask(2, 20480, {2, 2, 4096, 2, 2, 12288, 4096, 3, 16384, 4096, 0, 20480, 1, 24576}), ErrorCode::kOk);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), slab_.begin() + 20480));
  EXPECT_TRUE(std::equal(second.begin(), second.end(), slab_.begin() + 24576));
  const auto slab_bytes = static_cast<uint32_t>(slab_.size());
  EXPECT_EQ(ask(3, 32768, {2, 2, 4096, 1, 0, slab_bytes, 4096, 1, 8192, 1000, 2, 32768}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(4, 32768, {2, 2, 4096, 1, 0, 4096, 4096, 1, 8192, 1000, 2, slab_bytes - 1}),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(5, 32768, {2, 2, 4096, 2, 0, 4096, 4096, 1, 8192, 1000, 2, 32768}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(6, 32768, {99, 2, 4096, 1, 0, 4096, 4096}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(7, 32768, {2, 2}), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace pando
