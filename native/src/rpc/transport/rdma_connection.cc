#include "rpc/transport/rdma_connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "rpc/transport/rdma_driver.h"

namespace pando::rpc {
namespace {

constexpr uint32_t kFrameCredits = 64;
// Messages without a frame have places of their own: whoever has no memory for a frame can still be
// told that memory is free again.
constexpr uint32_t kControlCredits = 16;
constexpr uint32_t kSlots = kFrameCredits + kControlCredits;
constexpr size_t kPrefixBytes = sizeof(RdmaEnvelope) + kHeaderBytes;
constexpr size_t kSlotBytes = kPrefixBytes + kInlineBytes;
constexpr uint32_t kMostReads = 8;
constexpr uint64_t kSignalEvery = 16;
constexpr int kResolveMs = 2000;
// 4.096 us * 2^17 = 0.54 s until a packet is sent again; after six times more the peer is gone. What the
// connection manager would choose by itself takes half a minute and more. Not 7 times, which
// Soft-RoCE takes for "for ever".
constexpr uint8_t kAckTimeout = 17;
constexpr uint8_t kRetries = 6;
constexpr size_t kTurnCompletions = 64;
// Of a work request: what its completion is about.
constexpr uint64_t kReceiveTag = 1ULL << 62U;
constexpr uint64_t kReadTag = 1ULL << 63U;

std::string Told(const char* what, int error_number) {
  return std::string(what) + ": " + std::strerror(error_number);
}

rdma_conn_param ParametersOf(const RdmaGreeting& greeting, uint8_t reads) {
  rdma_conn_param parameters{};
  parameters.private_data = &greeting;
  parameters.private_data_len = sizeof(greeting);
  parameters.responder_resources = reads;
  parameters.initiator_depth = reads;
  parameters.retry_count = kRetries;
  parameters.rnr_retry_count = 7;
  return parameters;
}

void SetAckTimeout(rdma_cm_id* id) {
  uint8_t timeout = kAckTimeout;
  // Kernels before 5.2 cannot; the session's keep-alive notices a dead peer as well.
  ::rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout));
}

bool IsOurs(std::span<const std::byte> greeting) {
  RdmaGreeting theirs;
  // Devices pad what they carry.
  if (greeting.size() < sizeof(theirs)) return false;
  std::memcpy(&theirs, greeting.data(), sizeof(theirs));
  return theirs == RdmaGreeting::Ours();
}

}  // namespace

RdmaGreeting RdmaGreeting::Ours() {
  RdmaGreeting greeting;
  greeting.frame_credits = kFrameCredits;
  greeting.control_credits = kControlCredits;
  greeting.inline_bytes = kInlineBytes;
  return greeting;
}

RdmaConnection::RdmaConnection(RdmaDriver& driver, const sockaddr_storage& peer)
    : driver_(driver), peer_(peer), slots_(nullptr, std::free) {}

RdmaConnection::RdmaConnection(RdmaDriver& driver, rdma_cm_id* id)
    : driver_(driver), id_(id), slots_(nullptr, std::free) {
  id->context = this;
  began_us_ = driver.now_us_;
  driver_.connections_.insert(this);
}

RdmaConnection::~RdmaConnection() {
  PANDO_ASSERT(events_ == nullptr || state_ == State::kClosed);
  CloseQueues();
  driver_.connections_.erase(this);
}

void RdmaConnection::Start(ConnectionEvents& events) {
  events_ = &events;
  if (id_ != nullptr || state_ != State::kConnecting) return;
  driver_.connections_.insert(this);
  if (::rdma_create_id(driver_.channel_, &id_, this, RDMA_PS_TCP) != 0) {
    id_ = nullptr;
    Fail(ErrorCode::kPeerUnreachable, Told("rdma_create_id", errno));
    return;
  }
  SetAckTimeout(id_);
  if (::rdma_resolve_addr(id_, nullptr, reinterpret_cast<sockaddr*>(&peer_), kResolveMs) !=
             0) {
    Fail(ErrorCode::kPeerUnreachable, Told("no RDMA device leads there", errno));
  }
}

