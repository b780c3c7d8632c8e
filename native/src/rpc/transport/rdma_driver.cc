#include "rpc/transport/rdma_driver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <span>

#include "rpc/transport/rdma_connection.h"

namespace pando::rpc {
namespace {

constexpr uint64_t kEventsEveryUs = 50;
constexpr int kCmEventsATurn = 32;
constexpr size_t kMostGreetings = 256;
constexpr uint64_t kGreetingUs = 5'000'000;
constexpr int kBacklog = 128;
constexpr uint64_t kCmTag = 1;
constexpr uint64_t kTimerTag = 2;

/// `a.b.c.d:port` or `[v6]:port`. Numbers only: a name would have to be asked for, which blocks.
Result<sockaddr_storage> ParseAddress(const std::string& text) {
  const Error wrong{ErrorCode::kInvalidArgument, "not an address and a port: " + text};
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return wrong;
  std::string host = text.substr(0, colon);
  uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return wrong;
  sockaddr_storage storage{};
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    host = host.substr(1, host.size() - 2);
    if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) != 1) return wrong;
    return storage;
  }
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) != 1) return wrong;
  return storage;
}

Status Watch(int epoll, int fd, uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) return SystemError("epoll_ctl", errno);
  return {};
}

}  // namespace

class RdmaAcceptor final : public Acceptor {
 public:
  RdmaAcceptor(RdmaDriver& driver, const sockaddr_storage& where, std::string host,
               AcceptEvents& events)
      : driver_(driver), where_(where), host_(std::move(host)), events_(events) {
    driver_.acceptors_.insert(this);
  }
  ~RdmaAcceptor() override {
    std::erase_if(driver_.greetings_,
                  [this](const auto& one) { return one.second.acceptor == this; });
    driver_.acceptors_.erase(this);
    Unbind();
  }
  [[nodiscard]] std::string address() const override { return host_ + std::to_string(port_); }

  [[nodiscard]] Status Bind() {
    if (::rdma_create_id(driver_.channel_, &id_, this, RDMA_PS_TCP) != 0) {
      id_ = nullptr;
      return Unreachable("rdma_create_id");
    }
    if (::rdma_bind_addr(id_, reinterpret_cast<sockaddr*>(&where_)) != 0 ||
        ::rdma_listen(id_, kBacklog) != 0) {
      const Status failed = Unreachable("no RDMA device has this address, or it is in use");
      Unbind();
      return failed;
    }
    port_ = ntohs(::rdma_get_src_port(id_));
    // The same port again, should the device go and come back.
    (where_.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&where_)->sin_port
                                 : reinterpret_cast<sockaddr_in6*>(&where_)->sin6_port) =
        htons(port_);
    return {};
  }
  void Unbind() {
    if (id_ != nullptr) ::rdma_destroy_id(id_);
    id_ = nullptr;
  }
  [[nodiscard]] bool is_bound() const { return id_ != nullptr; }
  [[nodiscard]] AcceptEvents& events() { return events_; }

 private:
  [[nodiscard]] Status Unreachable(const char* what) const {
    return {ErrorCode::kPeerUnreachable, host_ + ": " + what + ": " + std::strerror(errno)};
  }
  RdmaDriver& driver_;
  sockaddr_storage where_;
  std::string host_;  // with the colon
  AcceptEvents& events_;
  rdma_cm_id* id_ = nullptr;
  uint16_t port_ = 0;
};

Result<std::unique_ptr<TransportDriver>> OpenRdmaDriver() {
  Result<std::unique_ptr<RdmaDriver>> driver = RdmaDriver::Open();
  if (!driver.ok()) return driver.error();
  return std::unique_ptr<TransportDriver>(std::move(driver).value());
}

bool HasRdma() { return true; }

Result<std::unique_ptr<RdmaDriver>> RdmaDriver::Open() {
  rdma_event_channel* const channel = ::rdma_create_event_channel();
  if (channel == nullptr) {
    return {ErrorCode::kPeerUnreachable,
            std::string("the kernel's RDMA connection manager is not there (modprobe rdma_ucm): ") +
                std::strerror(errno)};
  }
  std::unique_ptr<RdmaDriver> driver(
      new RdmaDriver(channel, FileHandle(::epoll_create1(EPOLL_CLOEXEC)),
                     FileHandle(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC))));
  if (::fcntl(channel->fd, F_SETFL, O_NONBLOCK) != 0) return SystemError("fcntl", errno);
  for (const Status& watched : {Watch(driver->epoll_.get(), channel->fd, kCmTag),
                                Watch(driver->epoll_.get(), driver->timer_.get(), kTimerTag)}) {
    if (!watched.ok()) return watched.error();
  }
  return driver;
}

