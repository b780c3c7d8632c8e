// What an engine keeps of each port's sessions, listeners and requests.
#ifndef PANDO_RPC_ENGINE_PEERS_H_
#define PANDO_RPC_ENGINE_PEERS_H_

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "rpc/engine.h"

namespace pando::rpc {

/// Greetings that a listener lets stand at a time beside its sessions.
inline constexpr size_t kMaxGreetings = 64;

/// A request of a port on its way to a peer.
struct Engine::Call {
  ClientCall call;
  Engine* engine = nullptr;
  ReactorPort* port = nullptr;
  PortSlot* slot = nullptr;  // nullptr: free
  uint32_t peer = 0;
};

/// A session or listener of a port.
struct Engine::Peer {
  Engine* engine = nullptr;
  uint32_t handle = 0;
  ReactorPort* port = nullptr;
  PeerPage* page = nullptr;
  PortSlot* opening = nullptr;
  std::vector<PortSlot*> wait_for_end;
  std::vector<PortSlot*> wait_for_close;
  std::unique_ptr<ClientSession> session;
  std::unique_ptr<Listener> listener;
  bool over = false;
  Status end;
  EndedBy by = EndedBy::kUs;
};

class Engine::Listener final : public AcceptEvents {
 public:
  Listener(Engine& engine, Peer& peer, SessionOptions options, uint32_t max_sessions)
      : engine_(engine), peer_(peer), options_(std::move(options)), max_sessions_(max_sessions) {}

  void OnAccept(std::unique_ptr<Connection> connection) override {
    if (sessions_.size() >= max_sessions_ + kMaxGreetings) return;  // hangs up
    options_.identity.map_epoch =
        std::atomic_ref<uint64_t>(peer_.page->map_epoch).load(std::memory_order_relaxed);
    auto session = std::make_unique<ServerSession>(engine_, options_, engine_);
    sessions_.push_back(session.get());
    ServerSession* raw = session.get();
    engine_.served_.push_back(std::move(session));
    raw->Begin(std::move(connection));
  }
  [[nodiscard]] bool Has(const Session& session) const {
    return std::find(sessions_.begin(), sessions_.end(), &session) != sessions_.end();
  }
  [[nodiscard]] bool Admit() {
    if (admitted_ >= max_sessions_) return false;
    ++admitted_;
    return true;
  }
  void Gone(Session& session) {
    std::erase(sessions_, &session);
    admitted_ = static_cast<uint32_t>(std::count_if(
        sessions_.begin(), sessions_.end(), [](const Session* one) { return one->open(); }));
  }
  /// Authenticated and open.
  [[nodiscard]] uint32_t admitted() const { return admitted_; }

  std::unique_ptr<Acceptor> acceptor;
  [[nodiscard]] const std::vector<Session*>& sessions() const { return sessions_; }
  bool closing = false;

 private:
  Engine& engine_;
  Peer& peer_;
  SessionOptions options_;
  uint32_t max_sessions_;
  uint32_t admitted_ = 0;
  std::vector<Session*> sessions_;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_ENGINE_PEERS_H_
