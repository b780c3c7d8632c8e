// Feeds arbitrary bytes to what reads from a network: the frame decoder, and sessions of both roles
// before, in and after the greeting. Checks that no input makes a session take memory beyond what it
// granted, answer twice, or leave anything behind. Used by libFuzzer (fuzz/) and by a seeded test
// that any compiler builds (test/rpc/session_fuzz_test.cc).
#ifndef PANDO_FUZZ_RPC_FUZZ_H_
#define PANDO_FUZZ_RPC_FUZZ_H_

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "block/aligned_buffer.h"
#include "pando/crc32c.h"
#include "reactor/port_slot.h"
#include "rpc/client_session.h"
#include "rpc/seal.h"
#include "rpc/server_session.h"

namespace pando::rpc {

/// A connection whose other end is the test: what is sent is collected, what comes is fed.
class FedConnection final : public Connection {
 public:
  explicit FedConnection(std::vector<std::byte>& sent) : sent_(sent) {}
  void Start(ConnectionEvents& events) override { events_ = &events; }
  void Send(OutgoingFrame* frame) override {
    PANDO_ASSERT(!told_);
    queue_.push_back(frame);
  }
  bool Withdraw(OutgoingFrame* frame) override { return std::erase(queue_, frame) > 0; }
  bool ForgetLanding(OutgoingFrame* /*request*/) override { return true; }
  void Resume() override { waits_ = false; }
  void Close(bool /*flush*/) override { closing_ = true; }
  ConnectionStats Stats() const override { return {}; }

  ConnectionEvents& events() { return *events_; }
  void Pump() {
    while (!queue_.empty()) {
      OutgoingFrame* frame = queue_.front();
      queue_.pop_front();
      sent_.insert(sent_.end(), frame->header.begin(), frame->header.end());
      sent_.insert(sent_.end(), frame->payload.begin(), frame->payload.end());
      frame->done(frame);
    }
    if (closing_) Cut();
  }
  /// Takes as much as it can.
  void Feed(std::span<const std::byte> bytes) {
    while (!bytes.empty() && !told_ && !closing_ && !waits_) {
      if (missing_ > 0) {
        const size_t step = std::min(missing_, bytes.size());
        if (!skips_) {
          std::memcpy(at_, bytes.data(), step);
          at_ += step;
        }
        missing_ -= step;
        bytes = bytes.subspan(step);
        if (missing_ == 0 && !skips_) events_->OnPayload(token_);
        if (missing_ > 0) events_->OnProgress(token_, skips_ ? 0 : bytes_ - missing_);
        continue;
      }
      const size_t step = std::min(kHeaderBytes - held_, bytes.size());
      std::memcpy(header_.data() + held_, bytes.data(), step);
      held_ += step;
      bytes = bytes.subspan(step);
      if (held_ < kHeaderBytes) return;
      held_ = 0;
      const Landing landing = events_->OnHeader(header_, {});
      if (landing.verdict == Landing::Verdict::kStop) return;
      if (landing.verdict == Landing::Verdict::kWait) {
        waits_ = true;  // the header is lost to this test; the session must not mind
        return;
      }
      PANDO_ASSERT(landing.bytes <= kMaxChunkBytes);
      skips_ = landing.verdict == Landing::Verdict::kSkip;
      PANDO_ASSERT(skips_ || landing.memory.size() >= landing.bytes);
      bytes_ = missing_ = landing.bytes;
      at_ = landing.memory.data();
      token_ = landing.token;
    }
  }
  void Cut() {
    if (told_) return;
    told_ = true;
    for (OutgoingFrame* frame : std::exchange(queue_, {})) frame->done(frame);
    events_->OnClosed({});
  }

 private:
  std::vector<std::byte>& sent_;
  ConnectionEvents* events_ = nullptr;
  std::deque<OutgoingFrame*> queue_;
  HeaderBytes header_;
  size_t held_ = 0;
  size_t bytes_ = 0;
  size_t missing_ = 0;
  std::byte* at_ = nullptr;
  void* token_ = nullptr;
  bool skips_ = false;
  bool waits_ = false;
  bool closing_ = false;
  bool told_ = false;
};

/// A reactor and a store that answers OK to everything.
class FuzzHost final : public SessionHost, public SlotOwner {
 public:
  FuzzHost() : pool_(Memory().span()) {}
  uint64_t now_us() const override { return now; }
  void FillNonce(Nonce& nonce) override { nonce.fill(std::byte{5}); }
  BufferPool& pool() override { return pool_; }
  void Submit(PortSlot* slot) override {
    PANDO_ASSERT(slot->request.data == nullptr || slot->request.length <= kMaxChunkBytes);
    waiting_.push_back(slot);
  }
  bool Admit(Session& /*session*/) override { return true; }
  void Over(Session& /*session*/) override { over = true; }
  Reactor& home() override { PANDO_ASSERT(false); }
  void Completed(PortSlot* /*slot*/) override {}
  void Serve() {
    while (!waiting_.empty()) {
      PortSlot* slot = waiting_.front();
      waiting_.pop_front();
      StoreRequest& request = slot->request;
      request.status = ErrorCode::kOk;
      request.out_length = request.op == PortOp::kGet ? request.length : 0;
      if (request.op == PortOp::kStats) request.out_length = sizeof(StoreStats);
      request.out_chunk_length = request.length;
      request.out_crc = 0;
      ServerSession::Completed(slot);
    }
    pool_.Serve();
  }
  bool over = false;
  uint64_t now = 1000;

