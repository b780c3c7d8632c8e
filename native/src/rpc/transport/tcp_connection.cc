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
  if (may_read || (first_ != nullptr && writable_)) driver_.Activate(this);
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
                         taking_ != Taking::kSkip;
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
    landed_ += here;
    got -= here;
  }
  staged_to_ += got;
  return n;
}

void TcpConnection::Consume() {
  while (!closing_ && !failed_) {
    const size_t staged = staged_to_ - staged_from_;
    if (taking_ == Taking::kPayload) {
      const size_t step = std::min(staged, landing_.bytes - landed_);
      if (step > 0) {
        std::memcpy(landing_.memory.data() + landed_, staging_.data() + staged_from_, step);
        staged_from_ += step;
        landed_ += step;
      }
      if (landed_ < landing_.bytes) return;
      taking_ = Taking::kHeader;
      events_->OnPayload(landing_.token);
    } else if (taking_ == Taking::kSkip) {
      const size_t step = std::min(staged, landing_.bytes - landed_);
      staged_from_ += step;
      landed_ += step;
      if (landed_ < landing_.bytes) return;
      taking_ = Taking::kHeader;
    } else if (taking_ == Taking::kHeader) {
      if (staged < kHeaderBytes) return;
      HeaderBytes header;
      std::memcpy(header.data(), staging_.data() + staged_from_, kHeaderBytes);
      staged_from_ += kHeaderBytes;
      OfferHeader(header);
    } else {
      return;
    }
  }
}

void TcpConnection::OfferHeader(const HeaderBytes& header) {
  landing_ = events_->OnHeader(header, {});
  landed_ = 0;
  switch (landing_.verdict) {
    case Landing::Verdict::kTake:
      PANDO_ASSERT(landing_.memory.size() >= landing_.bytes);
      taking_ = landing_.bytes > 0 ? Taking::kPayload : Taking::kHeader;
      return;
    case Landing::Verdict::kSkip:
      taking_ = landing_.bytes > 0 ? Taking::kSkip : Taking::kHeader;
      return;
    case Landing::Verdict::kWait:
      held_header_ = header;
      taking_ = Taking::kWait;
      return;
    case Landing::Verdict::kStop:
      taking_ = Taking::kNothing;
      return;
  }
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
    }
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    ssize_t n = 0;
    do {
      n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      writable_ = false;
      break;
    }
    if (n < 0) {
      Fail(Lost("send", errno));
      return sends;
    }
    ++sends;
    bytes_sent_ += static_cast<uint64_t>(n);
    auto sent = static_cast<size_t>(n);
    if (sent < total) writable_ = false;
    while (first_ != nullptr) {
      const size_t left = kHeaderBytes + first_->payload.size() - first_->moved;
      const size_t step = std::min(left, sent);
      first_->moved += step;
      sent -= step;
      if (step < left) break;
      FrameSent(first_);
    }
  }
  if (closing_ && first_ == nullptr && !shut_ && !failed_) {
    shut_ = true;
    // Not closed yet: with bytes unread the kernel would send a reset, which can overtake the
    // GOODBYE. The peer's end, or the session's patience, ends it.
    ::shutdown(socket_.get(), SHUT_WR);
    if (ended_) Fail({});
  }
  return sends;
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