Status RdmaConnection::OpenQueues() {
  Result<std::shared_ptr<RdmaDevice>> device = driver_.DeviceOf(id_->verbs);
  if (!device.ok()) return device.error();
  device_ = std::move(device).value();
  constexpr size_t kBytes = 2 * size_t{kSlots} * kSlotBytes;
  slots_.reset(static_cast<std::byte*>(std::aligned_alloc(64, kBytes)));
  if (!slots_) return {ErrorCode::kInsufficientStorage, "no memory for a connection"};
  slots_mr_ =
      ::ibv_reg_mr(device_->domain(), slots_.get(), kBytes, IBV_ACCESS_LOCAL_WRITE);
  if (slots_mr_ == nullptr) return SystemError("ibv_reg_mr", errno);
  const int entries = 2 * static_cast<int>(kSlots) + static_cast<int>(kMostReads);
  completions_ = ::ibv_create_cq(device_->verbs(), entries, this, device_->channel(), 0);
  if (completions_ == nullptr) return SystemError("ibv_create_cq", errno);
  ibv_qp_init_attr attributes{};
  attributes.send_cq = completions_;
  attributes.recv_cq = completions_;
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = kSlots + kMostReads;
  attributes.cap.max_recv_wr = kSlots;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  if (::rdma_create_qp(id_, device_->domain(), &attributes) != 0) {
    return SystemError("rdma_create_qp", errno);
  }
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    if (!PostReceive(slot)) return {ErrorCode::kPeerUnreachable, "ibv_post_recv"};
  }
  return {};
}

void RdmaConnection::CloseQueues() {
  if (id_ == nullptr) return;
  if (established_) ::rdma_disconnect(id_);
  // From here on neither the device nor the peer touches memory of ours.
  if (id_->qp != nullptr) ::rdma_destroy_qp(id_);
  if (completions_ != nullptr) ::ibv_destroy_cq(completions_);
  if (slots_mr_ != nullptr) ::ibv_dereg_mr(slots_mr_);
  completions_ = nullptr;
  slots_mr_ = nullptr;
  ::rdma_destroy_id(id_);
  id_ = nullptr;
  device_.reset();
}

Status RdmaConnection::Accept(const rdma_conn_param& param, std::span<const std::byte> greeting) {
  if (!IsOurs(greeting)) return {ErrorCode::kPeerRefused, "not a peer that we know"};
  SetAckTimeout(id_);
  const Status opened = OpenQueues();
  if (!opened.ok()) return opened;
  const RdmaGreeting ours = RdmaGreeting::Ours();
  rdma_conn_param answer = ParametersOf(ours, device_->reads());
  answer.responder_resources = std::min(device_->reads(), param.responder_resources);
  answer.initiator_depth = std::min(device_->reads(), param.initiator_depth);
  most_reads_ = std::min<uint32_t>(kMostReads, answer.initiator_depth);
  if (most_reads_ == 0 || answer.responder_resources == 0) {
    return {ErrorCode::kPeerRefused, "the peer takes no RDMA READ"};
  }
  if (::rdma_accept(id_, &answer) != 0) return SystemError("rdma_accept", errno);
  established_ = true;
  return {};
}

