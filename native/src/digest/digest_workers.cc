#include "pando/digest_workers.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "digest/md5_lanes.h"
#include "pando/erasure.h"

namespace pando {

class DigestWorkers::Worker {
 public:
  Worker(uint32_t entries, std::span<std::byte> slab, const std::function<void()>& doorbell)
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

  /// A stream's entries in their order, and how far the first of them has come.
  struct Stream {
    std::unique_ptr<BodyDigest> digest;
    std::vector<DigestSqEntry> entries;  // few: a body has a window of its own
    size_t done_bytes = 0;
    size_t turn_bytes = 0;
  };

  void Run() {
    while (!stop_.load()) {
      TakeEntries();
      if (ready_.empty() && codes_.empty()) {
        Sleep(head_);
        continue;
      }
      // In turns: a chunk's fragments take about as long as the digest of its slices.
      if (!codes_.empty()) {
        Complete(codes_.front(), Recompute(codes_.front()));
        codes_.pop_front();
      }
      if (!ready_.empty()) Advance();
    }
  }

  /// Moves what JavaScript has submitted to the streams it belongs to: the bodies of one turn are digested together.
  void TakeEntries() {
    const uint32_t tail = control_->sq_tail.value.load();
    if (tail == head_) return;
    while (head_ != tail) {
      const DigestSqEntry entry = sq_[head_ & (entries_ - 1)];
      ++head_;
      if (static_cast<DigestOp>(entry.op) == DigestOp::kRecompute) {
        codes_.push_back(entry);
        continue;
      }
      if (entry.stream >= kMaxDigestStreams) {
        Complete(entry, ErrorCode::kInvalidArgument);
        continue;
      }
      if (entry.stream >= streams_.size()) streams_.resize(std::bit_ceil(entry.stream + 1));
      std::vector<DigestSqEntry>& waiting = streams_[entry.stream].entries;
      if (waiting.empty()) ready_.push_back(entry.stream);
      waiting.push_back(entry);
    }
    control_->sq_head.value.store(head_);
  }

  /// One slice of each of the first streams that have something to do. A stream keeps its place for a turn's worth of bytes:
  /// of bodies that arrive together the first ends early instead of all ending late, and a long one lets others pass.
  void Advance() {
    std::array<uint32_t, kTogether> streams;
    std::array<DigestUpdate, kTogether> updates;
    size_t count = 0;
    const size_t most = BodiesAtOnce(ready_.size());
    for (size_t turns = ready_.size(); turns > 0 && count < most; --turns) {
      const uint32_t stream = ready_.front();
      ready_.pop_front();
      const auto slice = NextSlice(streams_[stream]);
      if (!slice.empty()) {
        streams[count] = stream;
        updates[count++] = {streams_[stream].digest.get(), slice};
      } else if (!streams_[stream].entries.empty()) {
        ready_.push_back(stream);
      }
    }
    BodyDigest::UpdateTogether(std::span(updates).first(count));
    for (size_t i = count; i-- > 0;) {
      Stream& stream = streams_[streams[i]];
      stream.done_bytes += updates[i].data.size();
      stream.turn_bytes += updates[i].data.size();
      if (stream.done_bytes == stream.entries.front().length) EndEntry(stream, ErrorCode::kOk);
      if (stream.entries.empty()) {
        stream.turn_bytes = 0;
      } else if (stream.turn_bytes < kTurnBytes) {
        ready_.push_front(streams[i]);
      } else {
        stream.turn_bytes = 0;
        ready_.push_back(streams[i]);
      }
    }
  }

  /// Two bodies side by side cost what one costs; more only pay together where there is a kernel of eight lanes.
  static size_t BodiesAtOnce(size_t ready) { return ready > digest::kMd5PairLanes ? kTogether : 2; }

  /// The next bytes to digest; empty when the first entry was none of an update and is answered.
  std::span<const std::byte> NextSlice(Stream& stream) {
    DigestSqEntry& entry = stream.entries.front();
    if (entry.algorithms != 0) {
      stream.digest = std::make_unique<BodyDigest>(entry.algorithms);
      entry.algorithms = 0;
    }
    const auto op = static_cast<DigestOp>(entry.op);
    if (op == DigestOp::kUpdate && stream.digest != nullptr && entry.length > 0 &&
        entry.slab_offset <= slab_.size() && entry.length <= slab_.size() - entry.slab_offset) {
      const size_t bytes = std::min(kSliceBytes, entry.length - stream.done_bytes);
      return slab_.subspan(entry.slab_offset + stream.done_bytes, bytes);
    }
    DigestResults results{};
    const ErrorCode code = ApplyAtOnce(stream, entry, &results);
    EndEntry(stream, code, results);
    return {};
  }

