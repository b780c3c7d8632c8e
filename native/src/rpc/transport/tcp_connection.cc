#include "rpc/transport/tcp_connection.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace pando::rpc {
namespace {

constexpr size_t kStagingBytes = 64 * 1024;
/// Payloads of which more than this is still to come are received in place; shorter ones come with
/// their neighbours in one call and are copied.
constexpr size_t kInPlaceBytes = 16 * 1024;
constexpr size_t kMostParts = 64;
/// What is sealed before it is sent: stays in the cache between the two, and is enough for one call.
constexpr size_t kSealedBytes = 128 * 1024;
/// Less room than this is not worth a piece of a payload.
constexpr size_t kLeastPiece = 4096;
/// What one connection may take of a turn before the others have theirs.
constexpr int kReadsATurn = 8;

Error Lost(std::string_view what, int error) {
  return {ErrorCode::kPeerUnreachable, std::string(what) + ": " + std::strerror(error)};
}

}  // namespace

TcpConnection::TcpConnection(TcpDriver& driver, FileHandle socket, bool connecting)
    : driver_(driver),
      socket_(std::move(socket)),
      connecting_(connecting),
      staging_(kStagingBytes) {
  ++driver_.connections_;
}

TcpConnection::~TcpConnection() {
  PANDO_ASSERT(events_ == nullptr || told_);
  driver_.Forget(this);
  --driver_.connections_;
}