void RdmaConnection::OnCmEvent(rdma_cm_event_type type, int status, const rdma_conn_param& param,
                               std::span<const std::byte> greeting) {
  switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      if (::rdma_resolve_route(id_, kResolveMs) != 0) {
        Fail(ErrorCode::kPeerUnreachable, Told("rdma_resolve_route", errno));
      }
      return;
    case RDMA_CM_EVENT_ROUTE_RESOLVED: {
      const Status opened = OpenQueues();
      if (!opened.ok()) return Fail(opened.code(), opened.error().message);
      const RdmaGreeting ours = RdmaGreeting::Ours();
      rdma_conn_param parameters = ParametersOf(ours, device_->reads());
      if (::rdma_connect(id_, &parameters) != 0) {
        Fail(ErrorCode::kPeerUnreachable, Told("rdma_connect", errno));
      }
      return;
    }
    case RDMA_CM_EVENT_ESTABLISHED:
      established_ = true;
      if (state_ != State::kConnecting) return;
      if (ibv_qp_attr closed{}; ::ibv_modify_qp(id_->qp, &closed, IBV_QP_ACCESS_FLAGS) != 0) {
        return Fail(ErrorCode::kPeerUnreachable, Told("ibv_modify_qp", errno));
      }
      if (most_reads_ == 0) {  // the connecting side
        if (!IsOurs(greeting)) {
          return Fail(ErrorCode::kPeerRefused, "not a peer that we know");
        }
        most_reads_ = std::min<uint32_t>({kMostReads, param.initiator_depth, device_->reads()});
        if (most_reads_ == 0) {
          return Fail(ErrorCode::kPeerRefused, "the peer takes no RDMA READ");
        }
      }
      state_ = State::kOpen;
      if (events_ != nullptr) events_->OnOpen();
      return;
    case RDMA_CM_EVENT_REJECTED:
      return Fail(ErrorCode::kPeerUnreachable, "nobody listens there, or we were refused");
    case RDMA_CM_EVENT_DISCONNECTED:
      peer_gone_ = true;
      return;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      return Fail(ErrorCode::kPeerUnreachable, "the RDMA device was removed");
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_ADDR_CHANGE:
      return;
    default:
      Fail(ErrorCode::kPeerUnreachable,
           std::string(::rdma_event_str(type)) + ": " + std::strerror(std::abs(status)));
  }
}

bool RdmaConnection::PostReceive(uint32_t slot) {
  ibv_sge place{reinterpret_cast<uint64_t>(slots_.get() + size_t{slot} * kSlotBytes), kSlotBytes,
                slots_mr_->lkey};
  ibv_recv_wr request{};
  request.wr_id = kReceiveTag | slot;
  request.sg_list = &place;
  request.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  return ::ibv_post_recv(id_->qp, &request, &bad) == 0;
}

void RdmaConnection::Send(OutgoingFrame* frame) {
  frame->moved = 0;
  queue_.Push(frame);
  if (state_ == State::kOpen) static_cast<void>(PumpOut());
}

bool RdmaConnection::Withdraw(OutgoingFrame* frame) {
  return frame->moved == 0 && queue_.Remove(frame);
}

bool RdmaConnection::ForgetLanding(OutgoingFrame* request) {
  const std::span<std::byte> landing = request->landing;
  return std::none_of(fetches_.begin(), fetches_.end(), [&](const Fetch& fetch) {
    return !fetch.over && fetch.memory.data() < landing.data() + landing.size() &&
           landing.data() < fetch.memory.data() + fetch.memory.size();
  });
}

void RdmaConnection::Close(bool flush) {
  if (state_ == State::kOpen || state_ == State::kFlushing) {
    state_ = flush && !peer_gone_ ? State::kFlushing : State::kClosing;
  } else if (state_ == State::kConnecting) {
    state_ = State::kClosing;
  }
}

void RdmaConnection::Fail(ErrorCode code, std::string what) {
  if (state_ == State::kClosing || state_ == State::kClosed) return;
  why_ = Status(code, std::move(what));
  state_ = State::kClosing;
}

size_t RdmaConnection::Poll() {
  if (events_ == nullptr) return 0;  // not handed over yet
  size_t work = FinishFrames();
  if (state_ == State::kOpen || state_ == State::kFlushing) {
    // To the end of what has come when the peer is gone: it was sent before it left.
    do {
      const size_t completed = TakeCompletions();
      work += completed + Deliver();
      if (!peer_gone_ || completed == 0) break;
    } while (state_ == State::kOpen || state_ == State::kFlushing);
    work += PumpOut();
    if (state_ == State::kFlushing &&
        (peer_gone_ ||
         (queue_.empty() && exposed_frames_.empty() && sends_over_ == sends_posted_))) {
      state_ = State::kClosing;
    } else if (peer_gone_ && reads_under_way_ > 0) {
      Fail(ErrorCode::kPeerUnreachable, "the peer died within a payload");
    } else if (peer_gone_ && delivers() && arrived_.empty()) {
      state_ = State::kClosing;
    }
  }
  work += FinishFrames();
  if (state_ == State::kClosing) {
    Finish();  // the last thing: the session may destroy us in it
    return work + 1;
  }
  return work;
}

