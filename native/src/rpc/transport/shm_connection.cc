#include "rpc/transport/shm_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace pando::rpc {
namespace {

// Of the four directions of two rings: what the connecting side writes, what the listening side does.
constexpr size_t kFromConnecting = 0;
constexpr size_t kFromListening = 1;

// The reader shall begin before a long payload is wholly written.
constexpr size_t kPublishBytes = 64U << 10U;
// Of one turn, so that one connection does not keep the others waiting.
constexpr size_t kTurnBytes = 1U << 20U;
constexpr size_t kTurnFrames = 128;

}  // namespace

ShmConnection::ShmConnection(ShmDriver& driver, FileHandle socket, ShmRegion region)
    : driver_(driver),
      socket_(std::move(socket)),
      region_(std::move(region)),
      listening_side_(true),
      state_(State::kOpen) {
  OpenRings();
}

ShmConnection::ShmConnection(ShmDriver& driver, Result<FileHandle> socket)
    : driver_(driver), listening_side_(false), state_(State::kConnecting) {
  if (socket.ok()) {
    socket_ = std::move(socket).value();
  } else {
    why_ = socket.error();
    state_ = State::kClosing;
  }
}

ShmConnection::~ShmConnection() {
  PANDO_ASSERT(events_ == nullptr || state_ == State::kClosed);
  driver_.Forget(this);
}

void ShmConnection::OpenRings() {
  const size_t out = listening_side_ ? kFromListening : kFromConnecting;
  out_.emplace(region_.control(out), region_.ring(out));
  in_.emplace(region_.control(1 - out), region_.ring(1 - out));
}

void ShmConnection::Start(ConnectionEvents& events) {
  events_ = &events;
  if (socket_.get() >= 0) {
    id_ = driver_.Watch(socket_.get());
    driver_.connections_.emplace(id_, this);
  }
  driver_.Heat(this);
}

void ShmConnection::Send(OutgoingFrame* frame) {
  frame->moved = 0;
  queue_.Push(frame);
  if (state_ == State::kOpen && queue_.front() == frame) static_cast<void>(PumpOut());
  driver_.Heat(this);
}

bool ShmConnection::Withdraw(OutgoingFrame* frame) {
  return frame->moved == 0 && queue_.Remove(frame);
}

bool ShmConnection::ForgetLanding(OutgoingFrame* request) {
  const auto overlaps = [](std::span<const std::byte> a, std::span<const std::byte> b) {
    return a.data() < b.data() + b.size() && b.data() < a.data() + a.size();
  };
  // The answer is being written there now.
  return !(in_payload_ && landing_.verdict == Landing::Verdict::kTake && delivers() &&
           overlaps(landing_.memory, request->landing));
}

bool ShmConnection::DropPayload(void* token) {
  if (!in_payload_ || landing_.memory.empty() || landing_.token != token) return false;
  landing_.memory = {};
  landing_.token = nullptr;
  return true;
}

void ShmConnection::Resume() {
  waits_for_memory_ = false;
  driver_.Heat(this);
}

void ShmConnection::Close(bool flush) {
  if (state_ == State::kOpen || state_ == State::kFlushing) {
    state_ = flush && !peer_gone_ ? State::kFlushing : State::kClosing;
  } else if (state_ == State::kConnecting) {
    state_ = State::kClosing;
  }
  driver_.Heat(this);
}

size_t ShmConnection::Poll() {
  size_t work = FinishFrames();
  if (state_ == State::kOpen || state_ == State::kFlushing) {
    work += PumpOut();
    work += PumpIn();
    if (out_->broken() || in_->broken()) {
      Fail(ErrorCode::kProtocolError, "the peer told a position in shared memory that cannot be");
    } else if (state_ == State::kFlushing && (queue_.empty() || peer_gone_)) {
      state_ = State::kClosing;
    } else if (peer_gone_ && delivers() && in_->Available(kRingUnit) == 0) {
      // Everything that it wrote before its end has been delivered.
      if (in_payload_) {
        Fail(ErrorCode::kPeerUnreachable, "the peer died within a frame");
      } else {
        state_ = State::kClosing;
      }
    }
  }
  work += FinishFrames();
  if (state_ == State::kClosing) {
    Finish();  // the last thing: the session may destroy us in it
    return work + 1;
  }
  return work;
}

void ShmConnection::Fail(ErrorCode code, const char* what) {
  if (state_ == State::kClosing || state_ == State::kClosed) return;
  why_ = Status(code, what);
  state_ = State::kClosing;
}

void ShmConnection::Finish() {
  state_ = State::kClosed;
  // First of all the peer may not see us write or read any more.
  out_.reset();
  in_.reset();
  region_ = ShmRegion();
  socket_.Reset();
  do {
    while (!queue_.empty()) finished_.Push(queue_.Pop());
    static_cast<void>(FinishFrames());  // which may send more: the session does not know yet
  } while (!queue_.empty());
  events_->OnClosed(why_);
}

size_t ShmConnection::FinishFrames() {
  size_t count = 0;
  while (!finished_.empty()) {
    OutgoingFrame* const frame = finished_.Pop();
    frame->done(frame);
    ++count;
  }
  return count;
}

