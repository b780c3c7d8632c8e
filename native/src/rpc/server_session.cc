#include "rpc/server_session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "pando/crc32c.h"
#include "pando/peer_layout.h"
#include "pando/qos.h"

namespace pando::rpc {

ServerSession::ServerSession(SessionHost& host, SessionOptions options, SlotOwner& owner)
    : Session(host, std::move(options), Sender::kServer), owner_(owner) {
  put_waiter_.context = this;
  put_waiter_.ready = [](BufferWaiter* waiter, std::byte* memory) {
    auto* session = static_cast<ServerSession*>(waiter->context);
    session->put_memory_ = memory;
    session->connection().Resume();
  };
}

ServerSession::~ServerSession() { PANDO_ASSERT(in_hand_ == 0 && put_memory_ == nullptr); }

bool ServerSession::IsUnanswered(uint32_t id) const {
  return std::find(ids_.begin(), ids_.end(), id) != ids_.end();
}

Landing ServerSession::GotFrame(const Decoded& frame, const RemoteLanding& landing) {
  const Header& header = frame.header;
  // Answers that the peer does not read may not pile up: twice what was granted, then it waits.
  if (in_hand_ >= 2 * options().request_credits) {
    paused_ = true;
    return {Landing::Verdict::kWait, 0, {}, nullptr};
  }
  const uint32_t bytes = CreditBytesOf(header.op, header.length);
  if (IsUnanswered(header.id)) return Violation(Reason::kBadOrder);
  if (unanswered_ >= options().request_credits ||
      unanswered_bytes_ + bytes > options().byte_credits) {
    return Violation(Reason::kCredits);
  }
  const bool writes = header.op == Op::kPut || header.op == Op::kDelete;
  const bool stale = frame.fault == Reason::kNone && writes &&
                     options().moved.IsStale(header.chunk, header.offset);
  if (header.op == Op::kPut && frame.fault == Reason::kNone && !stale && put_memory_ == nullptr) {
    put_memory_ = host().pool().Take(header.length);
    if (put_memory_ == nullptr) {
      put_waiter_.bytes = header.length;
      host().pool().Wait(&put_waiter_);
      return {Landing::Verdict::kWait, 0, {}, nullptr};
    }
  }
  Call* call = TakeCall(header, landing);
  call->credit_bytes = bytes;
  unanswered_bytes_ += bytes;
  if (frame.fault == Reason::kBadOp) {
    Answer(call, ErrorCode::kInvalidArgument, Reason::kBadOp, 0, 0);
    return {Landing::Verdict::kSkip, header.payload_bytes(), {}, nullptr};
  }
  if (stale) {
    // A put that waited for memory while the group moved.
    if (put_memory_ != nullptr) host().pool().Give(std::exchange(put_memory_, nullptr));
    Answer(call, ErrorCode::kStaleMap, Reason::kNone, 0, 0);
    return {Landing::Verdict::kSkip, header.payload_bytes(), {}, nullptr};
  }
  if (header.op == Op::kPut) {
    call->memory = std::exchange(put_memory_, nullptr);
    call->receiving = true;
    return {Landing::Verdict::kTake, header.length, {call->memory, header.length}, call};
  }
  Start(call);
  return {Landing::Verdict::kTake, 0, {}, nullptr};
}

ServerSession::Call* ServerSession::TakeCall(const Header& header, const RemoteLanding& landing) {
  if (free_.empty()) {
    calls_.push_back(std::make_unique<Call>());
    Call* fresh = calls_.back().get();
    fresh->session = this;
    fresh->slot.owner = &owner_;
    fresh->slot.context = fresh;
    fresh->answer.context = fresh;
    fresh->answer.done = [](OutgoingFrame* frame) {
      auto* call = static_cast<Call*>(frame->context);
      ServerSession* session = call->session;
      session->Drop(call);
      session->Settle();
    };
    fresh->waiter.context = fresh;
    fresh->waiter.ready = [](BufferWaiter* waiter, std::byte* memory) {
      auto* call = static_cast<Call*>(waiter->context);
      call->memory = memory;
      call->session->Execute(call);
    };
    free_.push_back(fresh);
  }
  Call* call = free_.back();
  free_.pop_back();
  ++in_hand_;
  ++unanswered_;
  ids_.push_back(header.id);
  call->request = header;
  call->memory = nullptr;
  call->answer.remote_landing = landing;
  call->received_us = host().now_us();
  return call;
}

void ServerSession::GotPayload(void* token) {
  auto* call = static_cast<Call*>(token);
  call->receiving = false;
  Start(call);
}

void ServerSession::Start(Call* call) {
  const Header& request = call->request;
  if (leaving()) return Answer(call, ErrorCode::kClosed, Reason::kClosing, 0, 0);
  if (request.op == Op::kPing) return Answer(call, ErrorCode::kOk, Reason::kNone, 0, 0);
  if (request.op == Op::kNotice) return AnswerNotice(call);
  uint32_t bytes = 0;
  if (request.op == Op::kGet) bytes = request.length;
  if (request.op == Op::kList) bytes = request.length * static_cast<uint32_t>(sizeof(ListRecord));
  if (request.op == Op::kStat) bytes = sizeof(StoreStats);
  if (bytes > 0) {
    call->memory = host().pool().Take(bytes);
    if (call->memory == nullptr) {
      call->waiter.bytes = bytes;
      return host().pool().Wait(&call->waiter);
    }
  }
  Execute(call);
}

void ServerSession::Execute(Call* call) {
  const Header& header = call->request;
  if (state() != State::kOpen) {
    Drop(call);
    return Settle();
  }
  if (header.deadline_us != 0 && host().now_us() - call->received_us > header.deadline_us) {
    return Answer(call, ErrorCode::kDeadlineExceeded, Reason::kNone, 0, 0);
  }
  StoreRequest& request = call->slot.request;
  switch (header.op) {
    case Op::kPut:
      request.op = PortOp::kPut;
      break;
    case Op::kGet:
      request.op = header.length == 0 ? PortOp::kHas : PortOp::kGet;
      break;
    case Op::kHas:
      request.op = PortOp::kHas;
      break;
    case Op::kDelete:
      request.op = PortOp::kDelete;
      break;
    case Op::kList:
      request.op = PortOp::kList;
      break;
    default:
      request.op = PortOp::kStats;
      break;
  }
  // A class that this node has no plan for is served as the default one.
  request.qos_class = header.qos_class < kMostQosClasses ? header.qos_class : uint8_t{0};
  request.id = header.chunk;
  request.data = call->memory;
  request.length = header.length;
  request.chunk_offset = header.op == Op::kGet ? header.offset : 0;
  request.budget_bytes = 0;
  request.position = 0;
  request.checks_crc = header.op == Op::kPut;
  request.expected_crc = header.payload_crc;
  host().Submit(&call->slot);
}

// Nobody is woken for it: who reads by a majority's words asks this before each read.
void ServerSession::AnswerNotice(Call* call) {
  Notice notice;
  if (options().board == nullptr || !ReadNotice(*options().board, notice)) {
    return Answer(call, ErrorCode::kChunkNotFound, Reason::kNone, 0, 0);
  }
  StoreRequest& request = call->slot.request;
  static_assert(sizeof(ChunkId) == 16);
  std::memcpy(call->request.chunk.bytes.data(), notice.data(), sizeof(ChunkId));
  request.out_chunk_length = notice[4];
  request.out_crc = notice[5];
  Answer(call, ErrorCode::kOk, Reason::kNone, 0, 0);
}

void ServerSession::Completed(PortSlot* slot) {
  auto* call = static_cast<Call*>(slot->context);
  ServerSession* session = call->session;
  if (session->connected() && session->state() != State::kEnding) {
    session->AnswerFromStore(call);
  } else {
    session->Drop(call);
  }
  session->Settle();
}

void ServerSession::AnswerFromStore(Call* call) {
  const StoreRequest& request = call->slot.request;
  const Header& header = call->request;
  ErrorCode status = request.status;
  if (header.op == Op::kPut && status == ErrorCode::kProtocolError) {
    return Answer(call, ErrorCode::kIoError, Reason::kDamaged, 0, 0);
  }
  if (header.op == Op::kGet && header.length == 0 && status == ErrorCode::kOk &&
      header.offset > request.out_chunk_length) {
    status = ErrorCode::kInvalidArgument;
  }
  if (status != ErrorCode::kOk) return Answer(call, status, Reason::kNone, 0, 0);
  uint32_t bytes = 0;
  if (header.op == Op::kGet || header.op == Op::kStat) bytes = request.out_length;
  if (header.op == Op::kGet && header.length == 0) bytes = 0;
  if (header.op == Op::kList) {
    bytes = request.out_length * static_cast<uint32_t>(sizeof(ListRecord));
  }
  uint32_t crc = 0;
  if (bytes > 0) {
    const bool whole = header.op == Op::kGet && header.offset == 0 &&
                       bytes == request.out_chunk_length;
    // The index's own word for a whole chunk: memory that goes bad between the store's check and
    // the wire is found by the client.
    crc = whole ? request.out_crc : Crc32c(std::span<const std::byte>(call->memory, bytes));
  }
  Answer(call, status, Reason::kNone, bytes, crc);
}

void ServerSession::Answer(Call* call, ErrorCode status, Reason reason, uint32_t payload_bytes,
                           uint32_t payload_crc) {
  const StoreRequest& request = call->slot.request;
  const bool from_store = status == ErrorCode::kOk && call->request.op != Op::kPing;
  Header header;
  header.version = version();
  header.op = call->request.op;
  header.flags = static_cast<uint16_t>(kFlagAnswer | (payload_bytes > 0 ? kFlagPayload : 0));
  header.qos_class = call->request.qos_class;
  header.status = static_cast<uint8_t>(status);
  header.id = call->request.id;
  header.answer = {};
  header.answer.server_us = static_cast<uint32_t>(host().now_us() - call->received_us);
  header.chunk = call->request.chunk;
  header.offset = call->request.offset;
  if (from_store) {
    header.answer.chunk_length = request.out_chunk_length;
    header.answer.chunk_crc = request.out_crc;
    if (header.op == Op::kList) {
      header.answer.value = static_cast<uint32_t>(request.out_value);
      if (header.answer.value != 0) header.chunk = request.out_id;
    }
  }
  header.length = payload_bytes;
  header.reason = reason;
  header.payload_crc = payload_crc;
  if (options().served.Wants(call->request.trace)) Tell(*call, header);
  call->answer.header = EncodeHeader(header);
  call->answer.payload = {call->memory, payload_bytes};
  // What a put brought is the store's now; the buffer need not wait for the answer to be sent.
  if (call->request.op == Op::kPut && call->memory != nullptr) {
    host().pool().Give(std::exchange(call->memory, nullptr));
    call->answer.payload = {};
  }
  const auto found = std::find(ids_.begin(), ids_.end(), call->request.id);
  *found = ids_.back();
  ids_.pop_back();
  --unanswered_;
  unanswered_bytes_ -= std::exchange(call->credit_bytes, 0);
  ++answered_;
  connection().Send(&call->answer);
}

void ServerSession::Tell(const Call& call, const Header& answer) {
  const Header& request = call.request;
  ServedRequest served{};
  served.request = request.id;
  served.start_us = call.received_us;
  served.trace = request.trace;
  served.chunk = request.chunk;
  served.duration_us = answer.answer.server_us;
  served.length = request.op == Op::kPut ? request.length : answer.length;
  served.op = static_cast<uint8_t>(request.op);
  served.status = answer.status;
  served.qos_class = request.qos_class;
  options().served.Tell(served);
}

void ServerSession::Drop(Call* call) {
  if (call->memory != nullptr) host().pool().Give(std::exchange(call->memory, nullptr));
  free_.push_back(call);
  --in_hand_;
  if (!connected() || state() != State::kOpen) return;
  if (std::exchange(paused_, false)) connection().Resume();
  if (peer_ended_ && in_hand_ == 0) End(EndedBy::kPeer, {}, Reason::kNone, true);
}

bool ServerSession::PeerEnded() {
  peer_ended_ = in_hand_ > 0;
  return peer_ended_;
}

void ServerSession::GotGoodbye(Reason reason) {
  if (reason == Reason::kClosing) {
    End(EndedBy::kPeer, {}, Reason::kNone, true);
  } else {
    End(EndedBy::kPeer,
        Error{ErrorCode::kProtocolError,
              "the peer ended the session: " + std::string(ReasonName(reason))},
        Reason::kNone, false);
  }
}

void ServerSession::TickOpen(uint64_t now_us) {
  const uint64_t keep_alive_us = uint64_t{std::max(peer().keep_alive_ms, 100U)} * 1000;
  if (now_us - last_heard_us() <= 4 * keep_alive_us) return;
  End(EndedBy::kFailure, Error{ErrorCode::kPeerUnreachable, "nothing was heard of the peer"},
      Reason::kIdle, true);
}

// The client closes when it has its answers; Tick does when it takes too long.
void ServerSession::BeginLeaving() { SendGoodbye(Reason::kClosing); }

void ServerSession::Failed(const Error& /*error*/) {
  host().pool().StopWaiting(&put_waiter_);
  if (put_memory_ != nullptr) host().pool().Give(std::exchange(put_memory_, nullptr));
  for (const auto& call : calls_) {
    if (call->waiter.waiting) {
      host().pool().StopWaiting(&call->waiter);
      Drop(call.get());
    } else if (call->receiving) {
      call->receiving = false;
      Drop(call.get());
    }
  }
}

}  // namespace pando::rpc
