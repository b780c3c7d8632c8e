// Frames over TCP: non-blocking sockets and an epoll set. Many frames leave in one call and come in
// one call; a long payload is received where it belongs, together with what follows it.
#ifndef PANDO_RPC_TRANSPORT_TCP_H_
#define PANDO_RPC_TRANSPORT_TCP_H_

#include <memory>
#include <string>
#include <vector>

#include "block/file_handle.h"
#include "rpc/transport.h"

namespace pando::rpc {

class TcpConnection;
class TcpAcceptor;

struct TcpOptions {
  std::string name = "tcp";
  /// Binds sockets to this interface (SO_BINDTODEVICE) when not empty.
  std::string interface;
};

class TcpDriver final : public TransportDriver {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TcpDriver>> Create(TcpOptions options = {});
  ~TcpDriver() override;

  [[nodiscard]] std::string_view name() const override { return options_.name; }
  size_t Poll(uint64_t now_us) override;
  [[nodiscard]] bool Arm() override;
  [[nodiscard]] int event_fd() const override { return epoll_.get(); }
  /// `address` is host:port or [v6]:port with a numeric host.
  [[nodiscard]] Result<std::unique_ptr<Acceptor>> Listen(const std::string& address,
                                                         AcceptEvents& events) override;
  [[nodiscard]] Result<std::unique_ptr<Connection>> Connect(const std::string& address) override;

 private:
  friend class TcpConnection;
  friend class TcpAcceptor;
  explicit TcpDriver(TcpOptions options) : options_(std::move(options)) {}
  [[nodiscard]] Status Watch(int fd, void* who, uint32_t events) const;
  /// Without a socket: nobody waits, or whoever did was hung up on; `hung_up` tells.
  [[nodiscard]] FileHandle AcceptOne(int listener, bool& hung_up);
  void Activate(TcpConnection* connection);
  void Forget(TcpConnection* connection);

  TcpOptions options_;
  FileHandle epoll_;
  /// Given up for a moment to hang up on somebody when the process has no descriptor left.
  FileHandle spare_;
  // Connections that Poll has something to do for.
  std::vector<TcpConnection*> active_;
  std::vector<TcpConnection*> polled_;
  std::vector<TcpAcceptor*> acceptors_;
  size_t connections_ = 0;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_TCP_H_
