#include "rpc/engine.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "reactor/reactor.h"
#include "rpc/drivers.h"
#include "rpc/engine_peers.h"

namespace pando::rpc {
namespace {

constexpr uint64_t kPoolBytes = 64ULL << 20U;
constexpr uint64_t kTickUs = 2000;
constexpr uint64_t kCountUs = 100'000;
/// Longest sleeps: while something has a deadline soon, and otherwise (keep-alive).
constexpr uint64_t kBusySleepUs = 5000;
constexpr uint64_t kIdleSleepUs = 100'000;
constexpr size_t kMaxPeersOfAPort = 1024;

uint64_t MonotonicUs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

template <size_t N>
std::string TextOf(const char (&field)[N]) {
  return {field, ::strnlen(field, N)};
}

template <size_t N>
void PutText(char (&field)[N], const std::string& text) {
  std::memset(field, 0, N);
  std::memcpy(field, text.data(), std::min(text.size(), N - 1));
}

SealMode SealModeOf(const PeerPage& page) {
  // A number that is not known is no reason to send anything in the clear.
  return page.seal == 0 ? SealMode::kAuto : page.seal == 2 ? SealMode::kOff : SealMode::kRequired;
}

Op OpOf(PortOp op) {
  if (op == kPeerPut) return Op::kPut;
  if (op == kPeerGet) return Op::kGet;
  if (op == kPeerHas) return Op::kHas;
  if (op == kPeerDelete) return Op::kDelete;
  if (op == kPeerList) return Op::kList;
  if (op == kPeerStat) return Op::kStat;
  if (op == kPeerNotice) return Op::kNotice;
  return Op::kPing;
}

}  // namespace

Engine::Engine(Reactor& reactor, const std::vector<Reactor*>& reactors, LogSink log)
    : reactor_(reactor), reactors_(reactors), log_(std::move(log)) {
  now_us_ = ticked_us_ = counted_us_ = MonotonicUs();
  sleep_ = FileHandle(::epoll_create1(EPOLL_CLOEXEC));
  wake_ = FileHandle(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  PANDO_ASSERT(sleep_.get() >= 0 && wake_.get() >= 0);
  epoll_event event = {};
  event.events = EPOLLIN;
  PANDO_ASSERT(::epoll_ctl(sleep_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0);
}

Engine::~Engine() {
  Bury();
  PANDO_ASSERT(peers_.empty() && served_.empty());
}

void Engine::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

void Engine::FillNonce(Nonce& nonce) {
  PANDO_ASSERT(::getrandom(nonce.data(), nonce.size(), 0) == static_cast<ssize_t>(nonce.size()));
}

// ---- Turns

size_t Engine::Poll() {
  now_us_ = MonotonicUs();
  size_t work = 0;
  for (const auto& [kind, driver] : drivers_) work += driver->Poll(now_us_);
  if (pool_ && pool_->has_waiters()) work += pool_->Serve();
  if (now_us_ - ticked_us_ >= kTickUs) Tick();
  Bury();
  return work;
}

void Engine::Tick() {
  ticked_us_ = now_us_;
  busy_ = false;
  const bool counts = now_us_ - counted_us_ >= kCountUs;
  if (counts) counted_us_ = now_us_;
  for (const auto& session : served_) {
    session->Tick();
    busy_ = busy_ || !session->open();
  }
  for (const auto& [handle, peer] : peers_) {
    if (peer->session) {
      peer->session->Tick();
      busy_ = busy_ || !peer->session->open() || peer->session->in_flight() > 0;
    }
    if (counts && peer->session) peer->page->counters.retransmits = peer->session->Retransmits();
  }
}

void Engine::Count(Peer& peer) const {
  if (peer.over) return;
  PeerCounters& counters = peer.page->counters;
  if (peer.listener) counters.sessions = peer.listener->admitted();
  if (!peer.session) return;
  const ConnectionStats stats = peer.session->ConnectionCounters();
  counters.bytes_sent = stats.bytes_sent;
  counters.bytes_received = stats.bytes_received;
}

void Engine::Sleep(BlockDevice& device, uint64_t wait_us) {
  if (device_fd_ < 0) {
    device_fd_ = device.event_fd();
    epoll_event event = {};
    event.events = EPOLLIN | (device.tells_edges() ? uint32_t{EPOLLET} : 0);
    if (device_fd_ >= 0) ::epoll_ctl(sleep_.get(), EPOLL_CTL_ADD, device_fd_, &event);
  }
  // Starts what was submitted since the last turn; nothing else would while we sleep.
  if (device.Poll(0) > 0) return;
  wait_us = std::min(wait_us, busy_ ? kBusySleepUs : kIdleSleepUs);
  for (const auto& [kind, driver] : drivers_) {
    if (!driver->Arm()) return;
    if (driver->event_fd() < 0) wait_us = std::min<uint64_t>(wait_us, 1000);
  }
  epoll_event event = {};
  ::epoll_wait(sleep_.get(), &event, 1, static_cast<int>(std::max<uint64_t>(wait_us / 1000, 1)));
  uint64_t value = 0;
  [[maybe_unused]] const ssize_t n = ::read(wake_.get(), &value, sizeof value);
}

// ---- Sessions

bool Engine::Admit(Session& session) {
  for (const auto& [handle, peer] : peers_) {
    if (peer->listener && peer->listener->Has(session)) {
      const bool admitted = !peer->listener->closing && peer->listener->Admit();
      Count(*peer);
      return admitted;
    }
  }
  return false;
}

void Engine::Over(Session& session) { over_.push_back(&session); }

void Engine::Bury() {
  while (!over_.empty()) {
    Session* session = over_.back();
    over_.pop_back();
    std::vector<Peer*> concerned;
    for (const auto& [handle, peer] : peers_) {
      if (peer->session.get() == session || (peer->listener && peer->listener->Has(*session))) {
        concerned.push_back(peer.get());
      }
    }
    for (Peer* peer : concerned) {
      if (peer->listener) {
        peer->listener->Gone(*session);
        if (session->end().code() == ErrorCode::kPeerRefused) {
          // The text first: whoever sees the number finds it.
          PutText(peer->page->message, session->end().error().message);
          ++peer->page->counters.refused;
        }
        Count(*peer);
        if (peer->listener->closing && peer->listener->sessions().empty()) PeerOver(*peer);
      } else {
        peer->end = session->end();
        peer->by = session->ended_by();
        Count(*peer);
        PeerOver(*peer);
        // PeerOver may have given the peer away together with its session.
      }
    }
    std::erase_if(served_, [session](const auto& one) { return one.get() == session; });
  }
}

void Engine::Opened(Peer& peer) {
  const Introduction& other = peer.session->peer();
  peer.page->peer_node = other.node;
  peer.page->peer_region = other.region;
  peer.page->peer_epoch = other.map_epoch;
  peer.page->capabilities = peer.session->cipher();
  peer.page->version = other.version;
  Answer(std::exchange(peer.opening, nullptr), *peer.port, ErrorCode::kOk, peer.handle);
}

void Engine::PeerOver(Peer& peer) {
  peer.over = true;
  peer.session.reset();
  peer.listener.reset();
  ReactorPort& port = *peer.port;
  const bool ours = peer.by == EndedBy::kUs;
  const ErrorCode code = ours ? ErrorCode::kOk : peer.end.code();
  if (!peer.end.ok()) PutText(peer.page->message, peer.end.error().message);
  for (PortSlot* slot : std::exchange(peer.wait_for_end, {})) {
    Answer(slot, port, code, static_cast<uint64_t>(peer.by));
  }
  const auto closers = std::exchange(peer.wait_for_close, {});
  PortSlot* opening = std::exchange(peer.opening, nullptr);
  // A session that never opened has no handle that anybody knows.
  const ErrorCode why = peer.end.ok() ? ErrorCode::kClosed : peer.end.code();
  if (opening != nullptr || !closers.empty() || port.closing()) peers_.erase(peer.handle);
  if (opening != nullptr) Answer(opening, port, why);
  for (PortSlot* slot : closers) Answer(slot, port, ErrorCode::kOk);
}

// ---- Ports

void Engine::Answer(PortSlot* slot, ReactorPort& port, ErrorCode status, uint64_t value) {
  slot->request.status = status;
  slot->request.out_value = value;
  port.Completed(slot);
}

Engine::Peer* Engine::Find(uint32_t handle, const ReactorPort& port) {
  const auto found = peers_.find(handle);
  return found == peers_.end() || found->second->port != &port ? nullptr : found->second.get();
}

Result<TransportDriver*> Engine::DriverOf(const PeerPage& page) {
  const std::string network = TextOf(page.network);
  const std::string kind = TextOf(page.kind);
  const std::string name = network.empty() ? kind : kind + '%' + network;
  const auto found = drivers_.find(name);
  if (found != drivers_.end()) return found->second.get();
  auto made = MakeDriver(kind, network);
  if (!made.ok()) return made.error();
  TransportDriver* driver = made.value().get();
  if (pool_) {
    const Status announced = driver->AddMemory(pool_->region());
    if (!announced.ok()) return announced.error();
  }
  if (driver->event_fd() >= 0) {
    epoll_event event = {};
    event.events = EPOLLIN;
    if (::epoll_ctl(sleep_.get(), EPOLL_CTL_ADD, driver->event_fd(), &event) != 0) {
      return SystemError("epoll_ctl", errno);
    }
  }
  drivers_.emplace(name, std::move(made).value());
  return driver;
}

Status Engine::Announce(TransportDriver& driver, ReactorPort& port) {
  const auto pair = std::make_pair(&driver, &port);
  if (std::find(announced_.begin(), announced_.end(), pair) != announced_.end()) return {};
  const Status status = driver.AddMemory(port.slab());
  if (status.ok()) announced_.push_back(pair);
  return status;
}

Engine::Peer& Engine::AddPeer(const PeerSqEntry& entry, ReactorPort& port) {
  auto peer = std::make_unique<Peer>();
  peer->engine = this;
  peer->handle = next_handle_++;
  peer->port = &port;
  peer->page = reinterpret_cast<PeerPage*>(port.slab().data() + entry.slab_offset);
  peer->page->counters = {};
  peer->page->counters.retransmits = -1;
  return *peers_.emplace(peer->handle, std::move(peer)).first->second;
}

void Engine::Execute(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port) {
  now_us_ = MonotonicUs();
  const auto op = static_cast<PortOp>(entry.op);
  if (op == kPeerConnect) return Connect(entry, slot, port);
  if (op == kPeerListen) return Listen(entry, slot, port);
  if (op == kPeerCancel) {
    Cancel(entry, port);
    return Answer(slot, port, ErrorCode::kOk);
  }
  Peer* peer = Find(entry.peer, port);
  if (peer == nullptr) {
    return Answer(slot, port, op == kPeerClose ? ErrorCode::kOk : ErrorCode::kClosed);
  }
  if (op == kPeerEnded) {
    if (!peer->over) return peer->wait_for_end.push_back(slot);
    const ErrorCode code = peer->by == EndedBy::kUs ? ErrorCode::kOk : peer->end.code();
    return Answer(slot, port, code, static_cast<uint64_t>(peer->by));
  }
  if (op == kPeerClose) {
    if (peer->over) {
      peers_.erase(peer->handle);
      return Answer(slot, port, ErrorCode::kOk);
    }
    peer->wait_for_close.push_back(slot);
    if (peer->listener) return CloseListener(*peer, entry.length);
    return peer->session->Leave(entry.length);
  }
  Ask(entry, slot, port, *peer);
}

void Engine::Connect(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port) {
  Peer& peer = AddPeer(entry, port);
  PeerPage& page = *peer.page;
  SessionOptions options;
  options.identity = {page.node, page.region, page.map_epoch, RegionKey(page.region_key)};
  Wipe(page.region_key);
  options.keep_alive_ms = std::max(page.keep_alive_ms, 1U);
  options.greeting_ms = page.timeout_ms;
  options.seal = SealModeOf(page);
  options.expects_node = page.expects_node != 0;
  options.expected_node = page.expected_node;
  const auto fail = [&](const Error& error) {
    PutText(page.message, error.message);
    peers_.erase(peer.handle);
    Answer(slot, port, error.code);
  };
  if (peers_.size() > kMaxPeersOfAPort) {
    return fail({ErrorCode::kOverloaded, "too many sessions are open"});
  }
  const auto driver = DriverOf(page);
  if (!driver.ok()) return fail(driver.error());
  const Status announced = Announce(*driver.value(), port);
  if (!announced.ok()) return fail(announced.error());
  auto connection = driver.value()->Connect(TextOf(page.address));
  if (!connection.ok()) return fail(connection.error());
  peer.opening = slot;
  peer.session = std::make_unique<ClientSession>(
      *this, std::move(options), &page.counters,
      [](ClientSession* session) {
        auto* opened = static_cast<Peer*>(session->context());
        opened->engine->Opened(*opened);
      },
      &peer);
  peer.session->Begin(std::move(connection).value());
}

void Engine::Listen(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port) {
  Peer& peer = AddPeer(entry, port);
  PeerPage& page = *peer.page;
  SessionOptions options;
  options.identity = {page.node, page.region, page.map_epoch, RegionKey(page.region_key)};
  Wipe(page.region_key);
  options.greeting_ms = page.timeout_ms;
  options.seal = SealModeOf(page);
  options.request_credits = std::clamp(page.request_credits, 1U, 4096U);
  options.byte_credits = std::clamp(page.byte_credits, kMaxChunkBytes, 1U << 30U);
  options.board = &page.board;
  const auto fail = [&](const Error& error) {
    PutText(page.message, error.message);
    peers_.erase(peer.handle);
    Answer(slot, port, error.code);
  };
  Status mapped = options.moved.Map(page, port.slab());
  if (mapped.ok()) mapped = options.served.Map(page, port.slab());
  if (!mapped.ok()) return fail(mapped.error());
  if (!pool_) {
    if (!pool_region_.Map(kPoolBytes)) {
      return fail({ErrorCode::kInsufficientStorage, "no memory for the buffers of sessions"});
    }
    pool_ = std::make_unique<BufferPool>(pool_region_.span());
    for (const auto& [kind, driver] : drivers_) {
      const Status announced = driver->AddMemory(pool_->region());
      if (!announced.ok()) return fail(announced.error());
    }
  }
  const auto driver = DriverOf(page);
  if (!driver.ok()) return fail(driver.error());
  peer.listener = std::make_unique<Listener>(*this, peer, std::move(options), page.max_sessions);
  auto acceptor = driver.value()->Listen(TextOf(page.address), *peer.listener);
  if (!acceptor.ok()) return fail(acceptor.error());
  peer.listener->acceptor = std::move(acceptor).value();
  PutText(page.address, peer.listener->acceptor->address());
  Answer(slot, port, ErrorCode::kOk, peer.handle);
}

void Engine::CloseListener(Peer& peer, uint32_t grace_ms) {
  Listener& listener = *peer.listener;
  listener.closing = true;
  listener.acceptor.reset();
  const std::vector<Session*> sessions = listener.sessions();
  for (Session* session : sessions) session->Leave(grace_ms);
  if (sessions.empty()) PeerOver(peer);
}

void Engine::Ask(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port, Peer& peer) {
  if (!peer.session) {
    if (peer.by == EndedBy::kUs) return Answer(slot, port, ErrorCode::kClosed);
    return Answer(slot, port, peer.end.ok() ? ErrorCode::kPeerUnreachable : peer.end.code());
  }
  if (free_calls_.empty()) {
    calls_.push_back(std::make_unique<Call>());
    free_calls_.push_back(calls_.back().get());
  }
  Call* call = free_calls_.back();
  free_calls_.pop_back();
  call->engine = this;
  call->port = &port;
  call->slot = slot;
  call->peer = peer.handle;
  ClientCall& out = call->call;
  out.op = OpOf(static_cast<PortOp>(entry.op));
  out.qos_class = entry.qos_class;
  out.chunk = entry.id;
  const bool has_length = out.op == Op::kPut || out.op == Op::kGet || out.op == Op::kList;
  out.length = has_length ? entry.length : 0;
  out.offset = entry.chunk_offset;
  out.memory = port.slab().data() + entry.slab_offset;
  out.deadline_at_us = entry.deadline_us == 0 ? 0 : now_us_ + entry.deadline_us;
  out.trace = entry.trace;
  out.context = call;
  out.answer = {};
  out.out_chunk = entry.id;
  out.done = [](ClientCall* finished) {
    auto* done = static_cast<Call*>(finished->context);
    StoreRequest& request = done->slot->request;
    request.out_length = finished->out_bytes;
    if (finished->op == Op::kList) {
      request.out_length /= static_cast<uint32_t>(sizeof(ListRecord));
    }
    request.out_crc = finished->answer.chunk_crc;
    request.out_chunk_length = finished->answer.chunk_length;
    request.out_id = finished->out_chunk;
    PortSlot* completed = std::exchange(done->slot, nullptr);
    Engine* engine = done->engine;
    engine->free_calls_.push_back(done);
    if (Peer* asked = engine->Find(done->peer, *done->port)) engine->Count(*asked);
    const uint64_t value = finished->ValueAt(engine->now_us_);
    engine->Answer(completed, *done->port, finished->status, value);
  };
  peer.session->Submit(&out);
}

void Engine::Cancel(const PeerSqEntry& entry, ReactorPort& port) {
  uint64_t token = 0;
  std::memcpy(&token, entry.id.bytes.data(), sizeof token);
  for (const auto& call : calls_) {
    if (call->slot == nullptr || call->port != &port || call->slot->token != token) continue;
    if (call->call.owner != nullptr) call->call.owner->Cancel(&call->call, ErrorCode::kCancelled);
    return;
  }
}

void Engine::PortCloses(ReactorPort& port) {
  std::vector<uint32_t> handles;
  for (const auto& [handle, peer] : peers_) {
    if (peer->port == &port) handles.push_back(handle);
  }
  for (const uint32_t handle : handles) {
    Peer& peer = *peers_.at(handle);
    if (peer.session) {
      peer.session->Abort(ErrorCode::kClosed, "the port was closed");
    } else if (peer.listener) {
      peer.listener->closing = true;
      peer.listener->acceptor.reset();
      for (Session* session : peer.listener->sessions()) {
        session->Abort(ErrorCode::kClosed, "the listener was closed");
      }
      if (peer.listener->sessions().empty()) PeerOver(peer);
    } else {
      peers_.erase(handle);
    }
  }
}

bool Engine::Uses(const ReactorPort& port) const {
  return std::any_of(peers_.begin(), peers_.end(),
                     [&port](const auto& entry) { return entry.second->port == &port; });
}

void Engine::PortGone(ReactorPort& port) {
  std::erase_if(announced_, [&port](const auto& pair) {
    if (pair.second != &port) return false;
    pair.first->RemoveMemory(port.slab());
    return true;
  });
}

void Engine::Completed(PortSlot* slot) {
  if (slot->parent != nullptr) {
    PortSlot* parent = slot->parent;
    if (!JoinPart(slot)) return;
    slot = parent;
  }
  now_us_ = MonotonicUs();
  ServerSession::Completed(slot);
}

}  // namespace pando::rpc
