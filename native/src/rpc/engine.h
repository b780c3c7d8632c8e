// The chunk RPC of one reactor: its transports, the sessions that it serves, and those through which
// ports ask other nodes. Made when a port first listens or connects.
#ifndef PANDO_RPC_ENGINE_H_
#define PANDO_RPC_ENGINE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "block/file_handle.h"
#include "pando/peer_layout.h"
#include "reactor/port.h"
#include "rpc/client_session.h"
#include "rpc/server_session.h"

namespace pando::rpc {

class Engine final : public SessionHost, public SlotOwner {
 public:
  Engine(Reactor& reactor, const std::vector<Reactor*>& reactors, LogSink log);
  ~Engine();

  /// One turn. Returns how much was done.
  size_t Poll();
  /// Sleeps until something happens on a transport or device, Wake is called, or the time is over.
  void Sleep(BlockDevice& device, uint64_t wait_us);
  /// Thread safe.
  void Wake();

  /// A request for a peer; ends in ReactorPort::Completed. REQUIRES: IsPeerOp, memory checked.
  void Execute(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port);
  /// Ends everything of the port at once.
  void PortCloses(ReactorPort& port);
  /// Something of the port is still in anybody's hands.
  [[nodiscard]] bool Uses(const ReactorPort& port) const;
  /// The port's memory goes.
  void PortGone(ReactorPort& port);

  // SessionHost
  [[nodiscard]] uint64_t now_us() const override { return now_us_; }
  void FillNonce(Nonce& nonce) override;
  [[nodiscard]] BufferPool& pool() override { return *pool_; }
  void Submit(PortSlot* slot) override { RouteToPartition(slot, reactors_); }
  [[nodiscard]] bool Admit(Session& session) override;
  void Over(Session& session) override;

  // SlotOwner
  [[nodiscard]] Reactor& home() override { return reactor_; }
  void Completed(PortSlot* slot) override;

 private:
  struct Peer;
  class Listener;
  struct Call;

  [[nodiscard]] Result<TransportDriver*> DriverOf(const PeerPage& page);
  [[nodiscard]] Status Announce(TransportDriver& driver, ReactorPort& port);
  void Connect(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port);
  void Listen(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port);
  void Ask(const PeerSqEntry& entry, PortSlot* slot, ReactorPort& port, Peer& peer);
  void Cancel(const PeerSqEntry& entry, ReactorPort& port);
  void CloseListener(Peer& peer, uint32_t grace_ms);
  [[nodiscard]] Peer& AddPeer(const PeerSqEntry& entry, ReactorPort& port);
  [[nodiscard]] Peer* Find(uint32_t handle, const ReactorPort& port);
  void PeerOver(Peer& peer);
  void Opened(Peer& peer);
  void Answer(PortSlot* slot, ReactorPort& port, ErrorCode status, uint64_t value = 0);
  void Count(Peer& peer) const;
  void Bury();
  void Tick();

  Reactor& reactor_;
  const std::vector<Reactor*>& reactors_;
  LogSink log_;
  uint64_t now_us_ = 0;
  uint64_t ticked_us_ = 0;
  uint64_t counted_us_ = 0;
  FileHandle sleep_;  // epoll over the drivers, the device and wake_
  FileHandle wake_;   // eventfd
  int device_fd_ = -1;

  Region pool_region_;
  std::unique_ptr<BufferPool> pool_;
  std::map<std::string, std::unique_ptr<TransportDriver>, std::less<>> drivers_;
  std::vector<std::pair<TransportDriver*, ReactorPort*>> announced_;

  std::map<uint32_t, std::unique_ptr<Peer>> peers_;
  uint32_t next_handle_ = 1;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Call*> free_calls_;
  std::vector<std::unique_ptr<ServerSession>> served_;
  std::vector<Session*> over_;
  bool busy_ = false;  // something has a deadline soon
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_ENGINE_H_