RdmaDriver::~RdmaDriver() {
  greetings_.clear();
  PANDO_ASSERT(connections_.empty() && acceptors_.empty());
  ::rdma_destroy_event_channel(channel_);
}

Result<std::unique_ptr<Acceptor>> RdmaDriver::Listen(const std::string& address,
                                                     AcceptEvents& events) {
  Result<sockaddr_storage> where = ParseAddress(address);
  if (!where.ok()) return where.error();
  auto acceptor = std::make_unique<RdmaAcceptor>(
      *this, where.value(), address.substr(0, address.rfind(':') + 1), events);
  const Status bound = acceptor->Bind();
  if (!bound.ok()) return bound.error();
  return std::unique_ptr<Acceptor>(std::move(acceptor));
}

Result<std::unique_ptr<Connection>> RdmaDriver::Connect(const std::string& address) {
  Result<sockaddr_storage> where = ParseAddress(address);
  if (!where.ok()) return where.error();
  return std::unique_ptr<Connection>(std::make_unique<RdmaConnection>(*this, where.value()));
}

Result<std::shared_ptr<RdmaDevice>> RdmaDriver::DeviceOf(ibv_context* verbs) {
  std::erase_if(devices_, [](const auto& one) { return one.second.expired(); });
  if (const auto found = devices_.find(verbs); found != devices_.end()) return found->second.lock();
  Result<std::shared_ptr<RdmaDevice>> device = RdmaDevice::Open(verbs, regions_);
  if (!device.ok()) return device.error();
  const Status watched = Watch(epoll_.get(), device.value()->channel()->fd,
                               static_cast<uint64_t>(reinterpret_cast<uintptr_t>(verbs)));
  if (!watched.ok()) return watched.error();
  devices_.emplace(verbs, device.value());
  return device;
}

Status RdmaDriver::AddMemory(std::span<std::byte> region) {
  for (const auto& one : devices_) {
    const std::shared_ptr<RdmaDevice> device = one.second.lock();
    if (device == nullptr) continue;
    const Status registered = device->Register(region);
    if (!registered.ok()) return registered;
  }
  regions_.push_back(region);
  return {};
}

void RdmaDriver::RemoveMemory(std::span<std::byte> region) {
  std::erase_if(regions_, [&](std::span<std::byte> one) { return one.data() == region.data(); });
  for (const auto& one : devices_) {
    if (const std::shared_ptr<RdmaDevice> device = one.second.lock()) device->Unregister(region);
  }
}

size_t RdmaDriver::Poll(uint64_t now_us) {
  now_us_ = now_us;
  size_t work = 0;
  if (armed_ || now_us - events_seen_us_ >= kEventsEveryUs) {
    armed_ = false;
    events_seen_us_ = now_us;
    work += TakeEvents();
    EndGreetings();
  }
  // What is called here may make connections and destroy them.
  turn_.assign(connections_.begin(), connections_.end());
  for (RdmaConnection* const connection : turn_) {
    if (connections_.contains(connection)) work += connection->Poll();
  }
  return work;
}

bool RdmaDriver::Arm() {
  armed_ = true;
  return std::all_of(connections_.begin(), connections_.end(),
                     [](RdmaConnection* connection) { return connection->Arm(); });
}

size_t RdmaDriver::TakeEvents() {
  std::array<epoll_event, 16> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const uint64_t tag = events[static_cast<size_t>(i)].data.u64;
    if (tag == kCmTag) {
      for (int n = 0; n < kCmEventsATurn; ++n) TakeCmEvent();
    } else if (tag == kTimerTag) {
      OnTimer();
    } else {
      const auto found = devices_.find(reinterpret_cast<ibv_context*>(static_cast<uintptr_t>(tag)));
      const auto device = found != devices_.end() ? found->second.lock() : nullptr;
      if (device != nullptr) TakeCompletionEvents(*device);
    }
  }
  return count > 0 ? static_cast<size_t>(count) : 0;
}

void RdmaDriver::TakeCompletionEvents(RdmaDevice& device) {
  ibv_cq* completions = nullptr;
  void* connection = nullptr;
  while (::ibv_get_cq_event(device.channel(), &completions, &connection) == 0) {
    // Acknowledged at once, so that destroying a queue never waits for us.
    ::ibv_ack_cq_events(completions, 1);
    static_cast<RdmaConnection*>(connection)->OnCompletionEvent();
  }
}

