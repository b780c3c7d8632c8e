#include "pando/digest_workers.h"

#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <utility>
#include <vector>

namespace pando {

class DigestWorkers::Worker {
 public:
  Worker(uint32_t entries, std::span<const std::byte> slab, const std::function<void()>& doorbell)
      : entries_(entries), slab_(slab), doorbell_(doorbell) {
    bytes_ = kPortControlBytes + entries * (sizeof(DigestSqEntry) + sizeof(DigestCqEntry));
    memory_ = static_cast<std::byte*>(std::aligned_alloc(kSlabAlignment, RoundUp(bytes_)));
    PANDO_ASSERT(memory_ != nullptr);
    std::memset(memory_, 0, RoundUp(bytes_));
    control_ = new (memory_) PortControl();
    control_->sq_entries = entries;
    control_->cq_entries = entries;
    control_->sq_offset = kPortControlBytes;
    control_->cq_offset = static_cast<uint32_t>(kPortControlBytes + entries * sizeof(DigestSqEntry));
    control_->slab_bytes = slab.size();
    sq_ = reinterpret_cast<DigestSqEntry*>(memory_ + control_->sq_offset);
    cq_ = reinterpret_cast<DigestCqEntry*>(memory_ + control_->cq_offset);
    thread_ = std::thread([this] { Run(); });
  }

  ~Worker() {
    Stop();
    std::free(memory_);
  }

  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  std::span<std::byte> rings() { return {memory_, bytes_}; }

  void Kick() {
    wake_.fetch_add(1);
    wake_.notify_one();
  }

  void Stop() {
    if (!thread_.joinable()) return;
    stop_.store(true);
    Kick();
    thread_.join();
  }

 private:
  static size_t RoundUp(size_t bytes) { return (bytes + kSlabAlignment - 1) / kSlabAlignment * kSlabAlignment; }

  void Run() {
    uint32_t head = 0;
    while (!stop_.load()) {
      if (control_->sq_tail.value.load() == head) {
        Sleep(head);
        continue;
      }
      const DigestSqEntry entry = sq_[head & (entries_ - 1)];
      control_->sq_head.value.store(++head);
      Complete(Handle(entry));
    }
  }

  void Sleep(uint32_t head) {
    // Order: read the wake count, tell that we sleep, look again. A kick after the count was read ends the wait at
    // once; one before it came after the tail that we then see.
    const uint32_t seen = wake_.load();
    control_->sleeping.value.store(1);
    if (control_->sq_tail.value.load() == head && !stop_.load()) wake_.wait(seen);
    control_->sleeping.value.store(0);
  }

  DigestCqEntry Handle(const DigestSqEntry& entry) {
    DigestCqEntry done{};
    done.token = entry.token;
    done.status = static_cast<uint32_t>(Apply(entry, &done.results));
    return done;
  }

  ErrorCode Apply(const DigestSqEntry& entry, DigestResults* results) {
    if (entry.stream >= kMaxDigestStreams) return ErrorCode::kInvalidArgument;
    if (entry.stream >= streams_.size()) streams_.resize(std::bit_ceil(entry.stream + 1));
    std::unique_ptr<BodyDigest>& stream = streams_[entry.stream];
    if (entry.algorithms != 0) stream = std::make_unique<BodyDigest>(entry.algorithms);
    const auto op = static_cast<DigestOp>(entry.op);
    if (op == DigestOp::kAbort) {
      stream.reset();
      return ErrorCode::kOk;
    }
    if (stream == nullptr) return ErrorCode::kInvalidArgument;
    if (op == DigestOp::kUpdate) {
      if (entry.slab_offset > slab_.size() || entry.length > slab_.size() - entry.slab_offset) {
        return ErrorCode::kInvalidArgument;
      }
      stream->Update(slab_.subspan(entry.slab_offset, entry.length));
      return ErrorCode::kOk;
    }
    if (op != DigestOp::kFinish) return ErrorCode::kInvalidArgument;
    stream->Finish(results);
    stream.reset();
    return ErrorCode::kOk;
  }

  void Complete(const DigestCqEntry& done) {
    const uint32_t tail = cq_tail_++;
    PANDO_ASSERT(tail - control_->cq_head.value.load() < entries_);
    cq_[tail & (entries_ - 1)] = done;
    control_->cq_tail.value.store(cq_tail_);
    if (control_->armed.value.exchange(0) == 1) doorbell_();
  }

  const uint32_t entries_;
  const std::span<const std::byte> slab_;
  const std::function<void()>& doorbell_;
  size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
  PortControl* control_ = nullptr;
  DigestSqEntry* sq_ = nullptr;
  DigestCqEntry* cq_ = nullptr;
  uint32_t cq_tail_ = 0;
  std::vector<std::unique_ptr<BodyDigest>> streams_;
  std::atomic<uint32_t> wake_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;  // last: it uses all of the above
};

struct DigestWorkers::State {
  std::function<void()> doorbell;
  std::vector<std::unique_ptr<Worker>> workers;
};

DigestWorkers::DigestWorkers(DigestWorkersOptions options) : state_(std::make_unique<State>()) {
  PANDO_ASSERT(options.workers > 0 && std::has_single_bit(options.entries));
  state_->doorbell = std::move(options.doorbell);
  for (uint32_t i = 0; i < options.workers; ++i) {
    state_->workers.push_back(std::make_unique<Worker>(options.entries, options.slab, state_->doorbell));
  }
}

DigestWorkers::~DigestWorkers() = default;

uint32_t DigestWorkers::workers() const { return static_cast<uint32_t>(state_->workers.size()); }

std::span<std::byte> DigestWorkers::rings(uint32_t worker) { return state_->workers.at(worker)->rings(); }

void DigestWorkers::Kick(uint32_t worker) { state_->workers.at(worker)->Kick(); }

void DigestWorkers::Close() {
  for (auto& worker : state_->workers) worker->Stop();
}

}  // namespace pando
