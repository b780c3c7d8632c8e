#include "rpc/transport/tcp.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "rpc/transport/tcp_connection.h"

namespace pando::rpc {
namespace {

constexpr int kBacklog = 256;
constexpr size_t kEventsAtOnce = 64;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<SocketAddress> ParseAddress(const std::string& text) {
  const Error bad{ErrorCode::kInvalidArgument,
                  "an address is host:port or [v6]:port with a numeric host, not " + text};
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return bad;
  std::string host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (port.empty() || ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return bad;
  SocketAddress address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  ::freeaddrinfo(found);
  return address;
}

std::string Format(SocketAddress& address) {
  std::array<char, NI_MAXHOST> host = {};
  std::array<char, NI_MAXSERV> port = {};
  ::getnameinfo(address.get(), address.size, host.data(), host.size(), port.data(), port.size(),
                NI_NUMERICHOST | NI_NUMERICSERV);
  const bool v6 = address.storage.ss_family == AF_INET6;
  return (v6 ? "[" + std::string(host.data()) + "]" : std::string(host.data())) + ":" + port.data();
}

Error Unreachable(std::string_view what, int error) {
  return {ErrorCode::kPeerUnreachable, std::string(what) + ": " + std::strerror(error)};
}

Result<FileHandle> OpenSocket(int family, const std::string& interface) {
  FileHandle socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return Unreachable("socket", errno);
  if (!interface.empty() &&
      ::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(),
                   static_cast<socklen_t>(interface.size())) != 0) {
    return Unreachable("bind to " + interface, errno);
  }
  return socket;
}

FileHandle OpenSpare() { return FileHandle(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

void NoDelay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

class TcpAcceptor final : public Acceptor {
 public:
  TcpAcceptor(TcpDriver& driver, FileHandle socket, std::string address, AcceptEvents& events)
      : driver_(driver), socket_(std::move(socket)), address_(std::move(address)), events_(events) {
    driver_.acceptors_.push_back(this);
  }
  ~TcpAcceptor() override { std::erase(driver_.acceptors_, this); }
  [[nodiscard]] std::string address() const override { return address_; }
  [[nodiscard]] int fd() const { return socket_.get(); }

  size_t Accept() {
    // A few at a time: those who are connected want their turn too.
    constexpr int kAtOnce = 16;
    for (int i = 0; i < kAtOnce; ++i) {
      bool hung_up = false;
      FileHandle socket = driver_.AcceptOne(socket_.get(), hung_up);
      if (hung_up) continue;
      if (socket.get() < 0) return static_cast<size_t>(i);
      NoDelay(socket.get());
      events_.OnAccept(std::make_unique<TcpConnection>(driver_, std::move(socket), false));
    }
    return kAtOnce;
  }

 private:
  TcpDriver& driver_;
  FileHandle socket_;
  std::string address_;
  AcceptEvents& events_;
};

Result<std::unique_ptr<TcpDriver>> TcpDriver::Create(TcpOptions options) {
  std::unique_ptr<TcpDriver> driver(new TcpDriver(std::move(options)));
  driver->epoll_ = FileHandle(::epoll_create1(EPOLL_CLOEXEC));
  driver->spare_ = OpenSpare();
  if (driver->epoll_.get() < 0 || driver->spare_.get() < 0) return SystemError("epoll_create1", errno);
  return driver;
}

TcpDriver::~TcpDriver() { PANDO_ASSERT(connections_ == 0 && acceptors_.empty()); }

Status TcpDriver::Watch(int fd, void* who, uint32_t events) const {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = who;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Unreachable("epoll_ctl", errno);
  }
  return {};
}

FileHandle TcpDriver::AcceptOne(int listener, bool& hung_up) {
  // Another process may have been quicker when the system as a whole had none left.
  if (spare_.get() < 0) spare_ = OpenSpare();
  FileHandle socket(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.get() < 0 && (errno == EMFILE || errno == ENFILE)) {
    // Who waits in the queue would keep us awake and never be served: hang up.
    spare_.Reset();
    FileHandle refused(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    hung_up = refused.get() >= 0;
    refused.Reset();
    spare_ = OpenSpare();
  }
  return socket;
}

void TcpDriver::Activate(TcpConnection* connection) {
  if (connection->active) return;
  connection->active = true;
  active_.push_back(connection);
}

void TcpDriver::Forget(TcpConnection* connection) {
  std::erase(active_, connection);
  std::replace(polled_.begin(), polled_.end(), connection, static_cast<TcpConnection*>(nullptr));
}

size_t TcpDriver::Poll(uint64_t /*now_us*/) {
  if (connections_ == 0 && acceptors_.empty()) return 0;
  size_t count = 0;
  std::array<epoll_event, kEventsAtOnce> events;
  const int ready = ::epoll_wait(epoll_.get(), events.data(), events.size(), 0);
  bool accepts = false;
  for (int i = 0; i < ready; ++i) {
    if (events[static_cast<size_t>(i)].data.ptr == nullptr) {
      accepts = true;
    } else {
      static_cast<TcpConnection*>(events[static_cast<size_t>(i)].data.ptr)
          ->Ready(events[static_cast<size_t>(i)].events);
    }
  }
  if (accepts) {
    const std::vector<TcpAcceptor*> acceptors = acceptors_;
    for (TcpAcceptor* acceptor : acceptors) count += acceptor->Accept();
  }
  polled_.swap(active_);
  for (TcpConnection*& connection : polled_) {
    if (connection == nullptr) continue;
    connection->active = false;
    count += connection->Work();
  }
  polled_.clear();
  return count;
}

bool TcpDriver::Arm() { return active_.empty(); }

Result<std::unique_ptr<Acceptor>> TcpDriver::Listen(const std::string& address,
                                                    AcceptEvents& events) {
  auto parsed = ParseAddress(address);
  if (!parsed.ok()) return parsed.error();
  SocketAddress bound = parsed.value();
  auto socket = OpenSocket(bound.storage.ss_family, options_.interface);
  if (!socket.ok()) return socket.error();
  const int fd = socket.value().get();
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, bound.get(), bound.size) != 0 || ::listen(fd, kBacklog) != 0) {
    return Unreachable("listen at " + address, errno);
  }
  bound.size = sizeof bound.storage;
  if (::getsockname(fd, bound.get(), &bound.size) != 0) return Unreachable("getsockname", errno);
  // Without a name: any acceptor that is ready means all of them are asked, which are few.
  const Status watched = Watch(fd, nullptr, EPOLLIN);
  if (!watched.ok()) return watched.error();
  return std::unique_ptr<Acceptor>(std::make_unique<TcpAcceptor>(
      *this, std::move(socket).value(), Format(bound), events));
}

Result<std::unique_ptr<Connection>> TcpDriver::Connect(const std::string& address) {
  auto parsed = ParseAddress(address);
  if (!parsed.ok()) return parsed.error();
  SocketAddress target = parsed.value();
  auto socket = OpenSocket(target.storage.ss_family, options_.interface);
  if (!socket.ok()) return socket.error();
  NoDelay(socket.value().get());
  // What fails at once fails like everything later: the error is asked for when the socket is ready.
  if (::connect(socket.value().get(), target.get(), target.size) != 0 && errno != EINPROGRESS) {
    return Unreachable("connect to " + address, errno);
  }
  return std::unique_ptr<Connection>(
      std::make_unique<TcpConnection>(*this, std::move(socket).value(), true));
}

}  // namespace pando::rpc