void RdmaConnection::Finish() {
  state_ = State::kClosed;
  CloseQueues();
  do {
    while (!exposed_frames_.empty()) finished_.Push(exposed_frames_.Pop());
    while (!queue_.empty()) finished_.Push(queue_.Pop());
    static_cast<void>(FinishFrames());
  } while (!queue_.empty());
  events_->OnClosed(why_);
}

size_t RdmaConnection::FinishFrames() {
  size_t count = 0;
  for (; !finished_.empty(); ++count) {
    OutgoingFrame* const frame = finished_.Pop();
    frame->done(frame);
  }
  return count;
}

size_t RdmaConnection::TakeCompletions() {
  std::array<ibv_wc, kTurnCompletions> done;
  int count = 0;
  if (noticed_.has_value()) done[static_cast<size_t>(count++)] = *std::exchange(noticed_, std::nullopt);
  const int more = ::ibv_poll_cq(completions_, static_cast<int>(done.size()) - count,
                                 done.data() + count);
  count += std::max(more, 0);
  for (int i = 0; i < count; ++i) {
    const ibv_wc& one = done[static_cast<size_t>(i)];
    if (one.status != IBV_WC_SUCCESS) {
      // Our own answer to a disconnect flushes what is posted; that is not a failure of its own.
      if (one.status == IBV_WC_WR_FLUSH_ERR && peer_gone_) continue;
      const bool theirs = one.status == IBV_WC_REM_ACCESS_ERR || one.status == IBV_WC_LOC_LEN_ERR;
      Fail(theirs ? ErrorCode::kProtocolError : ErrorCode::kPeerUnreachable,
           ::ibv_wc_status_str(one.status));
      continue;
    }
    if ((one.wr_id & kReceiveTag) != 0) {
      OnReceived(static_cast<uint32_t>(one.wr_id & ~kReceiveTag), one.byte_len);
    } else {
      sends_over_ = std::max(sends_over_, one.wr_id & ~kReadTag);
      if ((one.wr_id & kReadTag) != 0) OnFetched();
    }
  }
  return static_cast<size_t>(count);
}

void RdmaConnection::OnReceived(uint32_t slot, uint32_t bytes) {
  RdmaEnvelope told;
  if (bytes < sizeof(told)) return Fail(ErrorCode::kProtocolError, "a message that is too short");
  std::memcpy(&told, slots_.get() + size_t{slot} * kSlotBytes, sizeof(told));
  const auto grew = [](uint64_t now, uint64_t before, uint64_t most) {
    return now >= before && now <= most;
  };
  const bool sound =
      grew(told.frames_taken, frames_taken_by_peer_, frames_sent_) &&
      grew(told.control_taken, control_taken_by_peer_, control_sent_) &&
      grew(told.fetched, fetched_by_peer_, long_sent_) &&
      ((told.kind == RdmaEnvelope::kControl && bytes == sizeof(told)) ||
       (told.kind == RdmaEnvelope::kFrame && told.inline_bytes <= kInlineBytes &&
        bytes == kPrefixBytes + told.inline_bytes) ||
       (told.kind == RdmaEnvelope::kLongFrame && told.long_bytes > kInlineBytes &&
        bytes == kPrefixBytes));
  if (!sound) return Fail(ErrorCode::kProtocolError, "a message that contradicts itself");
  frames_taken_by_peer_ = told.frames_taken;
  control_taken_by_peer_ = told.control_taken;
  for (; fetched_by_peer_ < told.fetched; ++fetched_by_peer_) {
    finished_.Push(exposed_frames_.Pop());
  }
  if (told.kind != RdmaEnvelope::kControl) {
    arrived_.push_back(slot);
    return;
  }
  ++control_taken_;
  if (!PostReceive(slot)) Fail(ErrorCode::kPeerUnreachable, "ibv_post_recv");
}

size_t RdmaConnection::Deliver() {
  size_t count = 0;
  while (delivers() && !arrived_.empty() && DeliverFrame(arrived_.front())) {
    count += 1 + FinishFrames();
  }
  return count;
}