size_t ShmConnection::PumpOut() {
  size_t written = 0;
  size_t unpublished = 0;
  const auto publish = [&] {
    if (out_->Publish()) Ring();
    unpublished = 0;
  };
  while (!queue_.empty() && !peer_gone_ && written < kTurnBytes) {
    OutgoingFrame* const frame = queue_.front();
    const size_t whole = kHeaderBytes + frame->payload.size();
    const size_t left = whole - static_cast<size_t>(frame->moved);
    const size_t room = out_->Free(std::min(RoundToUnit(left), kPublishBytes));
    if (room == 0) break;
    size_t step = 0;
    if (frame->moved == 0) {
      out_->Write(frame->header);
      step = kHeaderBytes;
    } else {
      step = std::min({left, room, kPublishBytes});
      out_->Write(frame->payload.subspan(static_cast<size_t>(frame->moved) - kHeaderBytes, step));
    }
    frame->moved += step;
    stats_.bytes_sent += step;
    written += step;
    unpublished += step;
    if (frame->moved == whole) {
      out_->Pad();
      finished_.Push(queue_.Pop());
    }
    if (unpublished >= kPublishBytes) publish();
  }
  publish();
  return written;
}

size_t ShmConnection::PumpIn() {
  size_t work = 0;
  size_t bytes = 0;
  while (delivers() && bytes < kTurnBytes && work < kTurnFrames) {
    if (in_payload_) {
      const size_t taken = TakePayload();
      if (taken == 0) break;
      bytes += taken;
    } else {
      if (!has_header_) {
        if (in_->Available(kHeaderBytes) < kHeaderBytes) break;
        in_->Read(header_);
        stats_.bytes_received += kHeaderBytes;
        has_header_ = true;
      }
      if (!OfferHeader()) break;
    }
    // A peer that answers as fast as we do may keep us here: buffers must come back meanwhile.
    work += 1 + FinishFrames();
  }
  if (in_.has_value() && in_->Publish()) Ring();
  return work;
}

bool ShmConnection::OfferHeader() {
  landing_ = events_->OnHeader(header_, RemoteLanding{});
  switch (landing_.verdict) {
    case Landing::Verdict::kWait:
      waits_for_memory_ = true;
      return false;
    case Landing::Verdict::kStop:
      return false;
    case Landing::Verdict::kTake:
    case Landing::Verdict::kSkip:
      break;
  }
  has_header_ = false;
  payload_left_ = landing_.bytes;
  in_payload_ = payload_left_ > 0;
  return true;
}

size_t ShmConnection::TakePayload() {
  const size_t ready = in_->Available(std::min(RoundToUnit(payload_left_), kPublishBytes));
  const size_t step = std::min(payload_left_, ready);
  if (step == 0) return 0;
  if (!landing_.memory.empty()) {
    in_->Read(landing_.memory.subspan(landing_.bytes - payload_left_, step));
  } else {
    in_->Skip(step);
  }
  payload_left_ -= step;
  stats_.bytes_received += step;
  if (payload_left_ > 0) {
    if (in_->Publish()) Ring();
    const bool takes = !landing_.memory.empty();
    events_->OnProgress(landing_.token, takes ? landing_.bytes - payload_left_ : 0);
    return step;
  }
  in_->Skip(RoundToUnit(landing_.bytes) - landing_.bytes);
  in_payload_ = false;
  if (landing_.verdict == Landing::Verdict::kTake) events_->OnPayload(landing_.token);
  return step;
}

void ShmConnection::Ring() {
  const std::byte bell{};
  if (::send(socket_.get(), &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) return;
  // A socket that is full of bells rings already.
  if (errno != EAGAIN && errno != EINTR) peer_gone_ = true;
}

void ShmConnection::OnSocketReadable() {
  if (state_ == State::kConnecting) {
    TakeOffer();
    return;
  }
  std::array<std::byte, 512> bells;
  const ssize_t got = ::recv(socket_.get(), bells.data(), bells.size(), MSG_DONTWAIT);
  if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return;
  peer_gone_ = true;
  // Its end stays readable for ever; once is enough.
  ::epoll_ctl(driver_.epoll_.get(), EPOLL_CTL_DEL, socket_.get(), nullptr);
}

void ShmConnection::TakeOffer() {
  if (!IsTrustedPeer(socket_.get())) {
    Fail(ErrorCode::kPeerRefused, "the listening process belongs to another user");
    return;
  }
  ShmOffer offer;
  const ShmOffer expected;
  ReceivedDescriptor received =
      ReceiveDescriptor(socket_.get(), std::as_writable_bytes(std::span(&offer, 1)));
  if (received.outcome == ReceivedDescriptor::Outcome::kLater) return;
  if (received.outcome == ReceivedDescriptor::Outcome::kRefused || offer.magic != expected.magic ||
      offer.version != expected.version) {
    Fail(ErrorCode::kPeerRefused, "the listening process offered no shared memory that we know");
    return;
  }
  Result<ShmRegion> region = ShmRegion::Map(received.descriptor, offer.ring_bytes);
  if (!region.ok()) {
    why_ = region.error();
    state_ = State::kClosing;
    return;
  }
  region_ = std::move(region).value();
  OpenRings();
  state_ = State::kOpen;
  events_->OnOpen();
}

bool ShmConnection::Arm() {
  if (!finished_.empty() || state_ == State::kClosing) return false;
  if (state_ == State::kConnecting) return true;
  if (peer_gone_) return waits_for_memory_;
  const bool reads = delivers();
  if (!queue_.empty() && !out_->Arm()) return false;
  if (reads && !in_->Arm()) return false;
  return !out_->broken() && !in_->broken();
}

void ShmConnection::Disarm() {
  if (out_.has_value()) {
    out_->Disarm();
    in_->Disarm();
  }
}

}  // namespace pando::rpc