void RdmaDriver::TakeCmEvent() {
  rdma_cm_event* event = nullptr;
  if (::rdma_get_cm_event(channel_, &event) != 0) return;
  // Copied and acknowledged at once, so that destroying an id never waits for us.
  const rdma_cm_event_type type = event->event;
  const int status = event->status;
  rdma_cm_id* const id = event->id;
  const ibv_context* const device = id->verbs;
  const bool for_listener = event->listen_id != nullptr && type == RDMA_CM_EVENT_CONNECT_REQUEST;
  void* const context = for_listener ? event->listen_id->context : id->context;
  rdma_conn_param param = event->param.conn;
  std::array<std::byte, sizeof(RdmaGreeting)> greeting{};
  const size_t length = std::min<size_t>(greeting.size(), param.private_data_len);
  const bool has_data = type == RDMA_CM_EVENT_CONNECT_REQUEST || type == RDMA_CM_EVENT_ESTABLISHED;
  if (has_data && param.private_data != nullptr) {
    std::memcpy(greeting.data(), param.private_data, length);
  }
  ::rdma_ack_cm_event(event);
  if (type == RDMA_CM_EVENT_DEVICE_REMOVAL && device != nullptr) {
    leaving_.insert(::ibv_get_device_index(device->device));
    SetTimer();
  }

  auto* const acceptor = static_cast<RdmaAcceptor*>(context);
  auto* const connection = static_cast<RdmaConnection*>(context);
  if (for_listener) {
    OnConnectRequest(*acceptor, id, param, greeting);
  } else if (acceptors_.contains(acceptor)) {
    if (type == RDMA_CM_EVENT_DEVICE_REMOVAL) acceptor->Unbind();
  } else if (connections_.contains(connection)) {
    connection->OnCmEvent(type, status, param, greeting);
    if (greetings_.contains(connection)) HandOver(connection);
  }
}

void RdmaDriver::OnConnectRequest(RdmaAcceptor& acceptor, rdma_cm_id* id,
                                  const rdma_conn_param& param,
                                  std::span<const std::byte> greeting) {
  auto connection = std::make_unique<RdmaConnection>(*this, id);
  if (greetings_.size() >= kMostGreetings || !connection->Accept(param, greeting).ok()) {
    ::rdma_reject(id, nullptr, 0);
    return;  // the connection destroys the id
  }
  RdmaConnection* const key = connection.get();
  greetings_.emplace(key, Greeting{std::move(connection), &acceptor});
}

void RdmaDriver::HandOver(RdmaConnection* connection) {
  if (connection->state_ == RdmaConnection::State::kConnecting) return;
  const auto found = greetings_.find(connection);
  Greeting greeting = std::move(found->second);
  greetings_.erase(found);
  if (connection->state_ == RdmaConnection::State::kOpen) {
    greeting.acceptor->events().OnAccept(std::move(greeting.connection));
  }
}

void RdmaDriver::EndGreetings() {
  std::erase_if(greetings_, [this](const auto& one) {
    return now_us_ - one.first->began_us_ > kGreetingUs;
  });
}

void RdmaDriver::SetTimer() {
  itimerspec soon{};
  soon.it_value.tv_nsec = 200'000'000;
  ::timerfd_settime(timer_.get(), 0, &soon, nullptr);
}

void RdmaDriver::OnTimer() {
  uint64_t expired = 0;
  static_cast<void>(::read(timer_.get(), &expired, sizeof(expired)));
  LetGoOfDevices();
  for (RdmaAcceptor* const acceptor : acceptors_) {
    // The device that has this address is not back yet.
    if (!acceptor->is_bound() && !acceptor->Bind().ok()) SetTimer();
  }
}

void RdmaDriver::LetGoOfDevices() {
  if (leaving_.empty()) return;
  // librdmacm keeps a device open when nothing uses it any more, and looks at what there is only when it
  // is asked for the list. Drivers of hardware let a device go all the same; Soft-RoCE (Linux 6.1) waits
  // until nobody has it open, and cannot be added again under its name before that.
  int count = 0;
  ibv_context** const devices = ::rdma_get_devices(&count);
  // Without any device it does not look; the next one that comes lets go of this one.
  if (devices == nullptr) return SetTimer();
  const std::span<ibv_context*> there(devices, static_cast<size_t>(count));
  std::erase_if(leaving_, [there](int index) {
    return std::none_of(there.begin(), there.end(), [index](const ibv_context* one) {
      return ::ibv_get_device_index(one->device) == index;
    });
  });
  ::rdma_free_devices(devices);
  if (!leaving_.empty()) SetTimer();
}

}  // namespace pando::rpc