void TcpConnection::Start(ConnectionEvents& events) {
  events_ = &events;
  const Status watched =
      driver_.Watch(socket_.get(), this, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  if (!watched.ok()) Fail(watched);
}

void TcpConnection::Ready(uint32_t epoll_events) {
  if ((epoll_events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
  if (ended_) {
    // There is nothing to read that could tell of it.
    if ((epoll_events & EPOLLERR) != 0) Fail(Lost("send", ECONNRESET));
  } else if ((epoll_events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    readable_ = true;
  }
  if ((epoll_events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
  driver_.Activate(this);
}

void TcpConnection::Opened() {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return Fail(Lost("connect", error));
  connecting_ = false;
  events_->OnOpen();
}

size_t TcpConnection::Work() {
  if (told_) return 0;
  size_t count = 0;
  if (connecting_ && !failed_) {
    if (!writable_) return 0;
    Opened();
    ++count;
  }
  if (std::exchange(resumed_, false) && taking_ == Taking::kWait && !failed_ && !closing_) {
    taking_ = Taking::kHeader;
    OfferHeader(held_header_);
    Consume();
    ++count;
  }
  if (!failed_) count += Receive();
  if (!failed_) count += Flush();
  if (failed_) Finish();
  if (told_) return count + 1;
  const bool may_read = readable_ && (taking_ != Taking::kWait || closing_);
  if (may_read || ((first_ != nullptr || sealed_from_ < sealed_to_) && writable_)) driver_.Activate(this);
  return count;
}

// ---- Receiving

size_t TcpConnection::Receive() {
  size_t reads = 0;
  for (int turn = 0; turn < kReadsATurn && readable_ && !failed_; ++turn) {
    if (!closing_ && (taking_ == Taking::kWait || taking_ == Taking::kNothing)) break;
    const ssize_t n = ReadSome();
    if (n == 0) break;
    ++reads;
    if (n < 0) break;
    if (!closing_) {
      Consume();
      // Parts are not told: one call brings most of a payload, and summing it up early gains nothing.
      if (taking_ == Taking::kPayload || taking_ == Taking::kHeader) events_->OnProgress(nullptr, 0);
    }
    if (closing_) staged_from_ = staged_to_ = 0;
  }
  return reads;
}

/// Bytes read, 0 when there are none now, -1 when the connection has failed or ended.
ssize_t TcpConnection::ReadSome() {
  if (staged_from_ == staged_to_) staged_from_ = staged_to_ = 0;
  iovec parts[2] = {};
  int count = 0;
  const size_t missing =
      !closing_ && taking_ == Taking::kPayload ? landing_.bytes - landed_ : size_t{0};
  const bool in_place = missing > 0 && staged_from_ == staged_to_ && missing > kInPlaceBytes;
  if (in_place) parts[count++] = {landing_.memory.data() + landed_, missing};
  if (staged_to_ == staging_.size()) {  // a piece of a header at the very end
    std::memmove(staging_.data(), staging_.data() + staged_from_, staged_to_ - staged_from_);
    staged_to_ -= std::exchange(staged_from_, 0);
  }
  const size_t room = staging_.size() - staged_to_;
  parts[count++] = {staging_.data() + staged_to_, room};
  ssize_t n = 0;
  do {
    n = ::readv(socket_.get(), parts, count);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    readable_ = false;
    return 0;
  }
  if (n < 0) {
    Fail(Lost("receive", errno));
    return -1;
  }
  if (n == 0) {
    const bool between = staged_from_ == staged_to_ && taking_ != Taking::kPayload &&
                         taking_ != Taking::kSkip && taking_ != Taking::kTag;
    if (between && !closing_ && events_->OnPeerEnded()) {
      ended_ = true;
      readable_ = false;
      return 0;
    }
    Fail(between || closing_
             ? Status()
             : Status(ErrorCode::kPeerUnreachable, "the connection was cut in a frame"));
    return -1;
  }
  // Less than was asked for: there is no more now, and an edge will tell of what comes.
  if (static_cast<size_t>(n) < room + (in_place ? missing : 0) && !hung_up_) readable_ = false;
  bytes_received_ += static_cast<uint64_t>(n);
  auto got = static_cast<size_t>(n);
  if (in_place) {
    const size_t here = std::min(got, missing);
    Landed(landing_.memory.data() + landed_, here);
    got -= here;
  }
  staged_to_ += got;
  return n;
}

void TcpConnection::Consume() {
  while (!closing_ && !failed_) {
    std::byte* const from = staging_.data() + staged_from_;
    const size_t staged = staged_to_ - staged_from_;
    if (taking_ == Taking::kPayload || taking_ == Taking::kSkip) {
      const size_t step = std::min(staged, landing_.bytes - landed_);
      std::byte* at = from;
      if (step > 0 && taking_ == Taking::kPayload) {
        at = landing_.memory.data() + landed_;
        std::memcpy(at, from, step);
      }
      staged_from_ += step;
      Landed(at, step);
      if (landed_ < landing_.bytes) return;
      if (seal_) {
        taking_ = Taking::kTag;
      } else {
        PayloadCame();
      }
    } else if (taking_ == Taking::kTag) {
      if (staged < kSealTagBytes) return;
      staged_from_ += kSealTagBytes;
      if (!seal_->opener.EndPayload(std::span<const std::byte, kSealTagBytes>(from, kSealTagBytes))) {
        return BadSeal();
      }
      PayloadCame();
    } else if (taking_ == Taking::kHeader) {
      const size_t bytes = seal_ ? kSealedHeaderBytes : kHeaderBytes;
      if (staged < bytes) return;
      HeaderBytes header;
      staged_from_ += bytes;
      if (!seal_) {
        std::memcpy(header.data(), from, kHeaderBytes);
      } else if (!seal_->opener.OpenHeader(
                     std::span<const std::byte, kSealedHeaderBytes>(from, kSealedHeaderBytes), header)) {
        return BadSeal();
      }
      OfferHeader(header);
    } else {
      return;
    }
  }
}

void TcpConnection::Landed(std::byte* at, size_t bytes) {
  if (seal_ && bytes > 0) seal_->opener.OpenPart({at, bytes});
  landed_ += bytes;
}

void TcpConnection::BadSeal() {
  taking_ = Taking::kNothing;
  events_->OnBadSeal();
}

void TcpConnection::PayloadCame() {
  taking_ = Taking::kHeader;
  if (landing_.verdict == Landing::Verdict::kTake) events_->OnPayload(landing_.token);
}

void TcpConnection::OfferHeader(const HeaderBytes& header) {
  landing_ = events_->OnHeader(header, {});
  landed_ = 0;
  if (landing_.verdict == Landing::Verdict::kStop) {
    taking_ = Taking::kNothing;
  } else if (landing_.verdict == Landing::Verdict::kWait) {
    held_header_ = header;
    taking_ = Taking::kWait;
  } else if (landing_.bytes == 0) {
    taking_ = Taking::kHeader;
  } else {
    const bool skips = landing_.verdict == Landing::Verdict::kSkip;
    PANDO_ASSERT(skips || landing_.memory.size() >= landing_.bytes);
    taking_ = skips ? Taking::kSkip : Taking::kPayload;
    if (seal_) seal_->opener.BeginPayload();
  }
}

bool TcpConnection::DropPayload(void* token) {
  const bool comes = taking_ == Taking::kPayload || taking_ == Taking::kTag;
  if (!comes || landing_.token != token) return false;
  landing_.memory = {};
  landing_.token = nullptr;
  // The tag is still to be read, and to be right.
  if (taking_ == Taking::kPayload) taking_ = Taking::kSkip;
  return true;
}

void TcpConnection::Resume() {
  resumed_ = true;
  driver_.Activate(this);
}

// ---- Sending

void TcpConnection::Send(OutgoingFrame* frame) {
  frame->next = nullptr;
  frame->moved = 0;
  (last_ != nullptr ? last_->next : first_) = frame;
  last_ = frame;
  driver_.Activate(this);
}

bool TcpConnection::Withdraw(OutgoingFrame* frame) {
  if (frame->moved > 0) return false;
  OutgoingFrame* before = nullptr;
  OutgoingFrame* at = first_;
  for (; at != nullptr && at != frame; at = at->next) before = at;
  if (at == nullptr) return false;
  (before != nullptr ? before->next : first_) = frame->next;
  if (last_ == frame) last_ = before;
  return true;
}

size_t TcpConnection::Flush() {
  size_t sends = plain_until_ != nullptr || !seal_ ? FlushPlain() : 0;
  if (seal_ && plain_until_ == nullptr && !failed_) sends += FlushSealed();
  if (closing_ && first_ == nullptr && sealed_from_ == sealed_to_ && !shut_ && !failed_) {
    shut_ = true;
    // Not closed yet: with bytes unread the kernel would send a reset, which can overtake the
    // GOODBYE. The peer's end, or the session's patience, ends it.
    ::shutdown(socket_.get(), SHUT_WR);
    if (ended_) Fail({});
  }
  return sends;
}

/// Bytes that the kernel took; -1: none, now or ever.
ssize_t TcpConnection::SendParts(const iovec* parts, size_t count) {
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  ssize_t n = 0;
  do {
    n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) {
    bytes_sent_ += static_cast<uint64_t>(n);
  } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
    writable_ = false;
  } else {
    Fail(Lost("send", errno));
  }
  return n;
}

size_t TcpConnection::FlushPlain() {
  size_t sends = 0;
  while (first_ != nullptr && writable_ && !connecting_) {
    iovec parts[kMostParts];
    size_t count = 0;
    size_t total = 0;
    for (OutgoingFrame* frame = first_; frame != nullptr && count + 2 <= kMostParts;
         frame = frame->next) {
      const size_t moved = frame->moved;
      if (moved < kHeaderBytes) parts[count++] = {frame->header.data() + moved, kHeaderBytes - moved};
      const size_t skip = moved > kHeaderBytes ? moved - kHeaderBytes : 0;
      if (frame->payload.size() > skip) {
        parts[count++] = {const_cast<std::byte*>(frame->payload.data()) + skip,
                          frame->payload.size() - skip};
      }
      total += kHeaderBytes + frame->payload.size() - moved;
      if (frame == plain_until_) break;
    }
    const ssize_t n = SendParts(parts, count);
    if (n < 0) return sends;
    ++sends;
    auto sent = static_cast<size_t>(n);
    if (sent < total) writable_ = false;
    while (first_ != nullptr) {
      const size_t left = kHeaderBytes + first_->payload.size() - first_->moved;
      const size_t step = std::min(left, sent);
      first_->moved += step;
      sent -= step;
      if (step < left) break;
      const bool last = first_ == plain_until_;
      if (last) plain_until_ = nullptr;
      FrameSent(first_);
      if (last) return sends;
    }
  }
  return sends;
}

size_t TcpConnection::FlushSealed() {
  size_t sends = 0;
  while (writable_ && !connecting_) {
    while (first_ != nullptr && sealed_.size() - sealed_to_ >= kLeastPiece) {
      OutgoingFrame* const frame = first_;
      sealed_to_ += seal_->sealer.Seal(*frame, sealed_.span().subspan(sealed_to_));
      if (frame->moved == kHeaderBytes + frame->payload.size()) FrameSent(frame);
    }
    if (sealed_from_ == sealed_to_) break;
    const iovec part = {sealed_.data() + sealed_from_, sealed_to_ - sealed_from_};
    const ssize_t n = SendParts(&part, 1);
    if (n < 0) return sends;
    ++sends;
    sealed_from_ += static_cast<size_t>(n);
    if (sealed_from_ < sealed_to_) {
      writable_ = false;
    } else {
      sealed_from_ = sealed_to_ = 0;
    }
  }
  return sends;
}

void TcpConnection::Seal(std::unique_ptr<FrameSeal> seal) {
  PANDO_ASSERT(!seal_);
  seal_ = std::move(seal);
  plain_until_ = last_;
  sealed_ = AlignedBuffer(kSealedBytes);
}

void TcpConnection::FrameSent(OutgoingFrame* frame) {
  first_ = frame->next;
  if (first_ == nullptr) last_ = nullptr;
  frame->done(frame);
}

// ---- The end

void TcpConnection::Close(bool flush) {
  closing_ = true;
  taking_ = Taking::kNothing;
  staged_from_ = staged_to_ = 0;
  if (!flush || connecting_) return Fail({});
  driver_.Activate(this);
}

void TcpConnection::Fail(Status why) {
  if (failed_) return;
  failed_ = true;
  why_ = std::move(why);
  driver_.Activate(this);
}

void TcpConnection::Finish() {
  if (told_) return;
  // From here on the kernel has nothing of ours: plain system calls leave nothing behind.
  socket_.Reset();
  socket_ = FileHandle();
  while (first_ != nullptr) FrameSent(first_);
  told_ = true;
  events_->OnClosed(why_);
}

std::string TcpConnection::PeerAddress() const {
  sockaddr_storage storage = {};
  socklen_t size = sizeof storage;
  auto* const address = reinterpret_cast<sockaddr*>(&storage);
  std::array<char, NI_MAXHOST> host = {};
  std::array<char, NI_MAXSERV> port = {};
  if (socket_.get() < 0 || ::getpeername(socket_.get(), address, &size) != 0 ||
      ::getnameinfo(address, size, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return {};
  }
  const bool v6 = storage.ss_family == AF_INET6;
  return (v6 ? "[" + std::string(host.data()) + "]" : std::string(host.data())) + ":" + port.data();
}

int64_t TcpConnection::Retransmits() const {
  tcp_info info = {};
  socklen_t size = sizeof info;
  if (socket_.get() < 0 ||
      ::getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) {
    return -1;
  }
  return info.tcpi_total_retrans;
}

}  // namespace pando::rpc
