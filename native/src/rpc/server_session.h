// The side of a session that answers: requests to the store, answers from it. Payloads go between
// connection and store through buffers of the host's pool and are never copied here.
#ifndef PANDO_RPC_SERVER_SESSION_H_
#define PANDO_RPC_SERVER_SESSION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "reactor/port_slot.h"
#include "rpc/session.h"

namespace pando::rpc {

class ServerSession final : public Session {
 public:
  ServerSession(SessionHost& host, SessionOptions options, SlotOwner& owner);
  ~ServerSession() override;

  /// The store has answered. Called by the slot's owner.
  static void Completed(PortSlot* slot);

  [[nodiscard]] uint64_t answered() const { return answered_; }
  [[nodiscard]] uint32_t unanswered() const { return unanswered_; }

 private:
  struct Call {
    PortSlot slot;
    ServerSession* session = nullptr;
    Header request;
    std::byte* memory = nullptr;  // of the pool
    OutgoingFrame answer;
    BufferWaiter waiter;
    uint64_t received_us = 0;
    uint32_t credit_bytes = 0;
    bool receiving = false;  // its payload is on its way
  };

  void Opened() override {}
  [[nodiscard]] Landing GotFrame(const Decoded& frame, const RemoteLanding& landing) override;
  void GotPayload(void* token) override;
  void GotGoodbye(Reason reason) override;
  [[nodiscard]] bool PeerEnded() override;
  void TickOpen(uint64_t now_us) override;
  void BeginLeaving() override;
  void Failed(const Error& error) override;
  [[nodiscard]] bool quiet() const override { return in_hand_ == 0; }

  [[nodiscard]] Call* TakeCall(const Header& header, const RemoteLanding& landing);
  [[nodiscard]] bool IsUnanswered(uint32_t id) const;
  void Start(Call* call);
  void Execute(Call* call);
  void AnswerNotice(Call* call);
  void Answer(Call* call, ErrorCode status, Reason reason, uint32_t payload_bytes,
              uint32_t payload_crc);
  void AnswerFromStore(Call* call);
  /// A request with a trace id is answered: for the spans of this node.
  void Tell(const Call& call, const Header& answer);
  void Drop(Call* call);

  SlotOwner& owner_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Call*> free_;
  std::vector<uint32_t> ids_;     // unanswered
  uint32_t unanswered_ = 0;
  uint64_t unanswered_bytes_ = 0;
  uint32_t in_hand_ = 0;          // calls that are not in free_
  bool paused_ = false;           // kWait was said because of what is not sent yet
  bool peer_ended_ = false;       // ends with the last answer

  // A PUT that waits for memory: its header has been seen, its call not made.
  BufferWaiter put_waiter_;
  std::byte* put_memory_ = nullptr;
  uint64_t answered_ = 0;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_SERVER_SESSION_H_
