// One side of a session spoken by hand, over any transport: says what it likes, and tells what it hears.
#ifndef PANDO_TEST_RPC_TRANSPORT_HAND_H_
#define PANDO_TEST_RPC_TRANSPORT_HAND_H_

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "rpc/hello.h"
#include "rpc/transport/endpoint.h"

namespace pando::rpc {

inline Identity IdentityOfHand(uint8_t node, uint8_t key = 7, uint8_t region = 9) {
  std::array<std::byte, 32> secret{};
  secret.fill(std::byte{key});
  Identity identity;
  identity.node.fill(node);
  identity.region.fill(region);
  identity.key = RegionKey(secret);
  return identity;
}

class Hand final : public ConnectionEvents, public AcceptEvents {
 public:
  struct Frame {
    Header header;
    std::vector<std::byte> payload;
  };

  /// `arena` is announced to `driver`.
  Hand(TransportDriver& driver, Arena& arena) : driver_(driver), arena_(arena) {}
  ~Hand() { Hang(); }
  Hand(const Hand&) = delete;
  Hand& operator=(const Hand&) = delete;

  bool Connect(const std::string& address) {
    Hang();
    auto made = driver_.Connect(address);
    if (!made.ok()) return false;
    Take(std::move(made).value());
    return Until([&] { return open || closed; }) && open;
  }
  void OnAccept(std::unique_ptr<Connection> connection) override {
    if (connection_) return;  // one at a time
    Take(std::move(connection));
    open = true;
  }
  void Hang() {
    if (!connection_) return;
    if (!closed) connection_->Close(false);
    EXPECT_TRUE(Until([&] { return closed; }));
    connection_.reset();
    arriving_.clear();
    sent_.clear();
    heard.clear();
    open = closed = false;
  }

  /// The header as it is, but for its CRC; the payload's, too, unless it was set.
  void Say(Header header, std::span<const std::byte> payload = {}) {
    sent_.push_back(std::make_unique<Sent>());
    Sent& sent = *sent_.back();
    if (!payload.empty()) {
      sent.block = arena_.Take();
      ASSERT_NE(sent.block, nullptr);
      std::copy(payload.begin(), payload.end(), sent.block);
      if (header.payload_crc == 0) header.payload_crc = Crc32c(payload);
    }
    sent.owner = this;
    sent.frame.header = EncodeHeader(header);
    sent.frame.payload = {sent.block, payload.size()};
    Send(sent);
  }
  /// Bytes that are no header.
  void SayBytes(uint8_t value) {
    sent_.push_back(std::make_unique<Sent>());
    sent_.back()->owner = this;
    sent_.back()->frame.header.fill(std::byte{value});
    Send(*sent_.back());
  }
  void SayHello(uint32_t step, std::span<const std::byte> payload) {
    Header header;
    header.op = Op::kHello;
    header.flags = kFlagPayload;
    header.offset = step;
    header.length = static_cast<uint32_t>(payload.size());
    Say(header, payload);
  }

  /// The next frame; nothing when the connection ends, or 20 s have passed.
  std::optional<Frame> Hear() {
    if (!Until([&] { return !heard.empty() || closed; }) || heard.empty()) return std::nullopt;
    Frame frame = std::move(heard.front());
    heard.pop_front();
    return frame;
  }
  /// Whether the other side ends the connection without another frame.
  bool HearsTheEnd() { return Until([&] { return closed; }) && heard.empty(); }