  ErrorCode ApplyAtOnce(Stream& stream, const DigestSqEntry& entry, DigestResults* results) {
    const auto op = static_cast<DigestOp>(entry.op);
    if (op == DigestOp::kAbort) {
      stream.digest.reset();
      return ErrorCode::kOk;
    }
    if (stream.digest == nullptr) return ErrorCode::kInvalidArgument;
    if (op == DigestOp::kUpdate) {
      const bool outside = entry.slab_offset > slab_.size() || entry.length > slab_.size() - entry.slab_offset;
      return outside ? ErrorCode::kInvalidArgument : ErrorCode::kOk;
    }
    if (op != DigestOp::kFinish) return ErrorCode::kInvalidArgument;
    stream.digest->Finish(results);
    stream.digest.reset();
    return ErrorCode::kOk;
  }

  ErrorCode Recompute(const DigestSqEntry& entry) {
    std::array<uint32_t, kMaxRecomputeBytes / 4> words{};
    if (entry.length < 16 || entry.length > kMaxRecomputeBytes || !InSlab(entry.slab_offset, entry.length)) {
      return ErrorCode::kInvalidArgument;
    }
    std::memcpy(words.data(), slab_.data() + entry.slab_offset, entry.length);
    const auto [data, parity, bytes, count] = std::array{words[0], words[1], words[2], words[3]};
    auto code = ErasureCode::Create(data, parity);
    if (!code.ok() || count > data + parity || entry.length != 4 * (4 + 3 * data + 2 * count)) {
      return ErrorCode::kInvalidArgument;
    }
    std::array<ErasureCode::Source, kMostDataFragments> sources;
    std::array<ErasureCode::Target, kMostDataFragments + kMostParityFragments> targets;
    const uint32_t* next = words.data() + 4;
    for (uint32_t i = 0; i < data; ++i, next += 3) {
      if (!InSlab(next[1], next[2])) return ErrorCode::kInvalidArgument;
      sources[i] = {next[0], slab_.subspan(next[1], next[2])};
    }
    for (uint32_t i = 0; i < count; ++i, next += 2) {
      if (!InSlab(next[1], bytes)) return ErrorCode::kInvalidArgument;
      targets[i] = {next[0], slab_.subspan(next[1], bytes)};
    }
    return code.value().Compute(std::span(sources).first(data), std::span(targets).first(count)).code();
  }

  [[nodiscard]] bool InSlab(uint64_t offset, uint64_t length) const {
    return offset <= slab_.size() && length <= slab_.size() - offset;
  }

  void EndEntry(Stream& stream, ErrorCode code, const DigestResults& results = {}) {
    Complete(stream.entries.front(), code, results);
    stream.entries.erase(stream.entries.begin());
    stream.done_bytes = 0;
  }

  void Sleep(uint32_t head) {
    // Order: read the wake count, tell that we sleep, look again. A kick after the count was read ends the wait at
    // once; one before it came after the tail that we then see.
    const uint32_t seen = wake_.load();
    control_->sleeping.value.store(1);
    if (control_->sq_tail.value.load() == head && !stop_.load()) wake_.wait(seen);
    control_->sleeping.value.store(0);
  }

  void Complete(const DigestSqEntry& entry, ErrorCode code, const DigestResults& results = {}) {
    DigestCqEntry done{};
    done.token = entry.token;
    done.status = static_cast<uint32_t>(code);
    done.results = results;
    const uint32_t tail = cq_tail_++;
    PANDO_ASSERT(tail - control_->cq_head.value.load() < entries_);
    cq_[tail & (entries_ - 1)] = done;
    control_->cq_tail.value.store(cq_tail_);
    if (control_->armed.value.exchange(0) == 1) doorbell_();
  }

  /// Bodies that are digested side by side, and how much of each before newcomers may join.
  static constexpr size_t kTogether = 8;
  static constexpr size_t kSliceBytes = size_t{32} << 10U;
  static constexpr size_t kTurnBytes = size_t{1} << 20U;

  const uint32_t entries_;
  const std::span<std::byte> slab_;
  const std::function<void()>& doorbell_;
  size_t bytes_ = 0;
  std::byte* memory_ = nullptr;
  PortControl* control_ = nullptr;
  DigestSqEntry* sq_ = nullptr;
  DigestCqEntry* cq_ = nullptr;
  uint32_t head_ = 0;
  uint32_t cq_tail_ = 0;
  std::vector<Stream> streams_;
  /// Streams that have entries, each once, in the order in which they will be served.
  std::deque<uint32_t> ready_;
  /// Fragments to compute; as many as the ring has entries at most.
  std::deque<DigestSqEntry> codes_;
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
