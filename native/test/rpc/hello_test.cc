#include "rpc/hello.h"

#include <gtest/gtest.h>

#include <cstring>

#include "rpc/vectors.h"

namespace pando::rpc {
namespace {

std::vector<std::byte> PayloadOf(const std::vector<std::byte>& frame) {
  return {frame.begin() + kHeaderBytes, frame.end()};
}

Introduction IntroductionOf(const Vector& vector, const std::string& side) {
  Introduction out;
  const auto node = vector.Hex(side + "-node");
  const auto region = vector.Hex(side + "-region");
  std::memcpy(out.node.data(), node.data(), out.node.size());
  std::memcpy(out.region.data(), region.data(), out.region.size());
  out.map_epoch = vector.Number(side + "-epoch");
  out.max_payload_bytes = vector.Number(side + "-max-payload");
  out.request_credits = vector.Number(side + "-request-credits");
  out.byte_credits = vector.Number(side + "-byte-credits");
  out.keep_alive_ms = vector.Number(side + "-keep-alive");
  return out;
}

/// The greeting of the vectors.
struct Greeting {
  Vector vector;
  RegionKey key;
  Transcript transcript;             // steps 1 to 3
  std::vector<std::byte> last;       // payload of step 4
  std::vector<std::byte> steps[4];   // whole frames

  Greeting() {
    for (const Vector& candidate : ReadVectors()) {
      if (candidate.kind == "greeting") vector = candidate;
    }
    const auto bytes = vector.Hex("key");
    key = RegionKey(std::span<const std::byte, 32>(bytes.data(), 32));
    for (size_t i = 0; i < 4; ++i) steps[i] = vector.Hex("step" + std::to_string(i + 1));
    transcript = {PayloadOf(steps[0]), PayloadOf(steps[1]), PayloadOf(steps[2])};
    last = PayloadOf(steps[3]);
  }
};

TEST(Hello, HmacMatchesRfc4231) {
  // Test case 2: key "Jefe", data "what do ya want for nothing?".
  constexpr std::string_view kKey = "Jefe";
  constexpr std::string_view kData = "what do ya want for nothing?";
  const std::array<std::span<const std::byte>, 1> parts = {std::as_bytes(std::span(kData))};
  const Proof mac = HmacSha256(std::as_bytes(std::span(kKey)), parts);
  constexpr std::array<uint8_t, 32> kExpected = {
      0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
      0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
  EXPECT_EQ(std::memcmp(mac.data(), kExpected.data(), 32), 0);
}

TEST(Hello, TheGreetingOfTheVectorsIsMadeByteForByte) {
  const Greeting greeting;
  Nonce nonce;
  const auto client_nonce = greeting.vector.Hex("client-nonce");
  std::copy(client_nonce.begin(), client_nonce.end(), nonce.begin());
  EXPECT_EQ(HelloFrame(1, EncodeBegin(nonce, 1, 1)), greeting.steps[0]);
  EXPECT_EQ(HelloFrame(2, greeting.vector.Hex("server-nonce")), greeting.steps[1]);
  EXPECT_EQ(HelloFrame(3, EncodeIntroduction(IntroductionOf(greeting.vector, "client"),
                                             Sender::kClient, greeting.transcript, greeting.key)),
            greeting.steps[2]);
  Introduction server = IntroductionOf(greeting.vector, "server");
  server.version = 1;
  EXPECT_EQ(HelloFrame(4, EncodeIntroduction(server, Sender::kServer, greeting.transcript,
                                             greeting.key)),
            greeting.steps[3]);
}

TEST(Hello, ProofsHoldAndAnyFlippedBitBreaksThem) {
  const Greeting greeting;
  const auto& [begin, challenge, introduction] = greeting.transcript;
  const auto opens = [&](const Transcript& transcript, std::span<const std::byte> payload,
                         Sender sender) {
    return OpenIntroduction(payload, sender, transcript, greeting.key).has_value();
  };
  const auto client = OpenIntroduction(introduction, Sender::kClient, greeting.transcript,
                                       greeting.key);
  ASSERT_TRUE(client.has_value());
  EXPECT_EQ(client->map_epoch, 41U);
  ASSERT_TRUE(opens(greeting.transcript, greeting.last, Sender::kServer));
  for (size_t i = 0; i < greeting.last.size(); ++i) {
    auto changed = greeting.last;
    changed[i] ^= std::byte{0x10};
    EXPECT_FALSE(opens(greeting.transcript, changed, Sender::kServer)) << "byte " << i;
  }
  for (auto field : {&Transcript::begin, &Transcript::challenge, &Transcript::introduction}) {
    for (size_t i = 0; i < (greeting.transcript.*field).size(); ++i) {
      Transcript changed = greeting.transcript;
      (changed.*field)[i] ^= std::byte{0x01};
      EXPECT_FALSE(opens(changed, greeting.last, Sender::kServer));
    }
  }
}

TEST(Hello, AProofOfOneRoleIsNoneOfTheOther) {
  const Greeting greeting;
  // What the client sent, sent back to it as if it came from the server.
  EXPECT_FALSE(OpenIntroduction(greeting.transcript.introduction, Sender::kServer,
                                greeting.transcript, greeting.key));
  EXPECT_FALSE(
      OpenIntroduction(greeting.last, Sender::kClient, greeting.transcript, greeting.key));
}

TEST(Hello, AStrangersKeyProvesNothing) {
  const Greeting greeting;
  std::array<std::byte, 32> other{};
  EXPECT_FALSE(OpenIntroduction(greeting.transcript.introduction, Sender::kClient,
                                greeting.transcript, RegionKey(other)));
}

TEST(Hello, AShortIntroductionIsRefusedAndALongerOneIsOfALaterVersion) {
  const Greeting greeting;
  auto payload = greeting.transcript.introduction;
  payload.pop_back();
  EXPECT_FALSE(
      OpenIntroduction(payload, Sender::kClient, greeting.transcript, greeting.key));
  EXPECT_FALSE(OpenIntroduction({}, Sender::kClient, greeting.transcript, greeting.key));
}

TEST(Hello, TheHighestCommonVersionIsChosen) {
  EXPECT_EQ(ChooseVersion(1, 1, 1, 1), 1);
  EXPECT_EQ(ChooseVersion(1, 3, 2, 5), 3);
  EXPECT_EQ(ChooseVersion(1, 3, 4, 5), 0);
  EXPECT_EQ(ChooseVersion(4, 5, 1, 3), 0);
  EXPECT_EQ(ChooseVersion(1, 1, 3, 2), 0);
}

TEST(Hello, WipingLeavesNothing) {
  std::array<std::byte, 32> secret;
  secret.fill(std::byte{0x5A});
  Wipe(secret);
  for (const std::byte byte : secret) EXPECT_EQ(byte, std::byte{0});
}

}  // namespace
}  // namespace pando::rpc