 private:
  /// One for all inputs: zeroing it anew would be most of the work.
  static AlignedBuffer& Memory() {
    static AlignedBuffer memory(8U << 20U);
    return memory;
  }

  BufferPool pool_;
  std::deque<PortSlot*> waiting_;
};

/// What the server knows of moves: a half of the groups with an epoch that small numbers are older than.
inline MovedGroups FuzzMoves() {
  static std::array<uint32_t, kMovedPerPage> moved = [] {
    std::array<uint32_t, kMovedPerPage> epochs{};
    for (size_t i = 0; i < epochs.size(); i += 2) epochs[i] = 1U << 20U;
    return epochs;
  }();
  MovedGroups groups;
  groups.pages.fill(moved.data());
  return groups;
}

inline SessionOptions FuzzOptions() {
  SessionOptions options;
  options.moved = FuzzMoves();
  options.request_credits = 8;
  options.byte_credits = kMaxChunkBytes;
  return options;
}

/// The greeting's other side, so that the input can begin behind it. The nonces are FillNonce's.
inline std::vector<std::byte> ClientGreeting() {
  Nonce nonce;
  nonce.fill(std::byte{5});
  Transcript transcript;
  transcript.begin = EncodeBegin(nonce, 1, 1);
  transcript.challenge.assign(nonce.begin(), nonce.end());
  Introduction own;
  own.max_payload_bytes = kMaxChunkBytes;
  own.keep_alive_ms = 1000;
  std::vector<std::byte> bytes = HelloFrame(1, transcript.begin);
  const auto third =
      HelloFrame(3, EncodeIntroduction(own, Sender::kClient, transcript, RegionKey()));
  bytes.insert(bytes.end(), third.begin(), third.end());
  return bytes;
}

/// Answers to the steps 1 and 3 that the client of these nonces sends.
inline std::vector<std::byte> ServerGreeting(std::span<const std::byte> third_payload) {
  Nonce nonce;
  nonce.fill(std::byte{5});
  Transcript transcript;
  transcript.begin = EncodeBegin(nonce, 1, 1);
  transcript.challenge.assign(nonce.begin(), nonce.end());
  transcript.introduction.assign(third_payload.begin(), third_payload.end());
  Introduction own;
  own.max_payload_bytes = kMaxChunkBytes;
  own.request_credits = 8;
  own.byte_credits = kMaxChunkBytes;
  own.version = 1;
  return HelloFrame(4, EncodeIntroduction(own, Sender::kServer, transcript, RegionKey()));
}

/// Puts headers of the input right where that is asked for: random bytes never have a CRC that holds.
inline std::vector<std::byte> Mend(std::span<const std::byte> input, bool as_client) {
  std::vector<std::byte> out;
  while (input.size() > kHeaderBytes) {
    const auto how = static_cast<uint8_t>(input[0]);
    input = input.subspan(1);
    Header header;
    std::memcpy(&header, input.data(), sizeof header);
    input = input.subspan(kHeaderBytes);
    if ((how & 1U) != 0) {
      header.magic = kMagic;
      header.version = 1;
      header.flags &= 3;
      if (as_client) {
        header.flags = static_cast<uint16_t>(header.flags & ~kFlagAnswer);
        header.status = 0;
      } else if ((how & 64U) != 0) {
        header.flags |= kFlagAnswer;
        header.id = 1U << 16U | (header.id & 7U);
      }
      if ((how & 2U) != 0) header.op = static_cast<Op>(1 + static_cast<uint8_t>(header.op) % 10);
      if ((how & 4U) != 0) header.length %= 5000;
      if ((how & 8U) != 0) header.length = 0;
      if ((how & 16U) != 0) header.id %= 16;
      if (header.op != Op::kPut && (how & 32U) != 0 && as_client) header.flags = 0;
      if ((header.flags & kFlagPayload) == 0) header.payload_crc = 0;
      const HeaderBytes sealed = EncodeHeader(header);
      out.insert(out.end(), sealed.begin(), sealed.end());
      const size_t payload = std::min<size_t>(header.payload_bytes(), input.size());
      out.insert(out.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(payload));
      input = input.subspan(payload);
    } else {
      const auto* raw = reinterpret_cast<const std::byte*>(&header);
      out.insert(out.end(), raw, raw + sizeof header);
    }
  }
  out.insert(out.end(), input.begin(), input.end());
  return out;
}

inline void FeedInPieces(FedConnection& connection, FuzzHost& host, std::span<const std::byte> bytes,
                         size_t piece) {
  while (!bytes.empty() && !host.over) {
    const size_t step = std::min(piece, bytes.size());
    connection.Feed(bytes.first(step));
    bytes = bytes.subspan(step);
    connection.Pump();
    host.Serve();
    connection.Pump();
  }
}

inline void FuzzServer(std::span<const std::byte> input, bool greeted, size_t piece) {
  FuzzHost host;
  std::vector<std::byte> sent;
  ServerSession session(host, FuzzOptions(), host);
  auto owned = std::make_unique<FedConnection>(sent);
  FedConnection& connection = *owned;
  session.Begin(std::move(owned));
  if (greeted) {
    FeedInPieces(connection, host, ClientGreeting(), 1U << 20U);
    PANDO_ASSERT(session.open());
    FeedInPieces(connection, host, Mend(input, true), piece);
  } else {
    FeedInPieces(connection, host, input, piece);
    // Whoever proves nothing gets a challenge and not a byte more.
    PANDO_ASSERT(!session.open() && sent.size() <= kHeaderBytes + kChallengeBytes);
  }
  PANDO_ASSERT(session.unanswered() <= 8);
  host.now += 1000;
  session.Tick();
  connection.Cut();
  host.Serve();
  PANDO_ASSERT(host.over && host.pool().used_bytes() == 0);
}

inline void FuzzClient(std::span<const std::byte> input, bool greeted, size_t piece) {
  FuzzHost host;
  std::vector<std::byte> sent;
  PeerCounters counters = {};
  AlignedBuffer memory(8 * 4096);
  std::array<ClientCall, 8> calls;
  std::array<int, 8> ended = {};
  ClientSession session(
      host, FuzzOptions(), &counters, [](ClientSession*) {}, nullptr);
  auto owned = std::make_unique<FedConnection>(sent);
  FedConnection& connection = *owned;
  session.Begin(std::move(owned));
  connection.events().OnOpen();
  connection.Pump();
  if (greeted) {
    Nonce nonce;
    nonce.fill(std::byte{5});
    FeedInPieces(connection, host, HelloFrame(2, nonce), 1U << 20U);
    const auto third = std::span(sent).subspan(2 * kHeaderBytes + kBeginBytes);
    FeedInPieces(connection, host, ServerGreeting(third), 1U << 20U);
    PANDO_ASSERT(session.open());
    constexpr std::array<Op, 8> kOps = {Op::kGet, Op::kPut,  Op::kHas, Op::kDelete,
                                        Op::kList, Op::kStat, Op::kNotice, Op::kGet};
    for (size_t i = 0; i < calls.size(); ++i) {
      calls[i].op = kOps[i];
      calls[i].length = kOps[i] == Op::kList ? 128 : 4096;
      calls[i].memory = memory.data() + i * 4096;
      calls[i].context = &ended[i];
      calls[i].done = [](ClientCall* call) { ++*static_cast<int*>(call->context); };
      if (i == 7) calls[i].deadline_at_us = host.now + 500;
      session.Submit(&calls[i]);
    }
    connection.Pump();
    FeedInPieces(connection, host, Mend(input, false), piece);
  } else {
    FeedInPieces(connection, host, input, piece);
    PANDO_ASSERT(!session.open());
  }
  host.now += 1000;
  session.Tick();
  connection.Cut();
  PANDO_ASSERT(host.over);
  for (const int count : ended) PANDO_ASSERT(count == (greeted ? 1 : 0));
}

/// A sealed stream of frames, as the input makes them, of which the input then damages one place: all that
/// opens is what was sealed, in its order, and nothing behind the damage does.
inline void FuzzSealed(std::span<const std::byte> input, bool damages) {
  std::array<std::byte, 32> bytes{};
  const Secret secret{std::span<const std::byte, 32>(bytes)};
  const uint64_t cipher = (static_cast<uint8_t>(input[0]) & 1U) != 0 ? kCanAes256Gcm : kCanChaCha20Poly1305;
  const uint64_t rekey = (static_cast<uint8_t>(input[0]) & 2U) != 0 ? 200 : kRekeyBytes;
  size_t place = static_cast<uint8_t>(input[1]) | static_cast<size_t>(static_cast<uint8_t>(input[2])) << 8U;
  const auto how = static_cast<uint8_t>(input[3]);
  input = input.subspan(4);
  FrameSealer sealer(cipher, secret, rekey);
  FrameOpener opener(cipher, secret, rekey);
  if (!damages) {
    // Bytes of nobody's.
    for (; input.size() >= kSealedHeaderBytes; input = input.subspan(kSealedHeaderBytes)) {
      HeaderBytes header;
      PANDO_ASSERT(!opener.OpenHeader(input.first<kSealedHeaderBytes>(), header));
    }
    return;
  }
  std::vector<std::byte> wire;
  std::vector<std::vector<std::byte>> sealed;
  std::vector<size_t> ends;
  while (input.size() > 1 && sealed.size() < 16) {
    const size_t length = std::min<size_t>(static_cast<uint8_t>(input[0]), input.size() - 1);
    sealed.emplace_back(input.begin() + 1, input.begin() + 1 + static_cast<std::ptrdiff_t>(length));
    input = input.subspan(1 + length);
    Header header;
    header.op = Op::kPut;
    header.flags = length > 0 ? kFlagPayload : 0;
    header.length = static_cast<uint32_t>(length);
    OutgoingFrame frame;
    frame.header = EncodeHeader(header);
    frame.payload = sealed.back();
    while (frame.moved < kHeaderBytes + length) {
      std::array<std::byte, 100> room;
      const size_t used = sealer.Seal(frame, std::span(room).first(80 + how % 20U));
      wire.insert(wire.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(used));
    }
    ends.push_back(wire.size());
  }
  if (wire.empty()) return;
  place %= wire.size();
  const auto at = wire.begin() + static_cast<std::ptrdiff_t>(place);
  if (how % 4 == 0) *at ^= static_cast<std::byte>(1U << (how >> 5U));
  if (how % 4 == 1) wire.erase(at);
  if (how % 4 == 2) wire.insert(at, static_cast<std::byte>(how));
  if (how % 4 == 3) wire.resize(place);
  size_t whole = 0;
  while (whole < ends.size() && ends[whole] <= place) ++whole;
  std::span<std::byte> left = wire;
  for (size_t i = 0;; ++i) {
    HeaderBytes header;
    if (left.size() < kSealedHeaderBytes ||
        !opener.OpenHeader(left.first<kSealedHeaderBytes>(), header)) {
      PANDO_ASSERT(i >= whole);
      return;
    }
    left = left.subspan(kSealedHeaderBytes);
    const Decoded frame = DecodeHeader(header, Sender::kClient);
    PANDO_ASSERT(i < sealed.size() && frame.header.length == sealed[i].size());
    const size_t length = sealed[i].size();
    if (length > 0) {
      if (left.size() < length + kSealTagBytes) {
        PANDO_ASSERT(i >= whole);
        return;
      }
      opener.BeginPayload();
      opener.OpenPart(left.first(length));
      const auto body = left.first(length);
      left = left.subspan(length);
      const bool opens = opener.EndPayload(left.first<kSealTagBytes>());
      PANDO_ASSERT(opens || i >= whole);
      if (!opens) return;
      PANDO_ASSERT(std::equal(body.begin(), body.end(), sealed[i].begin()));
      left = left.subspan(kSealTagBytes);
    }
    // A byte put in or taken out at a border may be the one that stands there anyway.
    PANDO_ASSERT(i < whole || how % 4 == 1 || how % 4 == 2);
  }
}

/// The first byte chooses what is fed, the second how it is cut into pieces.
inline void FuzzRpc(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  const auto mode = static_cast<uint8_t>(input[0]);
  const size_t piece = 1 + static_cast<size_t>(input[1]) * 7;
  input = input.subspan(2);
  if (mode >= 250) {
    if (input.size() > 4) FuzzSealed(input, mode != 250);
    return;
  }
  if (mode % 5 == 4 && input.size() >= kHeaderBytes) {
    const Sender sender = (mode & 8U) != 0 ? Sender::kClient : Sender::kServer;
    const Decoded decoded = DecodeHeader(input.first<kHeaderBytes>(), sender);
    if (decoded.fault != Reason::kNone) return;
    PANDO_ASSERT(decoded.header.payload_bytes() <= kMaxChunkBytes);
    return;
  }
  if (mode % 5 == 0) FuzzServer(input, false, piece);
  if (mode % 5 == 1) FuzzServer(input, true, piece);
  if (mode % 5 == 2) FuzzClient(input, false, piece);
  if (mode % 5 == 3) FuzzClient(input, true, piece);
}

}  // namespace pando::rpc

#endif  // PANDO_FUZZ_RPC_FUZZ_H_