  /// The whole greeting as a client; what the server has said at last.
  std::optional<Introduction> Greet(const Identity& who, uint8_t least = kVersion, uint8_t most = kVersion) {
    Nonce nonce;
    nonce.fill(std::byte{0x5a});
    transcript.begin = EncodeBegin(nonce, least, most);
    transcript.introduction.clear();
    SayHello(1, transcript.begin);
    auto challenge = Hear();
    if (!challenge) return std::nullopt;
    transcript.challenge = challenge->payload;
    Introduction own;
    own.node = who.node;
    own.region = who.region;
    own.max_payload_bytes = kMaxChunkBytes;
    own.keep_alive_ms = 10'000;
    own.version_min = least;
    own.version_max = most;
    transcript.introduction = EncodeIntroduction(own, Sender::kClient, transcript, who.key);
    SayHello(3, transcript.introduction);
    auto last = Hear();
    if (!last) return std::nullopt;
    return OpenIntroduction(last->payload, Sender::kServer, transcript, who.key);
  }
  /// The whole greeting as a server; `own` may lie.
  bool Answer(const Identity& who, Introduction own) {
    auto begin = Hear();
    if (!begin) return false;
    Transcript said;
    said.begin = begin->payload;
    said.challenge.assign(kChallengeBytes, std::byte{0x33});
    SayHello(2, said.challenge);
    auto introduction = Hear();
    if (!introduction) return false;
    said.introduction = introduction->payload;
    own.node = who.node;
    own.region = who.region;
    SayHello(4, EncodeIntroduction(own, Sender::kServer, said, who.key));
    return true;
  }

  bool Until(const std::function<bool()>& reached) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!reached()) {
      const auto now = std::chrono::steady_clock::now();
      if (now > limit) return false;
      const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
      driver_.Poll(static_cast<uint64_t>(us.count()));
    }
    return true;
  }

  // ConnectionEvents
  void OnOpen() override { open = true; }
  Landing OnHeader(const HeaderBytes& bytes, const RemoteLanding& /*landing*/) override {
    auto frame = std::make_unique<Arriving>();
    std::memcpy(&frame->header, bytes.data(), sizeof frame->header);
    const uint32_t length = frame->header.payload_bytes();
    if (length == 0) {
      heard.push_back({frame->header, {}});
      return {Landing::Verdict::kTake, 0, {}, nullptr};
    }
    frame->block = arena_.Take();
    if (frame->block == nullptr) return {};
    Landing landing{Landing::Verdict::kTake, length, {frame->block, Arena::kBlockBytes}, frame.get()};
    arriving_.push_back(std::move(frame));
    return landing;
  }
  void OnPayload(void* token) override {
    const auto at = std::find_if(arriving_.begin(), arriving_.end(),
                                 [&](const auto& one) { return one.get() == token; });
    const Arriving& frame = **at;
    heard.push_back({frame.header, {frame.block, frame.block + frame.header.length}});
    arena_.Give(frame.block);
    arriving_.erase(at);
  }
  void OnBadSeal() override { ADD_FAILURE() << "nothing is sealed"; }
  void OnProgress(void*, size_t) override {}
  void OnClosed(const Status&) override {
    for (const auto& frame : arriving_) arena_.Give(frame->block);
    arriving_.clear();
    closed = true;
  }

  bool open = false;
  bool closed = false;
  std::deque<Frame> heard;
  Transcript transcript;

 private:
  struct Sent {
    Hand* owner = nullptr;
    OutgoingFrame frame;
    std::byte* block = nullptr;
  };
  struct Arriving {
    Header header;
    std::byte* block = nullptr;
  };

  void Take(std::unique_ptr<Connection> connection) {
    connection_ = std::move(connection);
    connection_->Start(*this);
  }
  void Send(Sent& sent) {
    sent.frame.context = &sent;
    sent.frame.done = [](OutgoingFrame* frame) {
      auto* const of = static_cast<Sent*>(frame->context);
      if (of->block != nullptr) of->owner->arena_.Give(std::exchange(of->block, nullptr));
    };
    if (closed) {
      sent.frame.done(&sent.frame);
      return;
    }
    connection_->Send(&sent.frame);
  }

  TransportDriver& driver_;
  Arena& arena_;
  std::unique_ptr<Connection> connection_;
  std::deque<std::unique_ptr<Sent>> sent_;
  std::deque<std::unique_ptr<Arriving>> arriving_;
};

}  // namespace pando::rpc

#endif  // PANDO_TEST_RPC_TRANSPORT_HAND_H_
