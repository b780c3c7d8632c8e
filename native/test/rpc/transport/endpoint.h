// One side of a connection as tests need it: remembers what came, compares every payload with what its
// header announced, and takes as much memory as it is told to.
#ifndef PANDO_TEST_RPC_TRANSPORT_ENDPOINT_H_
#define PANDO_TEST_RPC_TRANSPORT_ENDPOINT_H_

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "pando/crc32c.h"
#include "rpc/transport.h"

namespace pando::rpc {

/// Page-aligned memory that is announced to drivers, cut into blocks of the largest payload.
class Arena {
 public:
  static constexpr size_t kBlockBytes = 4U << 20U;

  explicit Arena(size_t blocks = 12)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(4096, blocks * kBlockBytes))),
        bytes_(blocks * kBlockBytes) {
    for (size_t i = 0; i < blocks; ++i) free_.push_back(memory_.get() + i * kBlockBytes);
  }
  [[nodiscard]] std::span<std::byte> all() const { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::byte* Take() {
    if (free_.empty()) return nullptr;
    std::byte* const block = free_.back();
    free_.pop_back();
    return block;
  }
  void Give(std::byte* block) { free_.push_back(block); }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t bytes_;
  std::vector<std::byte*> free_;
};

class Endpoint final : public ConnectionEvents {
 public:
  struct Frame {
    uint32_t id = 0;
    uint32_t bytes = 0;
    bool sound = false;  // the payload has the header's CRC
  };

  explicit Endpoint(Arena& arena) : arena_(arena) {}

  void Take(std::unique_ptr<Connection> connection) {
    connection_ = std::move(connection);
    connection_->Start(*this);
  }

  /// A frame with a payload of these bytes in memory of the arena; false when that is used up.
  bool Send(uint32_t id, uint32_t bytes, uint32_t seed = 1) {
    std::byte* const block = bytes > 0 ? arena_.Take() : nullptr;
    if (bytes > 0 && block == nullptr) return false;
    sent_.push_back(std::make_unique<Sent>());
    Sent& sent = *sent_.back();
    sent.owner = this;
    sent.block = block;
    Fill(block, bytes, id * 2654435761U + seed);
    Header header;
    header.op = Op::kPut;
    header.flags = kFlagPayload;
    header.id = id;
    header.length = bytes;
    header.payload_crc = Crc32c({block, bytes});
    sent.frame.header = EncodeHeader(header);
    sent.frame.payload = {block, bytes};
    sent.frame.context = &sent;
    sent.frame.done = [](OutgoingFrame* frame) {
      auto* const of = static_cast<Sent*>(frame->context);
      ++of->times_done;
      ++of->owner->done;
      if (of->block != nullptr) of->owner->arena_.Give(of->block);
      of->block = nullptr;
    };
    connection_->Send(&sent.frame);
    return true;
  }

  void OnOpen() override { open = true; }
  Landing OnHeader(const HeaderBytes& bytes, const RemoteLanding&) override {
    Header header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (on_header) on_header(header);
    Landing landing;
    if (closing) return landing;
    landing.bytes = header.length;
    if (skip) {
      landing.verdict = Landing::Verdict::kSkip;
      ++skipped;
      return landing;
    }
    if (hold) {
      landing.verdict = Landing::Verdict::kWait;
      ++waits;
      return landing;
    }
    landing.verdict = Landing::Verdict::kTake;
    if (header.length == 0) {
      received.push_back({header.id, 0, true});
      return landing;
    }
    auto arriving = std::make_unique<Arriving>(header, arena_.Take());
    if (arriving->block == nullptr) {
      landing.verdict = Landing::Verdict::kWait;
      starved = true;
      ++waits;
      return landing;
    }
    landing.memory = {arriving->block, Arena::kBlockBytes};
    landing.token = arriving.get();
    arriving_.push_back(std::move(arriving));
    return landing;
  }
  void OnPayload(void* token) override {
    if (token == nullptr) {
      ++dropped;
      return;
    }
    for (auto at = arriving_.begin(); at != arriving_.end(); ++at) {
      if (at->get() != token) continue;
      const Header& header = (*at)->header;
      const std::span<const std::byte> payload((*at)->block, header.length);
      const uint32_t sum = Crc32c(payload.subspan((*at)->summed), (*at)->sum);
      received.push_back({header.id, header.length,
                          Crc32c(payload) == header.payload_crc && sum == header.payload_crc});
      bytes_received += header.length;
      arena_.Give((*at)->block);
      arriving_.erase(at);
      if (on_payload) on_payload(received.back());
      return;
    }
    ADD_FAILURE() << "a payload that nobody waits for";
  }
  void OnBadSeal() override {
    bad_seal = true;
    connection_->Close(false);
  }
  void OnProgress(void* token, size_t landed) override {
    ++progress;
    if (landed == 0) return;
    for (const auto& arriving : arriving_) {
      if (arriving.get() != token) continue;
      // What is said to be there is there: the sum over the parts is that of the whole.
      EXPECT_TRUE(landed >= arriving->summed && landed < arriving->header.length);
      arriving->sum = Crc32c({arriving->block + arriving->summed, landed - arriving->summed}, arriving->sum);
      arriving->summed = landed;
      return;
    }
    ADD_FAILURE() << "progress of a payload that nobody waits for";
  }
  void OnClosed(const Status& status) override {
    closed = status.ok() ? ErrorCode::kOk : status.code();
    why = status.ok() ? "" : status.error().message;
    for (auto& arriving : arriving_) arena_.Give(arriving->block);
    arriving_.clear();
  }