bool RdmaConnection::DeliverFrame(uint32_t slot) {
  const std::byte* const place = slots_.get() + size_t{slot} * kSlotBytes;
  RdmaEnvelope envelope;
  HeaderBytes header;
  std::memcpy(&envelope, place, sizeof(envelope));
  std::memcpy(header.data(), place + sizeof(envelope), sizeof(header));
  const bool is_long = envelope.kind == RdmaEnvelope::kLongFrame;
  if (is_long && peer_gone_) {
    Fail(ErrorCode::kPeerUnreachable, "the peer died within a payload");
    return false;
  }
  if (is_long && reads_under_way_ == most_reads_) return false;
  Landing landing = events_->OnHeader(header, RemoteLanding{});
  if (landing.verdict == Landing::Verdict::kWait) {
    waits_for_memory_ = true;
    return false;
  }
  if (landing.verdict == Landing::Verdict::kStop) return false;
  const uint32_t bytes = is_long ? envelope.long_bytes : envelope.inline_bytes;
  if (landing.bytes != bytes) {
    Fail(ErrorCode::kProtocolError, "a payload of another length than its header says");
    return false;
  }
  const bool taken = landing.verdict == Landing::Verdict::kTake;
  if (!is_long && taken && bytes > 0) {
    std::memcpy(landing.memory.data(), place + kPrefixBytes, bytes);
  }
  arrived_.pop_front();
  ++frames_taken_;
  stats_.bytes_received += kHeaderBytes + bytes;
  if (!PostReceive(slot)) {
    Fail(ErrorCode::kPeerUnreachable, "ibv_post_recv");
    return false;
  }
  if (!is_long) {
    if (taken && bytes > 0) events_->OnPayload(landing.token);
    return true;
  }
  fetches_.push_back({landing.token, landing.memory.first(taken ? bytes : 0), !taken});
  if (taken) return BeginFetch(envelope);
  ReleaseFetched();
  return true;
}

bool RdmaConnection::BeginFetch(const RdmaEnvelope& envelope) {
  const std::span<std::byte> memory = fetches_.back().memory;
  const ibv_mr* const registration = device_->RegistrationOf(memory);
  if (registration == nullptr) {
    Fail(ErrorCode::kInternal, "a landing in memory that was not announced");
    return false;
  }
  ibv_sge place{reinterpret_cast<uint64_t>(memory.data()), static_cast<uint32_t>(memory.size()),
                registration->lkey};
  ibv_send_wr request{};
  request.wr_id = kReadTag | sends_posted_;
  request.sg_list = &place;
  request.num_sge = 1;
  request.opcode = IBV_WR_RDMA_READ;
  request.send_flags = IBV_SEND_SIGNALED;
  request.wr.rdma.remote_addr = envelope.address;
  request.wr.rdma.rkey = envelope.key;
  ibv_send_wr* bad = nullptr;
  if (::ibv_post_send(id_->qp, &request, &bad) != 0) {
    Fail(ErrorCode::kPeerUnreachable, "ibv_post_send");
    return false;
  }
  ++reads_under_way_;
  return true;
}

void RdmaConnection::OnFetched() {
  // The READs of a queue pair end in the order in which they were posted.
  const auto fetch = std::find_if(fetches_.begin(), fetches_.end(),
                                  [](const Fetch& one) { return !one.over; });
  PANDO_ASSERT(fetch != fetches_.end());
  fetch->over = true;
  void* const token = fetch->token;
  --reads_under_way_;
  ReleaseFetched();
  if (state_ == State::kOpen) events_->OnPayload(token);
}

void RdmaConnection::ReleaseFetched() {
  for (; !fetches_.empty() && fetches_.front().over; ++fetched_) fetches_.pop_front();
}

size_t RdmaConnection::PumpOut() {
  size_t count = 0;
  if (peer_gone_) return 0;
  while (!queue_.empty() && state_ != State::kClosing &&
         frames_sent_ - frames_taken_by_peer_ < kFrameCredits &&
         sends_posted_ - sends_over_ < kSlots && PostFrame(queue_.front())) {
    ++count;
  }
  if (MustTell() && control_sent_ - control_taken_by_peer_ < kControlCredits &&
      sends_posted_ - sends_over_ < kSlots && state_ != State::kClosing) {
    if (PostMessage(RdmaEnvelope{}, nullptr)) ++control_sent_;
    ++count;
  }
  return count;
}

bool RdmaConnection::MustTell() const {
  return fetched_ > fetched_told_ || frames_taken_ - frames_taken_told_ >= kFrameCredits / 2 ||
         control_taken_ - control_taken_told_ >= kControlCredits / 4;
}

