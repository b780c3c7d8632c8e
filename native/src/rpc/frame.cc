#include "rpc/frame.h"

#include <cstring>

#include "block/aligned_buffer.h"
#include "pando/crc32c.h"

namespace pando::rpc {
namespace {

uint32_t HeaderCrc(std::span<const std::byte, kHeaderBytes> bytes) {
  constexpr size_t kAt = offsetof(Header, header_crc);
  constexpr std::array<std::byte, 4> kZero = {};
  uint32_t crc = Crc32c(bytes.first<kAt>());
  crc = Crc32c(kZero, crc);
  return Crc32c(bytes.subspan(kAt + 4), crc);
}

/// What the op's payload may be, by direction. kBadFlags or kBadLength when it is something else.
Reason CheckPayload(const Header& header) {
  const bool has = (header.flags & kFlagPayload) != 0;
  const uint32_t length = header.length;
  if (!has && header.payload_crc != 0) return Reason::kBadFlags;
  if (header.op == Op::kHello) {
    if (!has || header.is_answer()) return Reason::kBadFlags;
    return length == 0 || length > kMaxHelloBytes ? Reason::kBadLength : Reason::kNone;
  }
  if (header.op == Op::kGoodbye) {
    if (has || header.is_answer()) return Reason::kBadFlags;
    return length == 0 ? Reason::kNone : Reason::kBadLength;
  }
  if (header.is_answer()) {
    const bool may = header.op == Op::kGet || header.op == Op::kList || header.op == Op::kStat;
    if (has && (!may || header.status != 0)) return Reason::kBadFlags;
    if (has && length == 0) return Reason::kBadLength;
    if (!has) return length == 0 ? Reason::kNone : Reason::kBadLength;
    if (header.op == Op::kGet && length > kMaxChunkBytes) return Reason::kBadLength;
    if (header.op == Op::kStat && length != sizeof(StoreStats)) return Reason::kBadLength;
    if (header.op == Op::kList && (length > kMaxListBytes || length % sizeof(ListRecord) != 0)) {
      return Reason::kBadLength;
    }
    return Reason::kNone;
  }
  if (has != (header.op == Op::kPut)) return Reason::kBadFlags;
  switch (header.op) {
    case Op::kPut:
      return length == 0 || length > kMaxChunkBytes ? Reason::kBadLength : Reason::kNone;
    case Op::kGet:
      return length > kMaxChunkBytes ? Reason::kBadLength : Reason::kNone;
    case Op::kList:
      return length == 0 || length > kMaxListRecords ? Reason::kBadLength : Reason::kNone;
    default:
      return length == 0 ? Reason::kNone : Reason::kBadLength;
  }
}

bool IsKnown(Op op) { return op >= Op::kHello && op <= Op::kNotice; }

}  // namespace

std::string_view ReasonName(Reason reason) {
  constexpr std::array<std::string_view, 16> kNames = {
      "NONE",         "BAD_HEADER",        "BAD_VERSION", "BAD_FLAGS", "BAD_LENGTH",
      "CREDITS",      "BAD_ORDER",         "IDLE",        "TOO_SLOW",  "CLOSING",
      "WRONG_REGION", "TOO_MANY_SESSIONS", "BAD_OP",      "DAMAGED",
      "BAD_SEAL",    "NOT_SEALED"};
  const auto index = static_cast<size_t>(reason);
  return index < kNames.size() ? kNames[index] : std::string_view("UNKNOWN");
}

HeaderBytes EncodeHeader(const Header& header) {
  HeaderBytes bytes;
  std::memcpy(bytes.data(), &header, kHeaderBytes);
  const uint32_t crc = HeaderCrc(bytes);
  std::memcpy(bytes.data() + offsetof(Header, header_crc), &crc, 4);
  return bytes;
}

Decoded DecodeHeader(std::span<const std::byte, kHeaderBytes> bytes, Sender sender,
                     uint8_t version) {
  Decoded decoded;
  Header& header = decoded.header;
  std::memcpy(&header, bytes.data(), kHeaderBytes);
  const auto fail = [&decoded](Reason fault) {
    decoded.fault = fault;
    return decoded;
  };
  // The CRC first: a field of a header that is not whole means nothing.
  if (header.magic != kMagic || header.header_crc != HeaderCrc(bytes)) {
    return fail(Reason::kBadHeader);
  }
  if (header.version != (header.op == Op::kHello ? kVersion : version)) {
    return fail(Reason::kBadVersion);
  }
  if ((header.flags & ~kKnownFlags) != 0) return fail(Reason::kBadFlags);
  if (header.is_answer() && sender == Sender::kClient) return fail(Reason::kBadFlags);
  const bool both_send = header.op == Op::kHello || header.op == Op::kGoodbye;
  if (sender == Sender::kServer && !header.is_answer() && !both_send) {
    return fail(IsKnown(header.op) ? Reason::kBadOrder : Reason::kBadOp);
  }
  if (!header.is_answer() && header.status != 0) return fail(Reason::kBadFlags);
  if (!IsKnown(header.op)) {
    return fail(header.payload_bytes() > kMaxChunkBytes ? Reason::kBadLength : Reason::kBadOp);
  }
  return fail(CheckPayload(header));
}

uint32_t CreditBytesOf(Op op, uint32_t length) {
  uint64_t bytes = 0;
  if (op == Op::kPut || op == Op::kGet) bytes = length;
  if (op == Op::kList) bytes = uint64_t{length} * sizeof(ListRecord);
  if (op == Op::kStat) bytes = sizeof(StoreStats);
  return static_cast<uint32_t>(RoundUp(bytes, kPageBytes));
}

}  // namespace pando::rpc
