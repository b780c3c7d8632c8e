// Shared memory between processes of one machine: two rings (shm_ring.h) in a memory file that the
// listening side makes and hands over on a unix socket. Addresses are paths of sockets.
//
// The socket stays open: its end tells that the peer is gone, however it went, and a byte on it is
// the bell for a peer that sleeps. (An eventfd would be shared by both sides with its flags: a peer
// could make our write to it block.)
#ifndef PANDO_RPC_TRANSPORT_SHM_DRIVER_H_
#define PANDO_RPC_TRANSPORT_SHM_DRIVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "block/file_handle.h"
#include "rpc/transport.h"
#include "rpc/transport/unix_socket.h"

namespace pando::rpc {

class ShmConnection;
class ShmAcceptor;

struct ShmOptions {
  /// Of each direction; a power of two, at least 4096. A connection takes twice this and a page.
  uint32_t ring_bytes = 512U << 10U;
  /// A connection over which nothing has come for this long is not looked at any more in every turn:
  /// its peer has to ring.
  uint64_t hot_us = 10'000;
};

class ShmDriver final : public TransportDriver {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ShmDriver>> Open(ShmOptions options = {});
  ~ShmDriver() override;

  [[nodiscard]] std::string_view name() const override { return "shm"; }
  size_t Poll(uint64_t now_us) override;
  [[nodiscard]] bool Arm() override;
  [[nodiscard]] int event_fd() const override { return epoll_.get(); }
  [[nodiscard]] Result<std::unique_ptr<Acceptor>> Listen(const std::string& address,
                                                         AcceptEvents& events) override;
  [[nodiscard]] Result<std::unique_ptr<Connection>> Connect(const std::string& address) override;

 private:
  friend class ShmConnection;
  friend class ShmAcceptor;

  explicit ShmDriver(ShmOptions options, FileHandle epoll, FileHandle spare)
      : options_(options), epoll_(std::move(epoll)), spare_(std::move(spare)) {}
  [[nodiscard]] uint64_t Watch(int fd);
  size_t TakeEvents();
  void Accept(ShmAcceptor& acceptor);
  [[nodiscard]] FileHandle AcceptOne(int listener);
  /// Looks at it in every turn from now on.
  void Heat(ShmConnection* connection);
  void Forget(ShmConnection* connection);

  ShmOptions options_;
  FileHandle epoll_;
  /// Given up for a moment to hang up on somebody when the process has no descriptor left.
  FileHandle spare_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, ShmConnection*> connections_;
  std::unordered_map<uint64_t, ShmAcceptor*> acceptors_;
  /// A connection that was destroyed within a turn leaves a null pointer.
  std::vector<ShmConnection*> hot_;
  uint64_t now_us_ = 0;
  uint64_t events_seen_us_ = 0;
  bool armed_ = false;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_SHM_DRIVER_H_
