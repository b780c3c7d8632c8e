// What both sides of a session share: the greeting, signs of life, and how it ends. See RPC.md.
#ifndef PANDO_RPC_SESSION_H_
#define PANDO_RPC_SESSION_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/aligned_buffer.h"
#include "rpc/buffer_pool.h"
#include "rpc/hello.h"
#include "rpc/moved_groups.h"
#include "rpc/served_spans.h"
#include "rpc/seal.h"
#include "rpc/transport.h"

namespace pando {
struct NoticeBoard;
struct PortSlot;
}  // namespace pando

namespace pando::rpc {

class Session;

/// What a session needs of the reactor it lives on.
class SessionHost {
 public:
  [[nodiscard]] virtual uint64_t now_us() const = 0;
  /// With fresh random bytes that nobody can guess.
  virtual void FillNonce(Nonce& nonce) = 0;
  /// Server: memory for payloads.
  [[nodiscard]] virtual BufferPool& pool() = 0;
  /// Server: to the store; PortSlot::owner is told, on this thread.
  virtual void Submit(PortSlot* slot) = 0;
  /// Server: a peer has proved itself. False: there are too many.
  [[nodiscard]] virtual bool Admit(Session& session) = 0;
  /// The last word of a session; destroy it, but not from within this call.
  virtual void Over(Session& session) = 0;

 protected:
  ~SessionHost() = default;
};

struct SessionOptions {
  Identity identity;
  uint32_t request_credits = 64;         // server: granted
  uint32_t byte_credits = 16U << 20U;    // server: granted, at least kMaxChunkBytes
  uint32_t greeting_ms = 5000;           // from the connection's begin
  uint32_t keep_alive_ms = 10000;        // client
  bool expects_node = false;             // client: whom to meet
  NodeId expected_node{};
  SealMode seal = SealMode::kAuto;
  MovedGroups moved;                     // server
  ServedSpans served;                    // server
  NoticeBoard* board = nullptr;          // server: of the listener; outlives the session
  uint8_t version_min = kVersion;
  uint8_t version_max = kVersion;
};

/// Who ended a session.
enum class EndedBy : uint8_t { kUs = 0, kPeer = 1, kFailure = 2 };

class Session : public ConnectionEvents {
 public:
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  /// REQUIRES: host.Over was called.
  virtual ~Session();

  /// Takes the connection and begins.
  void Begin(std::unique_ptr<Connection> connection);
  /// Time passes; called about every millisecond while something may be due, and then at least
  /// every 100 ms.
  void Tick();
  /// In good order, for at most `grace_ms`.
  void Leave(uint32_t grace_ms);
  /// At once.
  void Abort(ErrorCode code, std::string why);

  [[nodiscard]] bool connected() const { return connection_ != nullptr && !closed_; }
  [[nodiscard]] bool open() const { return state_ == State::kOpen; }
  [[nodiscard]] bool over() const { return state_ == State::kOver; }
  [[nodiscard]] const Introduction& peer() const { return peer_; }
  [[nodiscard]] EndedBy ended_by() const { return ended_by_; }
  /// The bit of the cipher under which frames go, 0: none.
  [[nodiscard]] uint64_t cipher() const { return cipher_; }
  /// Why it ended; kOk after Leave and after the peer's GOODBYE(CLOSING).
  [[nodiscard]] const Status& end() const { return end_; }
  [[nodiscard]] ConnectionStats ConnectionCounters() const;
  [[nodiscard]] int64_t Retransmits() const { return connected() ? connection_->Retransmits() : -1; }

  // ConnectionEvents
  void OnOpen() final;
  [[nodiscard]] Landing OnHeader(const HeaderBytes& header, const RemoteLanding& landing) final;
  void OnPayload(void* token) final;
  void OnBadSeal() final;
  void OnProgress(void* token, size_t landed) final;
  [[nodiscard]] bool OnPeerEnded() final { return state_ == State::kOpen && PeerEnded(); }
  void OnClosed(const Status& why) final;

 protected:
  enum class State : uint8_t {
    kConnecting,  // client: no connection yet
    kGreeting,
    kOpen,
    kEnding,  // nothing is taken from the peer any more; the connection is being closed
    kOver,
  };

  Session(SessionHost& host, SessionOptions options, Sender role);

