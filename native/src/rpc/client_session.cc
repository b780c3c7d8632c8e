#include "rpc/client_session.h"

#include <algorithm>
#include <utility>

#include "pando/crc32c.h"

namespace pando::rpc {
namespace {

/// How long after its end a call's frame may still be on its way out.
constexpr uint64_t kLetGoUs = 1'000'000;
/// Less of a payload is not worth a sum of its own.
constexpr size_t kSumBytes = 16U << 10U;

bool BlamesThePath(ErrorCode code) {
  return code == ErrorCode::kPeerUnreachable || code == ErrorCode::kProtocolError ||
         code == ErrorCode::kDeadlineExceeded;
}

ErrorCode StatusOf(const Header& header) {
  if (header.status >= kErrorCodeCount) return ErrorCode::kInternal;
  const auto code = static_cast<ErrorCode>(header.status);
  // These two are words of this side about that side.
  if (code == ErrorCode::kPeerUnreachable || code == ErrorCode::kPeerRefused) {
    return ErrorCode::kInternal;
  }
  // CLOSED is for sessions that this side has closed; that side's going away is as good as gone.
  return code == ErrorCode::kClosed ? ErrorCode::kPeerUnreachable : code;
}

uint32_t MostAnswerBytes(const ClientCall& call) {
  switch (call.op) {
    case Op::kGet:
      return call.length;
    case Op::kList:
      return call.length * static_cast<uint32_t>(sizeof(ListRecord));
    case Op::kStat:
      return sizeof(StoreStats);
    default:
      return 0;
  }
}

}  // namespace

ClientSession::ClientSession(SessionHost& host, SessionOptions options, PeerCounters* counters,
                             void (*opened)(ClientSession*), void* context)
    : Session(host, std::move(options), Sender::kClient),
      counters_(counters),
      opened_(opened),
      context_(context) {
  ping_.idle_ping = true;
}

ClientSession::~ClientSession() { PANDO_ASSERT(in_flight_ == 0); }

void ClientSession::Opened() {
  const uint32_t credits = std::min(peer().request_credits, 65535U);
  entries_.resize(credits);
  for (uint32_t i = credits; i > 0; --i) free_.push_back(i - 1);
  free_bytes_ = peer().byte_credits;
  opened_(this);
  Pump();
}

void ClientSession::Submit(ClientCall* call) {
  call->owner = this;
  call->stage = ClientCall::Stage::kWaiting;
  call->status = ErrorCode::kOk;
  call->reason = Reason::kNone;
  call->out_bytes = 0;
  call->ended = call->sending = false;
  call->credit_bytes = CreditBytesOf(call->op, call->length);
  if (state() != State::kOpen || refusing_) {
    call->status = WhyClosed();
    return call->done(call);
  }
  call->next = nullptr;
  call->previous = last_;
  (last_ != nullptr ? last_->next : first_) = call;
  last_ = call;
  if (next_waiting_ == nullptr) next_waiting_ = call;
  ++in_flight_;
  ++counters_->requests;
  if (call->deadline_at_us != 0) {
    next_deadline_us_ = std::min(next_deadline_us_, call->deadline_at_us);
  }
  // Once, over the bytes as they were handed over.
  if (call->op == Op::kPut) call->payload_crc = Crc32c({call->memory, call->length});
  Pump();
}

ErrorCode ClientSession::WhyClosed() const {
  if (leaving() || (ended_by() == EndedBy::kUs && state() != State::kOpen)) return ErrorCode::kClosed;
  return end().ok() ? ErrorCode::kPeerUnreachable : end().code();
}

void ClientSession::Pump() {
  while (next_waiting_ != nullptr && state() == State::kOpen && !free_.empty() &&
         free_bytes_ >= next_waiting_->credit_bytes) {
    ClientCall* call = next_waiting_;
    next_waiting_ = call->next;
    Start(call);
  }
}

void ClientSession::Start(ClientCall* call) {
  const uint32_t index = free_.back();
  free_.pop_back();
  free_bytes_ -= call->credit_bytes;
  turn_ = (turn_ + 1) & 0xFFFF;
  call->id = turn_ << 16U | index;
  entries_[index] = {call, call->id, call->credit_bytes, true};
  const uint64_t now = host().now_us();
  Header header;
  header.version = version();
  header.op = call->op;
  header.qos_class = call->qos_class;
  header.id = call->id;
  header.trace = call->trace;
  header.chunk = call->chunk;
  header.offset = call->offset;
  header.length = call->length;
  if (call->deadline_at_us != 0) {
    const uint64_t left = call->deadline_at_us > now ? call->deadline_at_us - now : 1;
    header.deadline_us = static_cast<uint32_t>(std::min<uint64_t>(left, 0xFFFFFFFF));
  }
  call->frame.payload = {};
  call->frame.landing = {};
  if (call->op == Op::kPut) {
    header.flags = kFlagPayload;
    header.payload_crc = call->payload_crc;
    call->frame.payload = {call->memory, call->length};
  } else if (const uint32_t bytes = MostAnswerBytes(*call); bytes > 0) {
    call->frame.landing = {call->memory, bytes};
  }
  call->frame.header = EncodeHeader(header);
  call->frame.context = call;
  call->frame.remote_landing = {};
  call->owner = this;
  call->frame.done = [](OutgoingFrame* frame) {
    auto* sent = static_cast<ClientCall*>(frame->context);
    sent->sending = false;
    ClientSession* session = sent->owner;
    if (sent->stage == ClientCall::Stage::kAnswered || sent->ended) session->Answered(sent);
    session->Settle();
  };
  call->stage = ClientCall::Stage::kSent;
  call->sending = true;
  call->sent_us = now;
  connection().Send(&call->frame);
}

Landing ClientSession::GotFrame(const Decoded& frame, const RemoteLanding& /*landing*/) {
  const Header& header = frame.header;
  const uint32_t index = header.id & 0xFFFF;
  if (frame.fault != Reason::kNone || index >= entries_.size() || !entries_[index].taken ||
      entries_[index].id != header.id) {
    return Violation(Reason::kBadOrder);
  }
  ClientCall* call = entries_[index].call;
  const uint32_t bytes = header.payload_bytes();
  if (call == nullptr) {  // nobody waits for it any more
    Release(index);
    Pump();
    LeaveWhenAnswered();
    return {Landing::Verdict::kSkip, bytes, {}, nullptr};
  }
  if (call->stage != ClientCall::Stage::kSent || header.op != call->op) {
    return Violation(Reason::kBadOrder);
  }
  // Its id alone would let a peer that mixes requests up pass one chunk off as another.
  if (!Echoes(*call, header)) return Violation(Reason::kBadOrder);
  if (bytes > MostAnswerBytes(*call)) return Violation(Reason::kBadLength);
  Release(index);
  if (!call->idle_ping) {
    const uint64_t rtt = host().now_us() - call->sent_us;
    counters_->rtt_us[counters_->answers++ % PeerCounters::kSamples] =
        static_cast<uint32_t>(std::min<uint64_t>(rtt, 0xFFFFFFFF));
  }
  if (!call->ended) {
    call->status = StatusOf(header);
    call->reason = header.reason;
    call->answer = header.answer;
    call->out_chunk = header.chunk;
  }
  if (bytes == 0) {
    // What a get of something brought must not look like a success with nothing.
    const bool short_get = header.op == Op::kGet && call->length > 0 && !call->ended &&
                           call->status == ErrorCode::kOk &&
                           header.offset < header.answer.chunk_length;
    if (short_get) call->status = ErrorCode::kProtocolError;
    call->stage = ClientCall::Stage::kAnswered;
    Answered(call);
  } else {
    call->stage = ClientCall::Stage::kTaking;
    call->out_bytes = bytes;
    call->payload_crc = header.payload_crc;
    call->summed_bytes = 0;
    call->sum = 0;
  }
  Pump();
  if (bytes > 0) return {Landing::Verdict::kTake, bytes, {call->memory, bytes}, call};
  LeaveWhenAnswered();
  return {Landing::Verdict::kTake, 0, {}, nullptr};
}

void ClientSession::GotPayload(void* token) {
  auto* call = static_cast<ClientCall*>(token);
  call->stage = ClientCall::Stage::kAnswered;
  if (!call->ended && !Sound(*call)) {
    call->status = ErrorCode::kIoError;
    call->reason = Reason::kDamaged;
    call->out_bytes = 0;
  }
  Answered(call);
  LeaveWhenAnswered();
}

// While the bytes are in the nearest cache, and while the peer sends on: at the end of a long payload both
// would be over.
void ClientSession::GotPart(void* token, size_t landed) {
  auto* call = static_cast<ClientCall*>(token);
  if (call->ended || landed - call->summed_bytes < kSumBytes) return;
  call->sum = Crc32c({call->memory + call->summed_bytes, landed - call->summed_bytes}, call->sum);
  call->summed_bytes = landed;
}

bool ClientSession::Echoes(const ClientCall& call, const Header& answer) {
  const bool names_chunk = call.op == Op::kPut || call.op == Op::kGet || call.op == Op::kHas ||
                           call.op == Op::kDelete;
  if (!names_chunk) return true;
  return answer.chunk == call.chunk && (call.op != Op::kGet || answer.offset == call.offset);
}

bool ClientSession::Sound(const ClientCall& call) {
  const std::span<const std::byte> payload(call.memory, call.out_bytes);
  if (Crc32c(payload.subspan(call.summed_bytes), call.sum) != call.payload_crc) return false;
  if (call.op != Op::kGet) return true;
  // Of a chunk that is longer than what came, what came must be what was asked for.
  const uint32_t length = call.answer.chunk_length;
  if (call.offset > length || call.out_bytes != std::min(call.length, length - call.offset)) {
    return false;
  }
  return call.offset != 0 || call.out_bytes != length || call.payload_crc == call.answer.chunk_crc;
}

void ClientSession::Release(uint32_t index) {
  Entry& entry = entries_[index];
  free_bytes_ += entry.credit_bytes;
  entry = {};
  free_.push_back(index);
}

void ClientSession::Answered(ClientCall* call) {
  if (call->sending) return;
  if (call->stage == ClientCall::Stage::kTaking) {
    // A long payload on a slow path is no fault of the session: the rest of it is dropped as it comes, and
    // the others go on. Where that cannot be, the memory stays ours until it has come.
    if (!call->ended || !connection().DropPayload(call)) return;
    return Finish(call);
  }
  if (call->ended && call->stage == ClientCall::Stage::kSent) {
    // Sent, ended, not answered: free if nobody writes to its memory any more.
    if (!call->frame.landing.empty() && !connection().ForgetLanding(&call->frame)) return;
    entries_[call->id & 0xFFFF].call = nullptr;
  }
  Finish(call);
}

void ClientSession::Finish(ClientCall* call) {
  if (call->idle_ping) {
    ping_out_ = false;
    return;
  }
  (call->previous != nullptr ? call->previous->next : first_) = call->next;
  (call->next != nullptr ? call->next->previous : last_) = call->previous;
  if (next_waiting_ == call) next_waiting_ = call->next;
  --in_flight_;
  if (call->status != ErrorCode::kOk) call->out_bytes = 0;
  if (BlamesThePath(call->status)) ++counters_->path_errors;
  call->done(call);
}

void ClientSession::Cancel(ClientCall* call, ErrorCode code) {
  if (call->ended || call->stage == ClientCall::Stage::kAnswered) return;
  EndEarly(call, code);
  LeaveWhenAnswered();
}

void ClientSession::EndEarly(ClientCall* call, ErrorCode code) {
  call->ended = true;
  call->status = code;
  call->ended_us = host().now_us();
  if (call->stage == ClientCall::Stage::kWaiting) return Finish(call);
  if (call->sending && connection().Withdraw(&call->frame)) {
    call->sending = false;
    Release(call->id & 0xFFFF);
    Finish(call);
    return Pump();
  }
  Answered(call);
}

void ClientSession::TickOpen(uint64_t now_us) {
  if (now_us >= next_deadline_us_) {
    next_deadline_us_ = UINT64_MAX;
    for (ClientCall* call = first_; call != nullptr;) {
      ClientCall* next = call->next;
      if (call->ended) {
        // What is sent and not answered may wait for as long as the peer lives: keep-alive and the time
        // that a frame may take bound it.
        if (call->sending) {
          if (now_us - call->ended_us >= kLetGoUs) {
            return Abort(ErrorCode::kPeerUnreachable,
                         "a request was stuck in the connection behind its deadline");
          }
          next_deadline_us_ = std::min(next_deadline_us_, call->ended_us + kLetGoUs);
        }
      } else if (call->deadline_at_us != 0 && call->stage != ClientCall::Stage::kAnswered) {
        if (call->deadline_at_us <= now_us) {
          next_deadline_us_ = std::min(next_deadline_us_, now_us + kLetGoUs);
          EndEarly(call, ErrorCode::kDeadlineExceeded);
        } else {
          next_deadline_us_ = std::min(next_deadline_us_, call->deadline_at_us);
        }
      }
      call = next;
    }
    LeaveWhenAnswered();
    if (state() != State::kOpen) return;
  }
  const uint64_t keep_alive_us = uint64_t{options().keep_alive_ms} * 1000;
  const uint64_t silence = now_us - last_heard_us();
  if (silence >= 3 * keep_alive_us) {
    return Abort(ErrorCode::kPeerUnreachable, "nothing was heard of the peer");
  }
  if (silence >= keep_alive_us && !ping_out_ && !refusing_) SendPing();
}

// Takes a credit like any other request: with none free there are requests out, whose answers are
// the sign of life that is waited for.
void ClientSession::SendPing() {
  if (free_.empty()) return;
  ping_out_ = true;
  ping_.op = Op::kPing;
  ping_.ended = false;
  Start(&ping_);
}

void ClientSession::GotGoodbye(Reason reason) {
  if (reason != Reason::kClosing) {
    return End(EndedBy::kPeer,
               Error{reason == Reason::kIdle ? ErrorCode::kPeerUnreachable
                                             : ErrorCode::kProtocolError,
                     "the peer ended the session: " + std::string(ReasonName(reason))},
               Reason::kNone, false);
  }
  // What is under way is still answered; what waits for credits is better off elsewhere.
  refusing_ = peer_leaves_ = true;
  while (next_waiting_ != nullptr) {
    next_waiting_->status = ErrorCode::kPeerUnreachable;
    Finish(next_waiting_);
  }
  LeaveWhenAnswered();
}

void ClientSession::BeginLeaving() {
  refusing_ = true;
  LeaveWhenAnswered();
}

void ClientSession::LeaveWhenAnswered() {
  if (!refusing_ || state() != State::kOpen || in_flight_ > 0) return;
  End(peer_leaves_ && !leaving() ? EndedBy::kPeer : EndedBy::kUs, {}, Reason::kClosing, true);
}

void ClientSession::Failed(const Error& error) {
  ping_out_ = false;
  while (first_ != nullptr) {
    ClientCall* call = first_;
    PANDO_ASSERT(!call->sending);
    if (!call->ended && call->stage != ClientCall::Stage::kAnswered) call->status = error.code;
    Finish(call);
  }
}

}  // namespace pando::rpc
