#ifndef PANDO_RPC_TRANSPORT_SHM_CONNECTION_H_
#define PANDO_RPC_TRANSPORT_SHM_CONNECTION_H_

#include <optional>

#include "rpc/transport/frame_queue.h"
#include "rpc/transport/shm_driver.h"
#include "rpc/transport/shm_ring.h"

namespace pando::rpc {

/// What the listening side sends with the memory file.
struct ShmOffer {
  uint32_t magic = 0x53444E50;  // "PNDS"
  uint32_t version = 1;
  uint64_t ring_bytes = 0;
};
static_assert(sizeof(ShmOffer) == 16);

/// A memory file mapped: a page with both directions' RingControl, the ring of the connecting side, the
/// ring of the listening side.
class ShmRegion {
 public:
  ShmRegion() = default;
  ShmRegion(ShmRegion&& other) noexcept;
  ShmRegion& operator=(ShmRegion&& other) noexcept;
  ~ShmRegion();

  struct Made;
  /// Sealed against shrinking: a shorter file would kill whoever reads beyond its end.
  [[nodiscard]] static Result<Made> Make(uint32_t ring_bytes);
  /// Of a peer that is not trusted. PROTOCOL_ERROR: not sealed, or not as long as told.
  [[nodiscard]] static Result<ShmRegion> Map(const FileHandle& file, uint64_t ring_bytes);

  [[nodiscard]] RingControl* control(size_t direction) const;
  [[nodiscard]] std::span<std::byte> ring(size_t direction) const;

 private:
  std::span<std::byte> memory_;
  uint64_t ring_bytes_ = 0;
};

struct ShmRegion::Made {
  ShmRegion region;
  FileHandle file;
};

class ShmConnection final : public Connection {
 public:
  /// Listening side.
  ShmConnection(ShmDriver& driver, FileHandle socket, ShmRegion region);
  /// Connecting side; an error is told after Start.
  ShmConnection(ShmDriver& driver, Result<FileHandle> socket);
  ~ShmConnection() override;

  void Start(ConnectionEvents& events) override;
  void Send(OutgoingFrame* frame) override;
  [[nodiscard]] bool Withdraw(OutgoingFrame* frame) override;
  [[nodiscard]] bool ForgetLanding(OutgoingFrame* request) override;
  [[nodiscard]] bool DropPayload(void* token) override;
  void Resume() override;
  void Close(bool flush) override;
  [[nodiscard]] Sealing sealing() const override { return Sealing::kNeedless; }
  [[nodiscard]] ConnectionStats Stats() const override { return stats_; }

 private:
  friend class ShmDriver;
  enum class State : uint8_t { kConnecting, kOpen, kFlushing, kClosing, kClosed };

  /// Returns how much was done. May destroy `this`: the caller looks at its list again.
  size_t Poll();
  /// True: nothing to do until the peer rings or its socket ends.
  [[nodiscard]] bool Arm();
  void Disarm();
  void OnSocketReadable();
  void TakeOffer();
  void OpenRings();
  size_t FinishFrames();
  size_t PumpOut();
  size_t PumpIn();
  [[nodiscard]] bool OfferHeader();
  size_t TakePayload();
  void Ring();
  void Fail(ErrorCode code, const char* what);
  void Finish();
  [[nodiscard]] bool delivers() const { return state_ == State::kOpen && !waits_for_memory_; }

  ShmDriver& driver_;
  uint64_t id_ = 0;
  FileHandle socket_;
  ShmRegion region_;
  std::optional<RingWriter> out_;
  std::optional<RingReader> in_;
  ConnectionEvents* events_ = nullptr;
  const bool listening_side_;
  State state_;
  Status why_;
  bool hot_ = false;
  uint64_t last_work_us_ = 0;
  bool peer_gone_ = false;

  FrameQueue queue_;     // not yet wholly in the ring
  FrameQueue finished_;  // whose `done` has to run

  HeaderBytes header_{};
  bool has_header_ = false;
  bool waits_for_memory_ = false;
  Landing landing_;         // of the payload under way
  bool in_payload_ = false;
  size_t payload_left_ = 0;
  ConnectionStats stats_;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_SHM_CONNECTION_H_
