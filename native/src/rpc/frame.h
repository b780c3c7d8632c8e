// The header of a frame; RPC.md tells the same in prose. Everything that comes from a peer goes
// through DecodeHeader, which trusts nothing.
#ifndef PANDO_RPC_FRAME_H_
#define PANDO_RPC_FRAME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "pando/chunk_id.h"
#include "pando/port_layout.h"
#include "pando/result.h"

namespace pando::rpc {

inline constexpr uint16_t kMagic = 0x4450;  // "PD"
inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kHeaderBytes = 64;

enum class Op : uint8_t {
  kHello = 1,
  kPut = 2,
  kGet = 3,
  kHas = 4,
  kDelete = 5,
  kList = 6,
  kStat = 7,
  kPing = 8,
  kGoodbye = 9,
  kNotice = 10,
};

inline constexpr uint16_t kFlagAnswer = 1;
inline constexpr uint16_t kFlagPayload = 2;
inline constexpr uint16_t kKnownFlags = kFlagAnswer | kFlagPayload;

enum class Reason : uint32_t {
  kNone = 0,
  kBadHeader = 1,
  kBadVersion = 2,
  kBadFlags = 3,
  kBadLength = 4,
  kCredits = 5,
  kBadOrder = 6,
  kIdle = 7,
  kTooSlow = 8,
  kClosing = 9,
  kWrongRegion = 10,
  kTooManySessions = 11,
  kBadOp = 12,
  kDamaged = 13,
  kBadSeal = 14,
  kNotSealed = 15,
};
[[nodiscard]] std::string_view ReasonName(Reason reason);

/// As it lies on the wire. Two views of the same bytes: requests use `trace`, `deadline_us`;
/// answers use `answer`, `reason`.
struct Header {
  struct Answer {
    uint32_t chunk_length;  // 16
    uint32_t chunk_crc;     // 20
    uint32_t value;         // 24
    uint32_t server_us;     // 28
  };
  uint16_t magic = kMagic;     //  0
  uint8_t version = kVersion;  //  2
  Op op = Op::kPing;           //  3
  uint16_t flags = 0;          //  4
  uint8_t qos_class = 0;       //  6
  uint8_t status = 0;          //  7, ErrorCode
  uint32_t header_crc = 0;     //  8
  uint32_t id = 0;             // 12
  union {
    std::array<uint8_t, 16> trace{};  // 16
    Answer answer;
  };
  ChunkId chunk;        // 32
  uint32_t offset = 0;  // 48; HELLO: step
  uint32_t length = 0;  // 52
  union {
    uint32_t deadline_us = 0;  // 56
    Reason reason;
  };
  uint32_t payload_crc = 0;  // 60

  [[nodiscard]] bool is_answer() const { return (flags & kFlagAnswer) != 0; }
  [[nodiscard]] uint32_t payload_bytes() const { return (flags & kFlagPayload) != 0 ? length : 0; }
};
static_assert(sizeof(Header) == kHeaderBytes);
static_assert(offsetof(Header, op) == 3 && offsetof(Header, flags) == 4);
static_assert(offsetof(Header, qos_class) == 6 && offsetof(Header, status) == 7);
static_assert(offsetof(Header, header_crc) == 8 && offsetof(Header, id) == 12);
static_assert(offsetof(Header, trace) == 16 && offsetof(Header, chunk) == 32);
static_assert(offsetof(Header, offset) == 48 && offsetof(Header, length) == 52);
static_assert(offsetof(Header, deadline_us) == 56 && offsetof(Header, payload_crc) == 60);

using HeaderBytes = std::array<std::byte, kHeaderBytes>;

inline constexpr uint32_t kMaxListRecords = 4096;
/// The largest payload of any frame but a chunk's: a full LIST, and more than any HELLO.
inline constexpr uint32_t kMaxListBytes = kMaxListRecords * sizeof(ListRecord);
inline constexpr uint32_t kMaxHelloBytes = 4096;

/// Which side the frame came from.
enum class Sender : uint8_t { kClient, kServer };

/// Fills in the header's CRC.
[[nodiscard]] HeaderBytes EncodeHeader(const Header& header);

struct Decoded {
  Header header;
  /// kNone: the frame obeys RPC.md as far as its header tells. kBadOp: the header is sound, but the
  /// op unknown; its payload can be skipped. Anything else ends the session.
  Reason fault = Reason::kNone;
};
/// `version` is what the greeting chose; HELLO is always of version 1. Bounds are those of the ops;
/// credits, ids and the order of frames are the session's to check.
[[nodiscard]] Decoded DecodeHeader(std::span<const std::byte, kHeaderBytes> bytes, Sender sender,
                                   uint8_t version = kVersion);

/// What a request takes from the byte credits.
[[nodiscard]] uint32_t CreditBytesOf(Op op, uint32_t length);

}  // namespace pando::rpc

#endif  // PANDO_RPC_FRAME_H_
