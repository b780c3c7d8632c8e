#include "rpc/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "pando/crc32c.h"
#include "rpc/vectors.h"

namespace pando::rpc {
namespace {

template <size_t N>
void CopyHex(const Vector& vector, const std::string& field, std::array<uint8_t, N>& out) {
  const auto bytes = vector.Hex(field);
  ASSERT_EQ(bytes.size(), N);
  std::memcpy(out.data(), bytes.data(), N);
}

Header HeaderOf(const Vector& vector) {
  Header header;
  header.op = static_cast<Op>(vector.Number("op"));
  header.flags = static_cast<uint16_t>(vector.Number("flags"));
  header.qos_class = static_cast<uint8_t>(vector.Number("class"));
  header.status = static_cast<uint8_t>(vector.Number("status"));
  header.id = vector.Number("id");
  if (vector.Has("trace")) {
    CopyHex(vector, "trace", header.trace);
    header.deadline_us = vector.Number("deadline");
  } else {
    header.answer = {vector.Number("chunk-length"), vector.Number("chunk-crc"),
                     vector.Number("value"), vector.Number("server-us")};
    header.reason = static_cast<Reason>(vector.Number("reason"));
  }
  CopyHex(vector, "chunk", header.chunk.bytes);
  header.offset = vector.Number("offset");
  header.length = vector.Number("length");
  header.payload_crc = vector.Number("payload-crc");
  return header;
}

HeaderBytes First64(std::span<const std::byte> bytes) {
  HeaderBytes header;
  std::copy_n(bytes.begin(), kHeaderBytes, header.begin());
  return header;
}

TEST(Frame, EveryVectorIsEncodedToItsBytesAndDecodedFromThem) {
  size_t seen = 0;
  for (const Vector& vector : ReadVectors()) {
    if (vector.kind != "frame") continue;
    ++seen;
    const auto bytes = vector.Hex("hex");
    const Header header = HeaderOf(vector);
    const HeaderBytes expected = First64(bytes);
    EXPECT_EQ(EncodeHeader(header), expected) << vector.name;
    const Sender sender = header.is_answer() ? Sender::kServer : Sender::kClient;
    const Decoded decoded = DecodeHeader(expected, sender);
    EXPECT_EQ(decoded.fault, Reason::kNone) << vector.name;
    EXPECT_EQ(decoded.header.payload_bytes(), bytes.size() - kHeaderBytes) << vector.name;
    EXPECT_EQ(Crc32c(std::span(bytes).subspan(kHeaderBytes)), header.payload_crc) << vector.name;
  }
  EXPECT_GE(seen, 6U);
}

TEST(Frame, AnyFlippedBitOfAHeaderIsFound) {
  Header header;
  header.op = Op::kGet;
  header.id = 77;
  header.length = 4096;
  const HeaderBytes good = EncodeHeader(header);
  ASSERT_EQ(DecodeHeader(good, Sender::kClient).fault, Reason::kNone);
  for (size_t bit = 0; bit < kHeaderBytes * 8; ++bit) {
    HeaderBytes bad = good;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_EQ(DecodeHeader(bad, Sender::kClient).fault, Reason::kBadHeader) << "bit " << bit;
  }
}

struct Case {
  const char* what;
  Op op;
  uint16_t flags;
  uint32_t length;
  Sender sender;
  Reason fault;
  uint8_t version = kVersion;
  uint8_t status = 0;
};

TEST(Frame, WhatTheOpDoesNotAllowIsRefusedByItsHeaderAlone) {
  constexpr uint16_t kA = kFlagAnswer;
  constexpr uint16_t kP = kFlagPayload;
  constexpr Sender kC = Sender::kClient;
  constexpr Sender kS = Sender::kServer;
  const std::vector<Case> cases = {
      {"another version", Op::kGet, 0, 1, kC, Reason::kBadVersion, 2},
      {"hello is always of version 1", Op::kHello, kP, 40, kC, Reason::kBadVersion, 2},
      {"an unknown flag", Op::kGet, 0x100, 1, kC, Reason::kBadFlags},
      {"the next flag, which version 1 does not know", Op::kGet, 4, 1, kC, Reason::kBadFlags},
      {"an answer from a client", Op::kGet, kA, 0, kC, Reason::kBadFlags},
      {"a request from a server", Op::kGet, 0, 1, kS, Reason::kBadOrder},
      {"a status in a request", Op::kGet, 0, 1, kC, Reason::kBadFlags, kVersion, 3},
      {"put without payload", Op::kPut, 0, 1, kC, Reason::kBadFlags},
      {"put of nothing", Op::kPut, kP, 0, kC, Reason::kBadLength},
      {"put of the most", Op::kPut, kP, kMaxChunkBytes, kC, Reason::kNone},
      {"put of more", Op::kPut, kP, kMaxChunkBytes + 1, kC, Reason::kBadLength},
      {"put of 4 GiB", Op::kPut, kP, 0xFFFFFFFF, kC, Reason::kBadLength},
      {"get with payload", Op::kGet, kP, 1, kC, Reason::kBadFlags},
      {"get of nothing", Op::kGet, 0, 0, kC, Reason::kNone},
      {"get of too much", Op::kGet, 0, kMaxChunkBytes + 1, kC, Reason::kBadLength},
      {"has with a length", Op::kHas, 0, 1, kC, Reason::kBadLength},
      {"list of nothing", Op::kList, 0, 0, kC, Reason::kBadLength},
      {"list of too much", Op::kList, 0, kMaxListRecords + 1, kC, Reason::kBadLength},
      {"hello without payload", Op::kHello, 0, 0, kC, Reason::kBadFlags},
      {"hello too long", Op::kHello, kP, kMaxHelloBytes + 1, kC, Reason::kBadLength},
      {"goodbye with payload", Op::kGoodbye, kP, 8, kS, Reason::kBadFlags},
      {"goodbye from a server", Op::kGoodbye, 0, 0, kS, Reason::kNone},
      {"op 0", static_cast<Op>(0), 0, 0, kC, Reason::kBadOp},
      {"a question for the notice", Op::kNotice, 0, 0, kC, Reason::kNone},
      {"a question for the notice with a length", Op::kNotice, 0, 24, kC, Reason::kBadLength},
      {"a question for the notice with payload", Op::kNotice, kP, 24, kC, Reason::kBadFlags},
      {"a notice with payload", Op::kNotice, kA | kP, 24, kS, Reason::kBadFlags},
      {"op 11 with a payload that can be skipped", static_cast<Op>(11), kP, 9, kC, Reason::kBadOp},
      {"op 11 with a payload that cannot", static_cast<Op>(11), kP, 1U << 31U, kC,
       Reason::kBadLength},
      {"an answer to put with payload", Op::kPut, kA | kP, 1, kS, Reason::kBadFlags},
      {"a failed get with payload", Op::kGet, kA | kP, 1, kS, Reason::kBadFlags, kVersion, 1},
      {"an answer to get beyond a chunk", Op::kGet, kA | kP, kMaxChunkBytes + 1, kS,
       Reason::kBadLength},
      {"half a list record", Op::kList, kA | kP, 33, kS, Reason::kBadLength},
      {"a short stat", Op::kStat, kA | kP, 255, kS, Reason::kBadLength},
  };
  for (const Case& tested : cases) {
    Header header;
    header.op = tested.op;
    header.flags = tested.flags;
    header.length = tested.length;
    header.version = tested.version;
    header.status = tested.status;
    EXPECT_EQ(DecodeHeader(EncodeHeader(header), tested.sender).fault, tested.fault) << tested.what;
  }
}

TEST(Frame, ANegotiatedVersionIsTheOnlyOneTaken) {
  Header header;
  header.version = 3;
  EXPECT_EQ(DecodeHeader(EncodeHeader(header), Sender::kClient, 3).fault, Reason::kNone);
  EXPECT_EQ(DecodeHeader(EncodeHeader(header), Sender::kClient, 2).fault, Reason::kBadVersion);
}

TEST(Frame, CreditsCountWholePages) {
  EXPECT_EQ(CreditBytesOf(Op::kPut, 1), 4096U);
  EXPECT_EQ(CreditBytesOf(Op::kGet, 4097), 8192U);
  EXPECT_EQ(CreditBytesOf(Op::kList, 129), 8192U);
  EXPECT_EQ(CreditBytesOf(Op::kStat, 0), 4096U);
  EXPECT_EQ(CreditBytesOf(Op::kDelete, 0), 0U);
  EXPECT_EQ(CreditBytesOf(Op::kGet, kMaxChunkBytes), kMaxChunkBytes);
}

}  // namespace
}  // namespace pando::rpc
