#ifndef PANDO_RPC_TRANSPORT_RDMA_CONNECTION_H_
#define PANDO_RPC_TRANSPORT_RDMA_CONNECTION_H_

#include <rdma/rdma_cma.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rpc/transport/frame_queue.h"
#include "rpc/transport/rdma_device.h"

namespace pando::rpc {

class RdmaDriver;

/// In front of every message. Counts are of the whole connection, so that a message which says
/// something new says everything.
struct RdmaEnvelope {
  enum Kind : uint32_t { kControl = 0, kFrame = 1, kLongFrame = 2 };
  uint32_t kind = kControl;
  uint32_t inline_bytes = 0;   // kFrame: of payload, after the header
  uint64_t frames_taken = 0;   // frames of yours whose place has been given back
  uint64_t control_taken = 0;  // likewise, messages without a frame
  uint64_t fetched = 0;        // long payloads of yours that are not needed any more
  uint64_t address = 0;        // kLongFrame: where the payload is
  uint32_t key = 0;
  uint32_t long_bytes = 0;
  uint64_t reserved[2] = {};
};
static_assert(sizeof(RdmaEnvelope) == 64);

/// Messages with a frame that one side may have sent and the other not yet given the place of back.
inline constexpr uint32_t kRdmaFrameCredits = 64;
/// Messages without a frame have places of their own: whoever has no memory for a frame can still be
/// told that memory is free again.
inline constexpr uint32_t kRdmaControlCredits = 16;
inline constexpr uint32_t kRdmaSlots = kRdmaFrameCredits + kRdmaControlCredits;
inline constexpr size_t kRdmaPrefixBytes = sizeof(RdmaEnvelope) + kHeaderBytes;
inline constexpr size_t kRdmaSlotBytes = kRdmaPrefixBytes + kInlineBytes;
/// READs under way at a time.
inline constexpr uint32_t kRdmaMostReads = 8;

/// What both sides say when they connect; they must say the same.
struct RdmaGreeting {
  uint32_t magic = 0x52444E50;  // "PNDR"
  uint16_t version = 1;
  uint16_t frame_credits = 0;
  uint16_t control_credits = 0;
  uint16_t inline_bytes = 0;
  [[nodiscard]] static RdmaGreeting Ours();
  bool operator==(const RdmaGreeting&) const = default;
};
static_assert(sizeof(RdmaGreeting) == 12);

/// rdma_connection.cc: how it begins and ends. rdma_messages.cc: what it carries.
class RdmaConnection final : public Connection {
 public:
  /// Connecting side. Begins in Start.
  RdmaConnection(RdmaDriver& driver, const sockaddr_storage& peer);
  /// Accepting side: owns `id` from now on.
  RdmaConnection(RdmaDriver& driver, rdma_cm_id* id);
  ~RdmaConnection() override;

  void Start(ConnectionEvents& events) override;
  void Send(OutgoingFrame* frame) override;
  [[nodiscard]] bool Withdraw(OutgoingFrame* frame) override;
  [[nodiscard]] bool ForgetLanding(OutgoingFrame* request) override;
  void Resume() override { waits_for_memory_ = false; }
  void Close(bool flush) override;
  [[nodiscard]] ConnectionStats Stats() const override { return stats_; }

 private:
  friend class RdmaDriver;
  enum class State : uint8_t { kConnecting, kOpen, kFlushing, kClosing, kClosed };
  /// A long payload on its way in, or one that was skipped, in the order of their frames.
  struct Fetch {
    void* token = nullptr;
    std::span<std::byte> memory;
    bool over = false;
  };

  // For the driver.
  void OnCmEvent(rdma_cm_event_type type, int status, const rdma_conn_param& param,
                 std::span<const std::byte> greeting);
  [[nodiscard]] Status Accept(const rdma_conn_param& param, std::span<const std::byte> greeting);
  /// Returns how much was done. May destroy `this`.
  size_t Poll();
  [[nodiscard]] bool Arm();
  void OnCompletionEvent() { notified_ = false; }

  [[nodiscard]] Status OpenQueues();
  void CloseQueues();
  [[nodiscard]] bool PostReceive(uint32_t slot);
  size_t TakeCompletions();
  void OnReceived(uint32_t slot, uint32_t bytes);
  void OnFetched();
  size_t Deliver();
  [[nodiscard]] bool DeliverFrame(uint32_t slot);
  [[nodiscard]] bool BeginFetch(const RdmaEnvelope& envelope);
  void ReleaseFetched();
  size_t PumpOut();
  [[nodiscard]] bool PostFrame(OutgoingFrame* frame);
  [[nodiscard]] bool PostMessage(RdmaEnvelope envelope, const OutgoingFrame* frame);
  [[nodiscard]] bool ExposeMemory();
  [[nodiscard]] bool MustTell() const;
  size_t FinishFrames();
  void Fail(ErrorCode code, std::string what);
  void Finish();
  [[nodiscard]] bool delivers() const { return state_ == State::kOpen && !waits_for_memory_; }

  RdmaDriver& driver_;
  rdma_cm_id* id_ = nullptr;
  sockaddr_storage peer_{};
  std::shared_ptr<RdmaDevice> device_;
  ibv_cq* completions_ = nullptr;
  ConnectionEvents* events_ = nullptr;
  State state_ = State::kConnecting;
  Status why_;
  bool established_ = false;
  bool peer_gone_ = false;
  bool exposed_ = false;
  bool notified_ = false;  // completions ring the channel
  std::optional<ibv_wc> noticed_;  // taken while going to sleep, not yet handled
  uint64_t began_us_ = 0;

  std::unique_ptr<std::byte, void (*)(void*)> slots_;  // to receive, then to send
  ibv_mr* slots_mr_ = nullptr;
  uint32_t most_reads_ = 0;

  // Sending. Counts of the whole connection.
  FrameQueue queue_;     // not yet posted
  FrameQueue exposed_frames_;  // posted, the peer may still read their payloads
  FrameQueue finished_;  // whose `done` has to run
  uint64_t sends_posted_ = 0;
  uint64_t sends_over_ = 0;
  uint64_t frames_sent_ = 0;
  uint64_t control_sent_ = 0;
  uint64_t long_sent_ = 0;
  uint64_t frames_taken_by_peer_ = 0;
  uint64_t control_taken_by_peer_ = 0;
  uint64_t fetched_by_peer_ = 0;

  // Receiving.
  std::deque<uint32_t> arrived_;  // slots with a frame that was not delivered yet
  std::deque<Fetch> fetches_;
  uint32_t reads_under_way_ = 0;
  uint64_t frames_taken_ = 0, frames_taken_told_ = 0;
  uint64_t control_taken_ = 0, control_taken_told_ = 0;
  uint64_t fetched_ = 0, fetched_told_ = 0;
  bool waits_for_memory_ = false;
  ConnectionStats stats_;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_RDMA_CONNECTION_H_