  /// The session has been agreed on.
  virtual void Opened() = 0;
  /// A sound frame that is not part of the greeting. May return kTake with a token for GotPayload.
  [[nodiscard]] virtual Landing GotFrame(const Decoded& frame, const RemoteLanding& landing) = 0;
  virtual void GotPayload(void* token) = 0;
  /// The first `landed` bytes of a payload are there and stay as they are.
  virtual void GotPart(void* /*token*/, size_t /*landed*/) {}
  virtual void GotGoodbye(Reason reason) = 0;
  /// The peer sends no more. True: there is something to be answered first.
  [[nodiscard]] virtual bool PeerEnded() { return false; }
  virtual void TickOpen(uint64_t now_us) = 0;
  /// Leave was called.
  virtual void BeginLeaving() = 0;
  /// The connection is gone: everything unanswered ends with this.
  virtual void Failed(const Error& error) = 0;
  /// Nothing of the session is in anybody's hands.
  [[nodiscard]] virtual bool quiet() const = 0;

  /// The peer broke the protocol.
  [[nodiscard]] Landing Violation(Reason reason);
  /// Ends the session; with a GOODBYE when `goodbye` is given and the peer is proven.
  void End(EndedBy by, Status why, Reason goodbye, bool flush);
  void SendGoodbye(Reason reason);
  /// Calls host.Over once the connection is gone and nothing is under way. The last thing that a
  /// method of a session does.
  void Settle();
  [[nodiscard]] const SessionOptions& options() const { return options_; }
  [[nodiscard]] SessionHost& host() { return host_; }
  [[nodiscard]] Connection& connection() { return *connection_; }
  [[nodiscard]] bool leaving() const { return leave_by_us_ != 0; }
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] uint8_t version() const { return version_; }
  [[nodiscard]] uint64_t last_heard_us() const { return last_heard_us_; }

 private:
  void SendHello(uint32_t step, std::vector<std::byte> payload);
  [[nodiscard]] Landing GreetingHeader(const HeaderBytes& header);
  void GreetingPayload();
  void ServerStep(std::span<const std::byte> payload);
  void ClientStep(std::span<const std::byte> payload);
  /// The session is to be sealed, if the peer would.
  [[nodiscard]] bool WouldSeal() const;
  /// It has to be, and the connection cannot.
  [[nodiscard]] bool MustButCannotSeal() const;
  /// This side's half of a key exchange, to be appended to step 1 or 2.
  void AppendExchange(std::vector<std::byte>& payload);
  /// Of the ciphers that this side offers the one that the peer can, too; 0: none.
  [[nodiscard]] uint64_t CommonCipher() const;
  /// From the peer's half at `at` of its step, if it sent one.
  void TakeExchange(std::span<const std::byte> payload, size_t at);
  /// The greeting's last step has been said or heard.
  void SealConnection(std::span<const std::byte> last);
  void Introduce();
  /// Server: where the peer came from, to be appended to a sentence; empty where nobody knows.
  [[nodiscard]] std::string Origin() const;
  /// Ends the greeting without a word to the peer.
  void Refuse(ErrorCode code, std::string why);

  SessionHost& host_;
  SessionOptions options_;
  Sender role_;
  State state_ = State::kConnecting;
  std::unique_ptr<Connection> connection_;
  bool closed_ = false;  // OnClosed has run
  bool told_ = false;    // host.Over was called
  bool goodbye_sent_ = false;
  EndedBy ended_by_ = EndedBy::kUs;
  Status end_;

  Introduction peer_;
  uint8_t version_ = kVersion;
  Transcript transcript_;
  std::optional<KeyExchange> exchange_;  // during the greeting
  std::optional<Secret> shared_;         // likewise
  uint64_t cipher_ = 0;
  uint32_t step_ = 0;            // the step that is waited for
  Header hello_;                 // header of the payload that is on its way
  AlignedBuffer hello_in_;
  // Steps 1 and 3, or 2 and 4: the second is sent when the first may still be on its way.
  std::array<std::vector<std::byte>, 2> hello_payload_;
  std::array<OutgoingFrame, 2> hello_frame_;
  OutgoingFrame goodbye_;
  uint32_t frames_out_ = 0;      // of these three

  uint64_t begun_us_ = 0;
  uint64_t last_heard_us_ = 0;
  uint64_t payload_since_us_ = 0;  // a payload is on its way since then, 0: none
  uint32_t payloads_coming_ = 0;
  uint64_t leave_by_us_ = 0;
  uint64_t close_by_us_ = 0;       // kEnding: then at once
};

}  // namespace pando::rpc

#endif  // PANDO_RPC_SESSION_H_
