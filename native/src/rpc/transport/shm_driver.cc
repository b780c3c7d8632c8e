#include "rpc/transport/shm_driver.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "rpc/transport/shm_connection.h"

namespace pando::rpc {
namespace {

// While connections are hot, sockets are looked at this often.
constexpr uint64_t kSocketsEveryUs = 50;
constexpr int kAcceptsATurn = 16;

FileHandle OpenSpare() { return FileHandle(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

class ShmAcceptor final : public Acceptor {
 public:
  ShmAcceptor(ShmDriver& driver, UnixListener listener, AcceptEvents& events)
      : driver_(driver), listener_(std::move(listener)), events_(events) {
    id_ = driver_.Watch(listener_.fd());
    driver_.acceptors_.emplace(id_, this);
  }
  ~ShmAcceptor() override { driver_.acceptors_.erase(id_); }
  [[nodiscard]] std::string address() const override { return listener_.path(); }

 private:
  friend class ShmDriver;
  ShmDriver& driver_;
  UnixListener listener_;
  AcceptEvents& events_;
  uint64_t id_ = 0;
};

Result<std::unique_ptr<ShmDriver>> ShmDriver::Open(ShmOptions options) {
  if (!std::has_single_bit(options.ring_bytes) || options.ring_bytes < 4096) {
    return {ErrorCode::kInvalidArgument, "ring_bytes is a power of two of at least 4096"};
  }
  FileHandle epoll(::epoll_create1(EPOLL_CLOEXEC));
  FileHandle spare = OpenSpare();
  if (epoll.get() < 0 || spare.get() < 0) return SystemError("epoll_create1", errno);
  return std::unique_ptr<ShmDriver>(new ShmDriver(options, std::move(epoll), std::move(spare)));
}

ShmDriver::~ShmDriver() { PANDO_ASSERT(connections_.empty() && acceptors_.empty()); }

uint64_t ShmDriver::Watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = next_id_++;
  PANDO_ASSERT(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
  return event.data.u64;
}

Result<std::unique_ptr<Acceptor>> ShmDriver::Listen(const std::string& address,
                                                    AcceptEvents& events) {
  Result<UnixListener> listener = UnixListener::Open(address);
  if (!listener.ok()) return listener.error();
  return std::unique_ptr<Acceptor>(
      std::make_unique<ShmAcceptor>(*this, std::move(listener).value(), events));
}

Result<std::unique_ptr<Connection>> ShmDriver::Connect(const std::string& address) {
  Result<FileHandle> socket = ConnectUnix(address);
  // Who is not there is told after Start, like everything that happens to a connection.
  if (!socket.ok() && socket.code() == ErrorCode::kInvalidArgument) return socket.error();
  return std::unique_ptr<Connection>(std::make_unique<ShmConnection>(*this, std::move(socket)));
}

void ShmDriver::Heat(ShmConnection* connection) {
  connection->last_work_us_ = now_us_;
  if (connection->hot_) return;
  connection->hot_ = true;
  hot_.push_back(connection);
}

void ShmDriver::Forget(ShmConnection* connection) {
  connections_.erase(connection->id_);
  std::replace(hot_.begin(), hot_.end(), connection, static_cast<ShmConnection*>(nullptr));
}

size_t ShmDriver::Poll(uint64_t now_us) {
  now_us_ = now_us;
  size_t work = 0;
  if (armed_ || now_us - events_seen_us_ >= kSocketsEveryUs) {
    events_seen_us_ = now_us;
    work += TakeEvents();
  }
  const bool woken = armed_;
  armed_ = false;
  // By index: what is called here may make connections and destroy them.
  for (size_t i = 0; i < hot_.size(); ++i) {
    if (hot_[i] == nullptr) continue;
    if (woken) hot_[i]->Disarm();
    const size_t done = hot_[i]->Poll();
    work += done;
    ShmConnection* const connection = hot_[i];
    if (connection == nullptr) continue;
    if (done > 0) connection->last_work_us_ = now_us;
    const bool cold = connection->state_ == ShmConnection::State::kClosed ||
                      (now_us - connection->last_work_us_ > options_.hot_us && connection->Arm());
    if (cold) {
      connection->hot_ = false;
      hot_[i] = nullptr;
    }
  }
  std::erase(hot_, nullptr);
  return work;
}

bool ShmDriver::Arm() {
  armed_ = true;
  return std::all_of(hot_.begin(), hot_.end(),
                     [](ShmConnection* connection) { return connection->Arm(); });
}

size_t ShmDriver::TakeEvents() {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const uint64_t id = events[static_cast<size_t>(i)].data.u64;
    if (const auto acceptor = acceptors_.find(id); acceptor != acceptors_.end()) {
      Accept(*acceptor->second);
    } else if (const auto found = connections_.find(id); found != connections_.end()) {
      Heat(found->second);
      found->second->Disarm();
      found->second->OnSocketReadable();
    }
  }
  return count > 0 ? static_cast<size_t>(count) : 0;
}

FileHandle ShmDriver::AcceptOne(int listener) {
  FileHandle socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket.get() < 0 && (errno == EMFILE || errno == ENFILE)) {
    // Who waits in the queue would keep us awake and never be served: hang up.
    spare_.Reset();
    FileHandle(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)).Reset();
    spare_ = OpenSpare();
  }
  return socket;
}

void ShmDriver::Accept(ShmAcceptor& acceptor) {
  const uint64_t id = acceptor.id_;
  for (int i = 0; i < kAcceptsATurn; ++i) {
    FileHandle socket = AcceptOne(acceptor.listener_.fd());
    if (socket.get() < 0) return;
    if (!IsTrustedPeer(socket.get())) continue;
    Result<ShmRegion::Made> made = ShmRegion::Make(options_.ring_bytes);
    if (!made.ok()) continue;  // no memory: the peer sees that we hang up
    ShmOffer offer;
    offer.ring_bytes = options_.ring_bytes;
    if (!SendDescriptor(socket.get(), std::as_bytes(std::span(&offer, 1)),
                        made.value().file.get())) {
      continue;
    }
    acceptor.events_.OnAccept(std::make_unique<ShmConnection>(*this, std::move(socket),
                                                              std::move(made.value().region)));
    if (!acceptors_.contains(id)) return;
  }
}

}  // namespace pando::rpc
