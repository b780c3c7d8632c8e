// The side of a session that asks. Holds requests back while the peer's credits are used up, ends
// them at their deadlines, and verifies what comes before anybody sees it.
#ifndef PANDO_RPC_CLIENT_SESSION_H_
#define PANDO_RPC_CLIENT_SESSION_H_

#include <array>
#include <cstdint>
#include <vector>

#include "pando/peer_layout.h"
#include "rpc/session.h"

namespace pando::rpc {

class ClientSession;

/// A request. Intrusive: lives with its owner from Submit until `done` has run, which happens exactly
/// once, and not before its memory is out of everybody's reach.
struct ClientCall {
  Op op = Op::kPing;
  uint8_t qos_class = 0;
  ChunkId chunk;
  uint32_t offset = 0;  // GET; PUT, DELETE: epoch of the map by which this peer was chosen, 0: none
  uint32_t length = 0;  // PUT: payload; GET: bytes wanted; LIST: records wanted
  /// PUT: the payload. GET, LIST, STAT: where the answer goes, page aligned, whole pages.
  std::byte* memory = nullptr;
  uint64_t deadline_at_us = 0;  // 0: none
  std::array<uint8_t, 16> trace{};

  ErrorCode status = ErrorCode::kOk;
  Reason reason = Reason::kNone;
  uint32_t out_bytes = 0;  // payload that came
  Header::Answer answer{};
  ChunkId out_chunk;  // LIST: where to go on

  void (*done)(ClientCall*) = nullptr;
  void* context = nullptr;

  /// What its answer is worth beside bytes: of a PING its time, of a LIST whether more follows, otherwise the
  /// request's id, out of which both sides make the id of its span (RPC.md, "Traces").
  [[nodiscard]] uint64_t ValueAt(uint64_t now_us) const {
    if (op == Op::kPing) return now_us - sent_us;
    return op == Op::kList ? answer.value : id;
  }

  // The session's own.
  enum class Stage : uint8_t {
    kWaiting,   // for credits
    kSent,      // given to the connection
    kTaking,    // the answer's payload is on its way to `memory`
    kAnswered,  // all is known; the connection still holds the frame
  };
  Stage stage = Stage::kWaiting;
  bool ended = false;     // by deadline or by Cancel: `status` is final
  bool sending = false;   // the connection holds the frame
  bool idle_ping = false; // the session's own sign of life
  ClientSession* owner = nullptr;
  uint32_t id = 0;
  uint32_t credit_bytes = 0;
  uint32_t payload_crc = 0;
  size_t summed_bytes = 0;  // of the answer's payload, from its begin, and
  uint32_t sum = 0;         // their CRC
  uint64_t sent_us = 0;
  uint64_t ended_us = 0;
  OutgoingFrame frame;
  ClientCall* previous = nullptr;
  ClientCall* next = nullptr;
};

class ClientSession final : public Session {
 public:
  /// `opened` runs once when the session is agreed on.
  ClientSession(SessionHost& host, SessionOptions options, PeerCounters* counters,
                void (*opened)(ClientSession*), void* context);
  ~ClientSession() override;

  /// `done` may run at once when the session is over already.
  void Submit(ClientCall* call);
  /// Ends the call as soon as its memory is free.
  void Cancel(ClientCall* call, ErrorCode code);
  /// What a request gets that comes too late.
  [[nodiscard]] ErrorCode WhyClosed() const;
  [[nodiscard]] uint32_t in_flight() const { return in_flight_; }
  [[nodiscard]] void* context() const { return context_; }

 private:
  /// A request id is (turn << 16 | entry).
  struct Entry {
    ClientCall* call = nullptr;
    uint32_t id = 0;
    uint32_t credit_bytes = 0;
    bool taken = false;  // stays taken for a call that ended before its answer came
  };

  void Opened() override;
  [[nodiscard]] Landing GotFrame(const Decoded& frame, const RemoteLanding& landing) override;
  void GotPayload(void* token) override;
  void GotPart(void* token, size_t landed) override;
  void GotGoodbye(Reason reason) override;
  void TickOpen(uint64_t now_us) override;
  void BeginLeaving() override;
  void Failed(const Error& error) override;
  [[nodiscard]] bool quiet() const override { return in_flight_ == 0 && !ping_.sending; }

  void Pump();
  void Start(ClientCall* call);
  void Release(uint32_t entry);
  /// All is known of the call; ends it when the connection has let go of its frame.
  void Answered(ClientCall* call);
  void Finish(ClientCall* call);
  // Whether an answer names the chunk, and of a get the offset, that was asked for.
  [[nodiscard]] static bool Echoes(const ClientCall& call, const Header& answer);
  [[nodiscard]] static bool Sound(const ClientCall& call);
  void EndEarly(ClientCall* call, ErrorCode code);
  void LeaveWhenAnswered();
  void SendPing();

  PeerCounters* counters_;
  void (*opened_)(ClientSession*);
  void* context_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
  uint32_t turn_ = 0;
  uint64_t free_bytes_ = 0;
  ClientCall* first_ = nullptr;  // waiting, and under way, in one list: waiting ones are at the end
  ClientCall* last_ = nullptr;
  ClientCall* next_waiting_ = nullptr;
  uint32_t in_flight_ = 0;       // calls in the list
  bool refusing_ = false;        // the peer says that it goes away, or we do
  bool peer_leaves_ = false;
  uint64_t next_deadline_us_ = UINT64_MAX;
  ClientCall ping_;
  bool ping_out_ = false;
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_CLIENT_SESSION_H_
