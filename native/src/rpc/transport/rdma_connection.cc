#include "rpc/transport/rdma_connection.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "rpc/transport/rdma_driver.h"

namespace pando::rpc {
namespace {

constexpr int kResolveMs = 2000;
// 4.096 us * 2^17 = 0.54 s until a packet is sent again; after six times more the peer is gone. What the
// connection manager would choose by itself takes half a minute and more. Not 7 times, which
// Soft-RoCE takes for "for ever".
constexpr uint8_t kAckTimeout = 17;
constexpr uint8_t kRetries = 6;

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
  greeting.frame_credits = kRdmaFrameCredits;
  greeting.control_credits = kRdmaControlCredits;
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
  constexpr size_t kBytes = 2 * size_t{kRdmaSlots} * kRdmaSlotBytes;
  slots_.reset(static_cast<std::byte*>(std::aligned_alloc(64, kBytes)));
  if (!slots_) return {ErrorCode::kInsufficientStorage, "no memory for a connection"};
  slots_mr_ =
      ::ibv_reg_mr(device_->domain(), slots_.get(), kBytes, IBV_ACCESS_LOCAL_WRITE);
  if (slots_mr_ == nullptr) return SystemError("ibv_reg_mr", errno);
  const int entries = 2 * static_cast<int>(kRdmaSlots) + static_cast<int>(kRdmaMostReads);
  completions_ = ::ibv_create_cq(device_->verbs(), entries, this, device_->channel(), 0);
  if (completions_ == nullptr) return SystemError("ibv_create_cq", errno);
  ibv_qp_init_attr attributes{};
  attributes.send_cq = completions_;
  attributes.recv_cq = completions_;
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = kRdmaSlots + kRdmaMostReads;
  attributes.cap.max_recv_wr = kRdmaSlots;
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  if (::rdma_create_qp(id_, device_->domain(), &attributes) != 0) {
    return SystemError("rdma_create_qp", errno);
  }
  for (uint32_t slot = 0; slot < kRdmaSlots; ++slot) {
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
  // Before the id, with which librdmacm may close a device that has been removed.
  device_.reset();
  ::rdma_destroy_id(id_);
  id_ = nullptr;
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
  most_reads_ = std::min<uint32_t>(kRdmaMostReads, answer.initiator_depth);
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
        most_reads_ = std::min<uint32_t>({kRdmaMostReads, param.initiator_depth, device_->reads()});
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
