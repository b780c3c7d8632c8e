// The messages of a connection: what it takes from its queue pair, and what it posts there.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "rpc/transport/rdma_connection.h"
#include "rpc/transport/rdma_driver.h"

namespace pando::rpc {
namespace {

constexpr uint64_t kSignalEvery = 16;
constexpr size_t kTurnCompletions = 64;
// Of a work request: what its completion is about.
constexpr uint64_t kReceiveTag = 1ULL << 62U;
constexpr uint64_t kReadTag = 1ULL << 63U;

}  // namespace

bool RdmaConnection::PostReceive(uint32_t slot) {
  ibv_sge place{reinterpret_cast<uint64_t>(slots_.get() + size_t{slot} * kRdmaSlotBytes), kRdmaSlotBytes,
                slots_mr_->lkey};
  ibv_recv_wr request{};
  request.wr_id = kReceiveTag | slot;
  request.sg_list = &place;
  request.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  return ::ibv_post_recv(id_->qp, &request, &bad) == 0;
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
  std::memcpy(&told, slots_.get() + size_t{slot} * kRdmaSlotBytes, sizeof(told));
  const auto grew = [](uint64_t now, uint64_t before, uint64_t most) {
    return now >= before && now <= most;
  };
  const bool sound =
      grew(told.frames_taken, frames_taken_by_peer_, frames_sent_) &&
      grew(told.control_taken, control_taken_by_peer_, control_sent_) &&
      grew(told.fetched, fetched_by_peer_, long_sent_) &&
      ((told.kind == RdmaEnvelope::kControl && bytes == sizeof(told)) ||
       (told.kind == RdmaEnvelope::kFrame && told.inline_bytes <= kInlineBytes &&
        bytes == kRdmaPrefixBytes + told.inline_bytes) ||
       (told.kind == RdmaEnvelope::kLongFrame && told.long_bytes > kInlineBytes &&
        bytes == kRdmaPrefixBytes));
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
  const std::byte* const place = slots_.get() + size_t{slot} * kRdmaSlotBytes;
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
    std::memcpy(landing.memory.data(), place + kRdmaPrefixBytes, bytes);
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
         frames_sent_ - frames_taken_by_peer_ < kRdmaFrameCredits &&
         sends_posted_ - sends_over_ < kRdmaSlots && PostFrame(queue_.front())) {
    ++count;
  }
  if (MustTell() && control_sent_ - control_taken_by_peer_ < kRdmaControlCredits &&
      sends_posted_ - sends_over_ < kRdmaSlots && state_ != State::kClosing) {
    if (PostMessage(RdmaEnvelope{}, nullptr)) ++control_sent_;
    ++count;
  }
  return count;
}

bool RdmaConnection::MustTell() const {
  return fetched_ > fetched_told_ || frames_taken_ - frames_taken_told_ >= kRdmaFrameCredits / 2 ||
         control_taken_ - control_taken_told_ >= kRdmaControlCredits / 4;
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
  std::byte* const place = slots_.get() + (kRdmaSlots + sends_posted_ % kRdmaSlots) * kRdmaSlotBytes;
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

}  // namespace pando::rpc
