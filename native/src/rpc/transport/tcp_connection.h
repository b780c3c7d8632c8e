#ifndef PANDO_RPC_TRANSPORT_TCP_CONNECTION_H_
#define PANDO_RPC_TRANSPORT_TCP_CONNECTION_H_

#include <sys/uio.h>

#include <memory>

#include "block/aligned_buffer.h"
#include "rpc/seal.h"
#include "rpc/transport/tcp.h"

namespace pando::rpc {

class TcpConnection final : public Connection {
 public:
  TcpConnection(TcpDriver& driver, FileHandle socket, bool connecting);
  ~TcpConnection() override;

  void Start(ConnectionEvents& events) override;
  void Send(OutgoingFrame* frame) override;
  [[nodiscard]] bool Withdraw(OutgoingFrame* frame) override;
  /// Nothing but OnHeader's answer lets anything write to memory.
  [[nodiscard]] bool ForgetLanding(OutgoingFrame* /*request*/) override { return true; }
  [[nodiscard]] bool DropPayload(void* token) override;
  void Resume() override;
  void Close(bool flush) override;
  [[nodiscard]] ConnectionStats Stats() const override { return {bytes_sent_, bytes_received_}; }
  [[nodiscard]] Sealing sealing() const override { return Sealing::kCan; }
  void Seal(std::unique_ptr<FrameSeal> seal) override;
  [[nodiscard]] std::string PeerAddress() const override;
  [[nodiscard]] int64_t Retransmits() const override;

  // For the driver.
  void Ready(uint32_t epoll_events);
  /// Does what can be done now; returns how much that was.
  size_t Work();
  bool active = false;

 private:
  enum class Taking : uint8_t { kHeader, kPayload, kSkip, kTag, kWait, kNothing };

  void Opened();
  size_t Receive();
  [[nodiscard]] ssize_t ReadSome();
  void Consume();
  /// The next `bytes` of a payload are at `at`, as they came.
  void Landed(std::byte* at, size_t bytes);
  void PayloadCame();
  void BadSeal();
  void OfferHeader(const HeaderBytes& header);
  /// Returns how often the kernel took something.
  size_t Flush();
  [[nodiscard]] ssize_t SendParts(const iovec* parts, size_t count);
  size_t FlushPlain();
  size_t FlushSealed();
  void FrameSent(OutgoingFrame* frame);
  void Fail(Status why);
  void Finish();

  TcpDriver& driver_;
  FileHandle socket_;
  ConnectionEvents* events_ = nullptr;
  bool connecting_;
  bool readable_ = false;
  bool writable_ = false;
  bool hung_up_ = false;   // the peer sends no more: no edge will tell of what is left to read
  bool ended_ = false;     // the peer sends no more, all of it is read, and the session answers on
  bool closing_ = false;   // Close was called
  bool shut_ = false;      // our direction is shut down
  bool failed_ = false;
  bool told_ = false;
  bool resumed_ = false;
  Status why_;

  AlignedBuffer staging_;
  size_t staged_from_ = 0;
  size_t staged_to_ = 0;
  Taking taking_ = Taking::kHeader;
  HeaderBytes held_header_;  // kWait
  Landing landing_;          // kPayload, kSkip, kTag; without memory and token: dropped
  size_t landed_ = 0;

  OutgoingFrame* first_ = nullptr;
  OutgoingFrame* last_ = nullptr;
  std::unique_ptr<FrameSeal> seal_;
  const OutgoingFrame* plain_until_ = nullptr;  // given to Send before the seal: this one and those before
  AlignedBuffer sealed_;                        // on its way out, from and to
  size_t sealed_from_ = 0;
  size_t sealed_to_ = 0;
  uint64_t bytes_sent_ = 0;
  uint64_t bytes_received_ = 0;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_TCP_CONNECTION_H_