  /// Wants the payload that is on its way no more; the memory that it would have come to, which stays taken
  /// from the arena, or null when the connection does not let go of it.
  [[nodiscard]] std::byte* DropArriving() {
    std::byte* const block = arriving_.front()->block;
    if (!connection_->DropPayload(arriving_.front().get())) return nullptr;
    arriving_.pop_front();
    return block;
  }
  [[nodiscard]] size_t arriving() const { return arriving_.size(); }

  [[nodiscard]] Connection& connection() { return *connection_; }
  void Destroy() { connection_.reset(); }
  [[nodiscard]] size_t sent() const { return sent_.size(); }
  [[nodiscard]] bool each_done_once() const {
    for (const auto& sent : sent_) {
      if (sent->times_done != 1) return false;
    }
    return true;
  }
  [[nodiscard]] OutgoingFrame* frame(size_t index) { return &sent_[index]->frame; }
  /// Forgets frames that are done, for long transfers.
  void Forget() {
    while (!sent_.empty() && sent_.front()->times_done > 0) sent_.pop_front();
  }

  bool open = false;
  bool hold = false;
  bool skip = false;
  bool starved = false;
  bool closing = false;
  bool bad_seal = false;
  size_t waits = 0;
  size_t skipped = 0;
  size_t dropped = 0;
  size_t done = 0;
  size_t progress = 0;
  uint64_t bytes_received = 0;
  std::deque<Frame> received;
  std::optional<ErrorCode> closed;
  std::string why;
  std::function<void(const Header&)> on_header;
  std::function<void(const Frame&)> on_payload;

  /// Cheap bytes that differ for each seed and place.
  static void Fill(std::byte* memory, size_t bytes, uint64_t seed) {
    uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
    size_t at = 0;
    for (; at + 8 <= bytes; at += 8) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      std::memcpy(memory + at, &state, 8);
    }
    for (; at < bytes; ++at) memory[at] = static_cast<std::byte>(state >> (8 * (at % 8)));
  }

 private:
  struct Sent {
    Endpoint* owner = nullptr;
    OutgoingFrame frame;
    std::byte* block = nullptr;
    int times_done = 0;
  };
  struct Arriving {
    Arriving(const Header& of, std::byte* memory) : header(of), block(memory) {}
    Header header;
    std::byte* block;
    size_t summed = 0;
    uint32_t sum = 0;
  };
  Arena& arena_;
  std::unique_ptr<Connection> connection_;
  std::deque<std::unique_ptr<Sent>> sent_;
  std::deque<std::unique_ptr<Arriving>> arriving_;
};

/// Accepts as many as come.
class Reception final : public AcceptEvents {
 public:
  explicit Reception(Arena& arena) : arena_(arena) {}
  void OnAccept(std::unique_ptr<Connection> connection) override {
    if (refuse) return;
    guests.push_back(std::make_unique<Endpoint>(arena_));
    guests.back()->Take(std::move(connection));
  }
  std::vector<std::unique_ptr<Endpoint>> guests;
  bool refuse = false;

 private:
  Arena& arena_;
};

}  // namespace pando::rpc

#endif  // PANDO_TEST_RPC_TRANSPORT_ENDPOINT_H_
