// What carries frames between two nodes. A transport knows connections, headers of 64 bytes and
// payloads; it knows nothing of ops, credits or proofs, which are the session's (RPC.md).
//
// Everything here belongs to one reactor and is called on its thread only. A transport calls back
// (ConnectionEvents, AcceptEvents, OutgoingFrame::done) from TransportDriver::Poll and from nowhere
// else, so a session may call any method of a Connection from within any callback.
#ifndef PANDO_RPC_TRANSPORT_H_
#define PANDO_RPC_TRANSPORT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pando/result.h"
#include "rpc/frame.h"

namespace pando::rpc {

/// Payloads up to this size may lie in any memory and are copied; longer ones, and landings, lie in
/// regions that were announced by AddMemory.
inline constexpr uint32_t kInlineBytes = 4096;

/// Memory of the peer in which the answer to a request may be put, in the transport's own terms.
/// Comes with the request, goes back with the answer. All zero: none.
struct RemoteLanding {
  std::array<uint64_t, 3> words{};
};

/// A frame on its way out. Lives in its owner's structure from Send until `done` has run; a request
/// with a landing lives until its answer has come, ForgetLanding has said true, or the connection
/// has closed.
struct OutgoingFrame {
  HeaderBytes header;
  std::span<const std::byte> payload;
  /// Requests that are answered with a payload: where it is wanted. Transports without remote
  /// placement ignore it (OnHeader tells them later).
  std::span<std::byte> landing;
  /// Answers: what came with the request.
  RemoteLanding remote_landing;
  /// Header and payload are not needed any more: they were sent, or never will be. Once.
  void (*done)(OutgoingFrame*) = nullptr;
  void* context = nullptr;

  // The transport's own, while it holds the frame.
  OutgoingFrame* next = nullptr;
  uint64_t moved = 0;
};

/// What a session says to a header.
struct Landing {
  enum class Verdict : uint8_t {
    kTake,  // bring `bytes` of payload to `memory`, then call OnPayload(token); 0 bytes: no call
    kSkip,  // drop `bytes` of payload
    kWait,  // no memory now: deliver nothing more until Resume, then this header again
    kStop,  // the session has closed the connection; deliver nothing more
  };
  Verdict verdict = Verdict::kStop;
  uint32_t bytes = 0;
  /// At least `bytes` long, page aligned; its last page is wholly the session's.
  std::span<std::byte> memory;
  void* token = nullptr;
};

class ConnectionEvents {
 public:
  /// The connection is made; Send may be called from now on. Not for accepted connections, which
  /// are made when they are handed over.
  virtual void OnOpen() = 0;
  /// Headers come in the order in which the peer sent them, byte for byte as it sent them. A
  /// transport may bring several payloads at a time (remote placement); a byte stream cannot.
  [[nodiscard]] virtual Landing OnHeader(const HeaderBytes& header,
                                         const RemoteLanding& landing) = 0;
  /// `token` is null for a payload that was dropped on its way (Connection::DropPayload).
  virtual void OnPayload(void* token) = 0;
  /// What came is not what the peer sealed: changed, cut, repeated or out of order. Nothing more is delivered.
  virtual void OnBadSeal() = 0;
  /// Bytes of a frame have come that is not whole yet: a sign of life. The first `landed` bytes of the
  /// payload of `token` lie where they belong and stay as they are; 0: it is a header, or skipped, or
  /// the transport does not tell.
  virtual void OnProgress(void* token, size_t landed) = 0;
  /// The peer has ended its direction between two frames and may still listen. True: nothing will come
  /// any more, and the connection stays until Close. False: it ends now. Transports that have one end
  /// only for both directions do not ask.
  [[nodiscard]] virtual bool OnPeerEnded() { return false; }
  /// The last call. Every frame's `done` has run before; no landing is written to any more, whatever
  /// the peer or a device does (research B15). The error tells why; kOk: the peer closed between two
  /// frames, or we did.
  virtual void OnClosed(const Status& why) = 0;

 protected:
  ~ConnectionEvents() = default;
};

/// What a transport has against those who listen in.
enum class Sealing : uint8_t {
  kCannot,    // the bytes are there for whoever is on the way
  kCan,       // Connection::Seal
  kNeedless,  // they do not leave the machine
};

struct FrameSeal;

struct ConnectionStats {
  uint64_t bytes_sent = 0;  // headers and payloads
  uint64_t bytes_received = 0;
};

class Connection {
 public:
  /// REQUIRES: OnClosed has run, or Start was never called.
  virtual ~Connection() = default;

