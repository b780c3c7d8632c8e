#ifndef PANDO_RPC_TRANSPORT_RDMA_DRIVER_H_
#define PANDO_RPC_TRANSPORT_RDMA_DRIVER_H_

#include <rdma/rdma_cma.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "block/file_handle.h"
#include "rpc/transport/rdma.h"
#include "rpc/transport/rdma_device.h"

namespace pando::rpc {

class RdmaAcceptor;
class RdmaConnection;

class RdmaDriver final : public TransportDriver {
 public:
  [[nodiscard]] static Result<std::unique_ptr<RdmaDriver>> Open();
  ~RdmaDriver() override;

  [[nodiscard]] std::string_view name() const override { return "rdma"; }
  size_t Poll(uint64_t now_us) override;
  [[nodiscard]] bool Arm() override;
  [[nodiscard]] int event_fd() const override { return epoll_.get(); }
  [[nodiscard]] Result<std::unique_ptr<Acceptor>> Listen(const std::string& address,
                                                         AcceptEvents& events) override;
  [[nodiscard]] Result<std::unique_ptr<Connection>> Connect(const std::string& address) override;
  [[nodiscard]] Status AddMemory(std::span<std::byte> region) override;
  void RemoveMemory(std::span<std::byte> region) override;

 private:
  friend class RdmaAcceptor;
  friend class RdmaConnection;

  RdmaDriver(rdma_event_channel* channel, FileHandle epoll, FileHandle timer)
      : channel_(channel), epoll_(std::move(epoll)), timer_(std::move(timer)) {}
  [[nodiscard]] Result<std::shared_ptr<RdmaDevice>> DeviceOf(ibv_context* verbs);
  size_t TakeEvents();
  void TakeCmEvent();
  void TakeCompletionEvents(RdmaDevice& device);
  void OnConnectRequest(RdmaAcceptor& acceptor, rdma_cm_id* id, const rdma_conn_param& param,
                        std::span<const std::byte> greeting);
  void HandOver(RdmaConnection* connection);
  void EndGreetings();
  void OnTimer();
  /// Closes what librdmacm still has open of devices that were removed.
  void LetGoOfDevices();
  void SetTimer();

  /// An accepted connection whose peer has not said yet that it is there.
  struct Greeting {
    std::unique_ptr<RdmaConnection> connection;
    RdmaAcceptor* acceptor;
  };

  rdma_event_channel* channel_;
  FileHandle epoll_;
  FileHandle timer_;
  std::vector<std::span<std::byte>> regions_;
  std::map<ibv_context*, std::weak_ptr<RdmaDevice>> devices_;
  std::set<RdmaConnection*> connections_;
  std::set<RdmaAcceptor*> acceptors_;
  /// The kernel's numbers of devices that were removed and may still be open.
  std::set<int> leaving_;
  std::map<RdmaConnection*, Greeting> greetings_;
  std::vector<RdmaConnection*> turn_;
  uint64_t now_us_ = 0;
  uint64_t events_seen_us_ = 0;
  bool armed_ = false;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_RDMA_DRIVER_H_