bool RdmaConnection::PostFrame(OutgoingFrame* frame) {
  RdmaEnvelope envelope;
  const bool is_long = frame->payload.size() > kInlineBytes;
  if (is_long) {
    const ibv_mr* const registration = device_->RegistrationOf(frame->payload);
    if (registration == nullptr || !ExposeMemory()) {
      Fail(ErrorCode::kInternal, "a payload in memory that was not announced");
      return false;
    }
    envelope.kind = RdmaEnvelope::kLongFrame;
    envelope.address = reinterpret_cast<uint64_t>(frame->payload.data());
    envelope.key = registration->rkey;
    envelope.long_bytes = static_cast<uint32_t>(frame->payload.size());
  } else {
    envelope.kind = RdmaEnvelope::kFrame;
    envelope.inline_bytes = static_cast<uint32_t>(frame->payload.size());
  }
  if (!PostMessage(envelope, frame)) return false;
  ++frames_sent_;
  frame->moved = 1;
  stats_.bytes_sent += kHeaderBytes + frame->payload.size();
  if (is_long) {
    ++long_sent_;
    exposed_frames_.Push(queue_.Pop());
  } else {
    finished_.Push(queue_.Pop());
  }
  return true;
}

bool RdmaConnection::ExposeMemory() {
  if (exposed_) return true;
  ibv_qp_attr open{};
  open.qp_access_flags = IBV_ACCESS_REMOTE_READ;
  exposed_ = ::ibv_modify_qp(id_->qp, &open, IBV_QP_ACCESS_FLAGS) == 0;
  return exposed_;
}

bool RdmaConnection::PostMessage(RdmaEnvelope envelope, const OutgoingFrame* frame) {
  envelope.frames_taken = frames_taken_;
  envelope.control_taken = control_taken_;
  envelope.fetched = fetched_;
  std::byte* const place = slots_.get() + (kSlots + sends_posted_ % kSlots) * kSlotBytes;
  std::memcpy(place, &envelope, sizeof(envelope));
  size_t bytes = sizeof(envelope);
  if (frame != nullptr) {
    std::memcpy(place + bytes, frame->header.data(), kHeaderBytes);
    bytes += kHeaderBytes;
    if (envelope.inline_bytes > 0) {
      std::memcpy(place + bytes, frame->payload.data(), envelope.inline_bytes);
      bytes += envelope.inline_bytes;
    }
  }
  ibv_sge piece{reinterpret_cast<uint64_t>(place), static_cast<uint32_t>(bytes), slots_mr_->lkey};
  ibv_send_wr request{};
  request.wr_id = sends_posted_ + 1;
  request.sg_list = &piece;
  request.num_sge = 1;
  request.opcode = IBV_WR_SEND;
  // One completion tells of all before it: every so often, and for the last one of a burst.
  const bool tell = frame == nullptr || frame->next == nullptr ||
                    (sends_posted_ + 1) % kSignalEvery == 0;
  request.send_flags = tell ? IBV_SEND_SIGNALED : 0;
  ibv_send_wr* bad = nullptr;
  if (::ibv_post_send(id_->qp, &request, &bad) != 0) {
    Fail(ErrorCode::kPeerUnreachable, "ibv_post_send");
    return false;
  }
  ++sends_posted_;
  frames_taken_told_ = frames_taken_;
  control_taken_told_ = control_taken_;
  fetched_told_ = fetched_;
  return true;
}

bool RdmaConnection::Arm() {
  if (state_ == State::kClosed || events_ == nullptr) return true;
  if (!finished_.empty() || state_ == State::kClosing) return false;
  if (peer_gone_ && !waits_for_memory_) return false;
  if (completions_ == nullptr || state_ == State::kConnecting) return true;
  if (!notified_) {
    if (::ibv_req_notify_cq(completions_, 0) != 0) return false;
    notified_ = true;
  }
  // What came before the request does not ring.
  ibv_wc completion{};
  if (!noticed_.has_value() && ::ibv_poll_cq(completions_, 1, &completion) == 1) {
    noticed_ = completion;
  }
  return !noticed_.has_value();
}

}  // namespace pando::rpc