  /// Names who is told. Exactly once, before anything else.
  virtual void Start(ConnectionEvents& events) = 0;
  /// In order. REQUIRES: open, Close was not called.
  virtual void Send(OutgoingFrame* frame) = 0;
  /// Takes back a frame of which nothing was sent yet. True: `done` does not run.
  [[nodiscard]] virtual bool Withdraw(OutgoingFrame* frame) = 0;
  /// The answer to this request is not wanted any more. True: nothing writes to its landing from now
  /// on (an answer that comes is still offered to OnHeader). False: not before the answer or the end.
  [[nodiscard]] virtual bool ForgetLanding(OutgoingFrame* request) = 0;
  /// The payload that is on its way to this token's memory is not wanted any more. True: nothing writes to
  /// that memory from now on; what is left of the payload is dropped, and OnPayload is told of its end
  /// without a token. False: not before OnPayload or the end, as where a device writes by itself.
  [[nodiscard]] virtual bool DropPayload(void* /*token*/) { return false; }
  /// After a verdict of kWait.
  virtual void Resume() = 0;
  /// Ends the connection: after what was given to Send has gone out (as long as the peer takes it), or
  /// at once. Nothing is delivered any more but `done` and OnClosed. A second call may hurry the first.
  virtual void Close(bool flush) = 0;
  /// Cheap: asked for with every answer.
  [[nodiscard]] virtual ConnectionStats Stats() const = 0;
  [[nodiscard]] virtual Sealing sealing() const { return Sealing::kCannot; }
  /// From the next header that comes, and the next frame given to Send, everything is sealed. REQUIRES: kCan,
  /// called once.
  virtual void Seal(std::unique_ptr<FrameSeal> /*seal*/) {}
  /// Of the other end, for people; empty where there is none. Asked for before the connection ends.
  [[nodiscard]] virtual std::string PeerAddress() const { return {}; }
  /// May cost a system call: asked for ten times a second. -1: not known.
  [[nodiscard]] virtual int64_t Retransmits() const { return -1; }
};

class AcceptEvents {
 public:
  /// A peer has connected. Start it, or destroy it to hang up.
  virtual void OnAccept(std::unique_ptr<Connection> connection) = 0;

 protected:
  ~AcceptEvents() = default;
};

/// Destroying it ends listening; accepted connections go on.
class Acceptor {
 public:
  virtual ~Acceptor() = default;
  /// As bound, in the syntax that Connect takes.
  [[nodiscard]] virtual std::string address() const = 0;
};

/// One transport on one reactor.
class TransportDriver {
 public:
  /// REQUIRES: its connections and acceptors are destroyed.
  virtual ~TransportDriver() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Does what there is to do, delivers events, never blocks. Returns how much it did: the reactor
  /// turns again at once while that is not 0. Called in every turn, so it must cost next to nothing
  /// when nothing happens.
  virtual size_t Poll(uint64_t now_us) = 0;
  /// The reactor is about to sleep. True: from now on event_fd() is readable as soon as Poll has
  /// something to do. False: it has already.
  [[nodiscard]] virtual bool Arm() = 0;
  /// Level triggered. Stays the same for the driver's life; -1: none, only Poll tells (the reactor
  /// then never sleeps longer than 1 ms). May be an epoll descriptor over several.
  [[nodiscard]] virtual int event_fd() const = 0;

  /// INVALID_ARGUMENT (address), PEER_UNREACHABLE (address in use, no device).
  [[nodiscard]] virtual Result<std::unique_ptr<Acceptor>> Listen(const std::string& address,
                                                                 AcceptEvents& events) = 0;
  /// Begins to connect. After Start: OnOpen, or OnClosed. INVALID_ARGUMENT (address).
  [[nodiscard]] virtual Result<std::unique_ptr<Connection>> Connect(const std::string& address) = 0;

  /// A region in which payloads and landings lie: for registration with a device. Stays mapped until
  /// RemoveMemory. Transports that need none do nothing.
  [[nodiscard]] virtual Status AddMemory(std::span<std::byte> region) {
    static_cast<void>(region);
    return {};
  }
  /// REQUIRES: no connection uses it any more.
  virtual void RemoveMemory(std::span<std::byte> region) { static_cast<void>(region); }
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_H_
