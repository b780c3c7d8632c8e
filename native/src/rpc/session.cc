#include "rpc/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "pando/crc32c.h"

namespace pando::rpc {
namespace {

constexpr uint64_t kFrameTimeoutUs = 60'000'000;
/// How long a connection that ends may take to send what is queued.
constexpr uint64_t kFlushUs = 1'000'000;

constexpr const char* kCannotSeal =
    "this transport cannot encrypt, and this node requires it (rpc.encrypt)";

std::string HexOf(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

/// Why two nodes that both know the key have no session, for people; `other` is the one spoken of.
std::string WhyRefused(Reason reason, const Introduction& other, const SessionOptions& own) {
  const auto range = [](uint32_t least, uint32_t most) {
    return std::to_string(least) + (least == most ? "" : " to " + std::to_string(most));
  };
  if (reason == Reason::kBadVersion) {
    return "it speaks version " + range(other.version_min, other.version_max) +
           " of the protocol, this node " + range(own.version_min, own.version_max);
  }
  if (reason == Reason::kNotSealed) {
    return "one of the two nodes requires encrypted frames (rpc.encrypt), and the other sends none";
  }
  if (reason == Reason::kWrongRegion) return "it belongs to another region, though it has our key";
  return std::string(ReasonName(reason));
}

}  // namespace

Session::Session(SessionHost& host, SessionOptions options, Sender role)
    : host_(host), options_(std::move(options)), role_(role), hello_in_(kMaxHelloBytes) {
  for (OutgoingFrame* frame : {&hello_frame_[0], &hello_frame_[1], &goodbye_}) {
    frame->context = this;
    frame->done = [](OutgoingFrame* sent) {
      auto* session = static_cast<Session*>(sent->context);
      --session->frames_out_;
      session->Settle();
    };
  }
  begun_us_ = last_heard_us_ = host_.now_us();
}

Session::~Session() { PANDO_ASSERT(told_ || connection_ == nullptr); }

void Session::Begin(std::unique_ptr<Connection> connection) {
  connection_ = std::move(connection);
  if (role_ == Sender::kServer) {
    state_ = State::kGreeting;
    step_ = 1;
  }
  connection_->Start(*this);
}

ConnectionStats Session::ConnectionCounters() const {
  return connection_ != nullptr ? connection_->Stats() : ConnectionStats{};
}

// ---- The greeting

void Session::OnOpen() {
  if (state_ != State::kConnecting) return;
  state_ = State::kGreeting;
  if (MustButCannotSeal()) return Refuse(ErrorCode::kPeerRefused, kCannotSeal);
  Nonce nonce;
  host_.FillNonce(nonce);
  transcript_.begin = EncodeBegin(nonce, options_.version_min, options_.version_max);
  if (WouldSeal()) AppendExchange(transcript_.begin);
  step_ = 2;
  SendHello(1, transcript_.begin);
}

void Session::SendHello(uint32_t step, std::vector<std::byte> payload) {
  const size_t slot = step <= 2 ? 0 : 1;
  hello_payload_[slot] = std::move(payload);
  Header header;
  header.op = Op::kHello;
  header.flags = kFlagPayload;
  header.offset = step;
  header.length = static_cast<uint32_t>(hello_payload_[slot].size());
  header.payload_crc = Crc32c(hello_payload_[slot]);
  hello_frame_[slot].header = EncodeHeader(header);
  hello_frame_[slot].payload = hello_payload_[slot];
  ++frames_out_;
  connection_->Send(&hello_frame_[slot]);
}

Landing Session::GreetingHeader(const HeaderBytes& header) {
  const Sender sender = role_ == Sender::kClient ? Sender::kServer : Sender::kClient;
  const Decoded frame = DecodeHeader(header, sender);
  if (frame.fault != Reason::kNone || frame.header.op != Op::kHello ||
      frame.header.offset != step_) {
    Refuse(ErrorCode::kPeerRefused, role_ == Sender::kClient
                                        ? "what answered does not speak the protocol"
                                        : "what knocked does not speak the protocol");
    return {};
  }
  hello_ = frame.header;
  return {Landing::Verdict::kTake, hello_.length, hello_in_.span().first(hello_.length), nullptr};
}

void Session::GreetingPayload() {
  const auto payload = hello_in_.span().first(hello_.length);
  if (Crc32c(payload) != hello_.payload_crc) {
    return Refuse(ErrorCode::kPeerRefused, "a greeting arrived damaged");
  }
  role_ == Sender::kServer ? ServerStep(payload) : ClientStep(payload);
}

void Session::ServerStep(std::span<const std::byte> payload) {
  if (step_ == 1) {
    if (payload.size() < kBeginBytes) return Refuse(ErrorCode::kPeerRefused, "a short greeting");
    if (MustButCannotSeal()) return Refuse(ErrorCode::kPeerRefused, kCannotSeal);
    transcript_.begin.assign(payload.begin(), payload.end());
    Nonce nonce;
    host_.FillNonce(nonce);
    transcript_.challenge.assign(nonce.begin(), nonce.end());
    if (WouldSeal() && payload.size() >= kBeginBytes + kExchangeBytes) {
      AppendExchange(transcript_.challenge);
      TakeExchange(payload, kBeginBytes);
    }
    step_ = 3;
    return SendHello(2, transcript_.challenge);
  }
  const auto client = OpenIntroduction(payload, Sender::kClient, transcript_, options_.identity.key);
  if (!client) return Refuse(ErrorCode::kPeerRefused, "a stranger, who does not know this region's key");
  peer_ = *client;
  transcript_.introduction.assign(payload.begin(), payload.end());
  Introduction own;
  own.node = options_.identity.node;
  own.region = options_.identity.region;
  own.map_epoch = options_.identity.map_epoch;
  own.max_payload_bytes = kMaxChunkBytes;
  own.request_credits = options_.request_credits;
  own.byte_credits = options_.byte_credits;
  own.version_min = options_.version_min;
  own.version_max = options_.version_max;
  own.capabilities = shared_ ? OwnCiphers() : 0;
  cipher_ = CommonCipher();
  // The range of step 1 counts as little as that of step 3: both are under the proof.
  own.version = ChooseVersion(own.version_min, own.version_max, peer_.version_min, peer_.version_max);
  if (peer_.region != own.region) {
    own.refusal = Reason::kWrongRegion;
  } else if (own.version == 0) {
    own.refusal = Reason::kBadVersion;
  } else if (options_.seal == SealMode::kRequired && cipher_ == 0 &&
             connection_->sealing() == Sealing::kCan) {
    own.refusal = Reason::kNotSealed;
  } else if (!host_.Admit(*this)) {
    own.refusal = Reason::kTooManySessions;
  }
  if (own.refusal != Reason::kNone) own.version = 0;
  const auto last = EncodeIntroduction(own, Sender::kServer, transcript_, options_.identity.key);
  SendHello(4, last);
  if (own.refusal != Reason::kNone) {
    return End(EndedBy::kUs,
               Error{ErrorCode::kPeerRefused, "node " + HexOf(peer_.node) + ": " +
                                                  WhyRefused(own.refusal, peer_, options_) + Origin()},
               Reason::kNone, true);
  }
  version_ = own.version;
  SealConnection(last);
  Introduce();
}

void Session::ClientStep(std::span<const std::byte> payload) {
  if (step_ == 2) {
    if (payload.size() < kChallengeBytes) {
      return Refuse(ErrorCode::kPeerRefused, "a short greeting");
    }
    transcript_.challenge.assign(payload.begin(), payload.end());
    if (exchange_) TakeExchange(payload, kChallengeBytes);
    Introduction own;
    own.capabilities = shared_ ? OwnCiphers() : 0;
    own.node = options_.identity.node;
    own.region = options_.identity.region;
    own.map_epoch = options_.identity.map_epoch;
    own.max_payload_bytes = kMaxChunkBytes;
    own.keep_alive_ms = options_.keep_alive_ms;
    own.version_min = options_.version_min;
    own.version_max = options_.version_max;
    const auto payload_3 =
        EncodeIntroduction(own, Sender::kClient, transcript_, options_.identity.key);
    SendHello(3, payload_3);
    transcript_.introduction = payload_3;
    step_ = 4;
    return;
  }
  const auto server = OpenIntroduction(payload, Sender::kServer, transcript_, options_.identity.key);
  if (!server) return Refuse(ErrorCode::kPeerRefused, "what answered does not know this region's key");
  if (server->refusal != Reason::kNone) {
    return Refuse(ErrorCode::kPeerRefused,
                  "the peer refused: " + WhyRefused(server->refusal, *server, options_));
  }
  if (server->version < options_.version_min || server->version > options_.version_max) {
    return Refuse(ErrorCode::kPeerRefused, "the peer chose a version that was not offered");
  }
  if (server->region != options_.identity.region) {
    return Refuse(ErrorCode::kPeerRefused, WhyRefused(Reason::kWrongRegion, *server, options_));
  }
  if (options_.expects_node && server->node != options_.expected_node) {
    return Refuse(ErrorCode::kPeerRefused, "another node answered than was expected");
  }
  if (server->request_credits == 0 || server->byte_credits < kMaxChunkBytes ||
      server->max_payload_bytes < kMaxChunkBytes) {
    return Refuse(ErrorCode::kPeerRefused, "the peer grants too little");
  }
  peer_ = *server;
  version_ = server->version;
  cipher_ = CommonCipher();
  if (options_.seal == SealMode::kRequired && cipher_ == 0 &&
      connection_->sealing() == Sealing::kCan) {
    return Refuse(ErrorCode::kPeerRefused, WhyRefused(Reason::kNotSealed, *server, options_));
  }
  SealConnection(payload);
  Introduce();
}

bool Session::WouldSeal() const {
  return options_.seal != SealMode::kOff && connection_->sealing() == Sealing::kCan;
}

bool Session::MustButCannotSeal() const {
  return options_.seal == SealMode::kRequired && connection_->sealing() == Sealing::kCannot;
}

void Session::AppendExchange(std::vector<std::byte>& payload) {
  Nonce random;
  host_.FillNonce(random);
  exchange_.emplace(random);
  Wipe(random);
  const PublicKey key = exchange_->public_key();
  payload.insert(payload.end(), key.begin(), key.end());
}

void Session::TakeExchange(std::span<const std::byte> payload, size_t at) {
  if (payload.size() < at + kExchangeBytes) return;
  shared_ = exchange_->Agree(payload.subspan(at).first<kExchangeBytes>());
}

uint64_t Session::CommonCipher() const {
  return shared_ ? ChooseCipher(OwnCiphers(), peer_.capabilities) : 0;
}

void Session::SealConnection(std::span<const std::byte> last) {
  if (cipher_ != 0) {
    const SealSecrets secrets =
        DeriveSealSecrets(cipher_, *shared_, transcript_, last, options_.identity.key);
    connection_->Seal(std::make_unique<FrameSeal>(secrets, role_));
  }
  exchange_.reset();
  shared_.reset();
}

void Session::Introduce() {
  state_ = State::kOpen;
  transcript_ = {};
  last_heard_us_ = host_.now_us();
  Opened();
}

std::string Session::Origin() const {
  const std::string from = role_ == Sender::kServer ? connection_->PeerAddress() : "";
  return from.empty() ? "" : " (from " + from + ")";
}

void Session::Refuse(ErrorCode code, std::string why) {
  // What was said before (the challenge) may still go out.
  End(EndedBy::kFailure, Error{code, std::move(why) + Origin()}, Reason::kNone, true);
}

// ---- Frames

Landing Session::OnHeader(const HeaderBytes& header, const RemoteLanding& landing) {
  last_heard_us_ = host_.now_us();
  if (state_ == State::kGreeting) return GreetingHeader(header);
  if (state_ != State::kOpen) return {};
  const Sender sender = role_ == Sender::kClient ? Sender::kServer : Sender::kClient;
  const Decoded frame = DecodeHeader(header, sender, version_);
  if (frame.fault != Reason::kNone && frame.fault != Reason::kBadOp) return Violation(frame.fault);
  if (frame.header.op == Op::kHello) return Violation(Reason::kBadOrder);
  if (frame.header.op == Op::kGoodbye) {
    GotGoodbye(frame.header.reason);
    if (state_ != State::kOpen) return {};
    return {Landing::Verdict::kTake, 0, {}, nullptr};
  }
  Landing answer = GotFrame(frame, landing);
  if (answer.verdict == Landing::Verdict::kTake && answer.bytes > 0 && payloads_coming_++ == 0) {
    payload_since_us_ = last_heard_us_;
  }
  return answer;
}

void Session::OnPayload(void* token) {
  last_heard_us_ = host_.now_us();
  if (state_ == State::kGreeting) return GreetingPayload();
  if (payloads_coming_ > 0) --payloads_coming_;
  payload_since_us_ = payloads_coming_ > 0 ? last_heard_us_ : 0;
  if (token != nullptr) GotPayload(token);
}

void Session::OnBadSeal() {
  if (state_ == State::kOpen) static_cast<void>(Violation(Reason::kBadSeal));
}

void Session::OnProgress(void* token, size_t landed) {
  last_heard_us_ = host_.now_us();
  if (state_ == State::kOpen && landed > 0) GotPart(token, landed);
}

Landing Session::Violation(Reason reason) {
  const std::string what =
      reason == Reason::kBadSeal
          ? "a sealed frame was changed, cut, repeated or put out of order on its way: "
          : "the peer broke the protocol: ";
  End(EndedBy::kFailure, Error{ErrorCode::kProtocolError, what + std::string(ReasonName(reason))},
      reason, true);
  return {};
}

// ---- The end

void Session::SendGoodbye(Reason reason) {
  if (goodbye_sent_ || !connected()) return;
  goodbye_sent_ = true;
  Header header;
  header.op = Op::kGoodbye;
  header.version = version_;
  header.reason = reason;
  goodbye_.header = EncodeHeader(header);
  ++frames_out_;
  connection_->Send(&goodbye_);
}

void Session::End(EndedBy by, Status why, Reason goodbye, bool flush) {
  if (state_ == State::kEnding || state_ == State::kOver) {
    if (!flush && connected()) connection_->Close(false);
    return;
  }
  const bool proven = state_ == State::kOpen;
  ended_by_ = by;
  end_ = std::move(why);
  if (proven && goodbye != Reason::kNone) SendGoodbye(goodbye);
  state_ = State::kEnding;
  close_by_us_ = host_.now_us() + kFlushUs;
  connection_->Close(flush);
}

void Session::Leave(uint32_t grace_ms) {
  if (state_ == State::kEnding || state_ == State::kOver) return;
  if (state_ != State::kOpen) return Abort(ErrorCode::kClosed, "the session was closed");
  const uint64_t by = host_.now_us() + uint64_t{grace_ms} * 1000;
  if (leave_by_us_ != 0) {
    leave_by_us_ = std::min(leave_by_us_, by);
    return;
  }
  leave_by_us_ = std::max<uint64_t>(by, 1);
  BeginLeaving();
}

void Session::Abort(ErrorCode code, std::string why) {
  const EndedBy by = code == ErrorCode::kClosed ? EndedBy::kUs : EndedBy::kFailure;
  End(by, Error{code, std::move(why)}, Reason::kNone, false);
}

void Session::OnClosed(const Status& why) {
  closed_ = true;
  if (state_ == State::kConnecting || state_ == State::kGreeting) {
    ended_by_ = EndedBy::kFailure;
    // Who hangs up in the middle of a greeting has not liked our proof.
    end_ = state_ == State::kGreeting && role_ == Sender::kClient
               ? Error{ErrorCode::kPeerRefused, "the peer hung up during the greeting: it has another region key, is "
                       "just stopping, or is no node"}
               : Error{ErrorCode::kPeerUnreachable,
                       why.ok() ? "the connection was closed" : why.error().message};
  } else if (state_ == State::kOpen) {
    ended_by_ = EndedBy::kFailure;
    end_ = Error{ErrorCode::kPeerUnreachable,
                 why.ok() ? "the peer closed the connection" : why.error().message};
  }
  state_ = State::kOver;
  payloads_coming_ = 0;
  const ErrorCode code = ended_by_ == EndedBy::kUs ? ErrorCode::kClosed : ErrorCode::kPeerUnreachable;
  Failed(end_.ok() ? Error{code, "the session was closed"} : end_.error());
  Settle();
}

void Session::Settle() {
  if (!closed_ || told_ || frames_out_ > 0 || !quiet()) return;
  told_ = true;
  host_.Over(*this);
}

void Session::Tick() {
  const uint64_t now = host_.now_us();
  switch (state_) {
    case State::kConnecting:
    case State::kGreeting:
      if (now - begun_us_ < uint64_t{options_.greeting_ms} * 1000) return;
      return Refuse(ErrorCode::kPeerUnreachable, "connecting took too long");
    case State::kOpen:
      if (payload_since_us_ != 0 && now - payload_since_us_ > kFrameTimeoutUs) {
        return static_cast<void>(Violation(Reason::kTooSlow));
      }
      if (leave_by_us_ != 0 && now >= leave_by_us_) {
        return Abort(ErrorCode::kClosed, "the session was closed before all was answered");
      }
      return TickOpen(now);
    case State::kEnding:
      if (now >= close_by_us_) connection_->Close(false);
      return;
    case State::kOver:
      return;
  }
}

}  // namespace pando::rpc
