// Sealed frames: against vectors of another program, and against everybody on the way.
#include "rpc/seal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <string>

#include "rpc/vectors.h"

namespace pando::rpc {
namespace {

using Bytes = std::vector<std::byte>;

std::span<const std::byte, 32> First32(const Bytes& bytes) {
  return std::span<const std::byte, 32>(bytes.data(), 32);
}

std::vector<Vector> SealedVectors() {
  std::vector<Vector> vectors = ReadVectors();
  std::erase_if(vectors, [](const Vector& one) { return one.kind != "sealed"; });
  return vectors;
}

struct Sent {
  OutgoingFrame frame;
  Bytes payload;
  explicit Sent(const Bytes& header, Bytes body = {}) : payload(std::move(body)) {
    std::copy(header.begin(), header.end(), frame.header.begin());
    frame.payload = payload;
  }
};

/// Through rooms of random sizes, as a socket that takes little makes them.
void SealInto(Bytes& out, FrameSealer& sealer, Sent& sent, std::mt19937& random) {
  while (sent.frame.moved < kHeaderBytes + sent.payload.size()) {
    Bytes room(random() % 200);
    room.resize(sealer.Seal(sent.frame, room));
    out.insert(out.end(), room.begin(), room.end());
  }
}

/// The payloads of frames that open, until one does not or nothing is left; the last one is false then.
struct Opened {
  std::vector<Bytes> payloads;
  bool sound = true;
};
Opened OpenAll(FrameOpener& opener, Bytes wire) {
  Opened opened;
  std::span<std::byte> left = wire;
  while (left.size() >= kSealedHeaderBytes) {
    HeaderBytes bytes;
    if (!opener.OpenHeader(left.first<kSealedHeaderBytes>(), bytes)) {
      opened.sound = false;
      return opened;
    }
    left = left.subspan(kSealedHeaderBytes);
    Header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const size_t length = header.payload_bytes();
    if (length == 0) {
      opened.payloads.emplace_back();
      continue;
    }
    if (left.size() < length + kSealTagBytes) return opened;
    opener.BeginPayload();
    opener.OpenPart(left.first(length / 2));
    opener.OpenPart(left.subspan(length / 2, length - length / 2));
    const auto body = left.first(length);
    left = left.subspan(length);
    if (!opener.EndPayload(left.first<kSealTagBytes>())) {
      opened.sound = false;
      return opened;
    }
    left = left.subspan(kSealTagBytes);
    opened.payloads.emplace_back(body.begin(), body.end());
  }
  return opened;
}

TEST(Seal, KeysAndFramesAreThoseOfTheVectors) {
  const auto vectors = SealedVectors();
  ASSERT_EQ(vectors.size(), 2U);
  for (const Vector& vector : vectors) {
    SCOPED_TRACE(vector.name);
    const KeyExchange client(First32(vector.Hex("client-secret")));
    const KeyExchange server(First32(vector.Hex("server-secret")));
    const Bytes begin = vector.Hex("step1");
    const Bytes challenge = vector.Hex("step2");
    const PublicKey half = client.public_key();
    EXPECT_EQ(std::memcmp(half.data(), begin.data() + kBeginBytes, half.size()), 0);
    const auto shared = client.Agree(server.public_key());
    ASSERT_TRUE(shared.has_value());
    const Bytes expected = vector.Hex("shared");
    EXPECT_EQ(std::memcmp(shared->bytes().data(), expected.data(), 32), 0);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), server.Agree(half)->bytes().begin()));
    const Transcript transcript{begin, challenge, vector.Hex("step3")};
    const Bytes last = vector.Hex("step4");
    const RegionKey key(First32(vector.Hex("key")));
    const auto client_hello =
        OpenIntroduction(transcript.introduction, Sender::kClient, transcript, key);
    const auto server_hello = OpenIntroduction(last, Sender::kServer, transcript, key);
    ASSERT_TRUE(client_hello && server_hello);
    const uint64_t cipher = ChooseCipher(client_hello->capabilities, server_hello->capabilities);
    EXPECT_EQ(cipher, vector.Number("cipher"));
    const SealSecrets secrets = DeriveSealSecrets(cipher, *shared, transcript, last, key);
    const Bytes of_client = vector.Hex("client-seal");
    const Bytes of_server = vector.Hex("server-seal");
    EXPECT_TRUE(std::equal(of_client.begin(), of_client.end(), secrets.client.bytes().begin()));
    EXPECT_TRUE(std::equal(of_server.begin(), of_server.end(), secrets.server.bytes().begin()));

    std::mt19937 random(7);
    FrameSealer sealer(cipher, secrets.client, vector.Number("rekey"));
    Bytes wire;
    for (int i = 0; i < 3; ++i) {
      Sent put(vector.Hex("header1"), vector.Hex("payload1"));
      Sent ping(vector.Hex("header2"));
      SealInto(wire, sealer, put, random);
      SealInto(wire, sealer, ping, random);
    }
    EXPECT_EQ(wire, vector.Hex("from-client"));
    FrameOpener opener(cipher, secrets.client, vector.Number("rekey"));
    const Opened opened = OpenAll(opener, wire);
    EXPECT_TRUE(opened.sound);
    ASSERT_EQ(opened.payloads.size(), 6U);
    EXPECT_EQ(opened.payloads[4], vector.Hex("payload1"));
    FrameOpener answers(cipher, secrets.server);
    EXPECT_TRUE(OpenAll(answers, vector.Hex("from-server")).sound);
  }
}

TEST(Seal, AHalfThatMakesEveryExchangeAlikeIsNoHalf) {
  const PublicKey zero{};
  PublicKey one{};
  one[0] = std::byte{1};
  Nonce random;
  random.fill(std::byte{0x77});
  const KeyExchange exchange(random);
  EXPECT_FALSE(exchange.Agree(zero).has_value());
  EXPECT_FALSE(exchange.Agree(one).has_value());
}

TEST(Seal, TheGreetingAndTheRegionsKeyGoIntoTheKeys) {
  const Vector vector = SealedVectors().front();
  const Secret shared(First32(vector.Hex("shared")));
  const RegionKey key(First32(vector.Hex("key")));
  const Transcript transcript{vector.Hex("step1"), vector.Hex("step2"), vector.Hex("step3")};
  const Bytes last = vector.Hex("step4");
  std::set<std::string> seen;
  const auto add = [&](const SealSecrets& secrets) {
    for (const Secret* secret : {&secrets.client, &secrets.server}) {
      seen.insert({reinterpret_cast<const char*>(secret->bytes().data()), 32});
    }
  };
  add(DeriveSealSecrets(kCanAes256Gcm, shared, transcript, last, key));
  for (auto field : {&Transcript::begin, &Transcript::challenge, &Transcript::introduction}) {
    Transcript changed = transcript;
    (changed.*field)[33] ^= std::byte{1};
    add(DeriveSealSecrets(kCanAes256Gcm, shared, changed, last, key));
  }
  Bytes other = last;
  other[103] ^= std::byte{1};
  add(DeriveSealSecrets(kCanAes256Gcm, shared, transcript, other, key));
  add(DeriveSealSecrets(kCanAes256Gcm, shared, transcript, last, RegionKey()));
  add(DeriveSealSecrets(kCanAes256Gcm, Secret(First32(other)), transcript, last, key));
  EXPECT_EQ(seen.size(), 14U);
}

struct Wire {
  uint64_t cipher;
  Secret secret;
  Bytes bytes;
};
/// PUT of 100 bytes, PING, PUT of 100 bytes.
Wire ThreeFrames(const Vector& vector) {
  Wire wire{vector.Number("cipher"), Secret(First32(vector.Hex("client-seal"))), {}};
  FrameSealer sealer(wire.cipher, wire.secret);
  std::mt19937 random(3);
  Sent first(vector.Hex("header1"), vector.Hex("payload1"));
  Sent second(vector.Hex("header2"));
  Sent third(vector.Hex("header1"), vector.Hex("payload1"));
  for (Sent* sent : {&first, &second, &third}) SealInto(wire.bytes, sealer, *sent, random);
  return wire;
}

TEST(Seal, AnyChangedBitOfAnyRecordIsSeenBeforeThePayloadIsUsed) {
  constexpr size_t kPut = kSealedHeaderBytes + 100 + kSealTagBytes;
  for (const Vector& vector : SealedVectors()) {
    const Wire wire = ThreeFrames(vector);
    ASSERT_EQ(wire.bytes.size(), 2 * kPut + kSealedHeaderBytes);
    for (size_t at = 0; at < wire.bytes.size(); ++at) {
      Bytes changed = wire.bytes;
      changed[at] ^= std::byte{1} << (at % 8);
      FrameOpener opener(wire.cipher, wire.secret);
      const Opened opened = OpenAll(opener, changed);
      EXPECT_FALSE(opened.sound) << at;
      const size_t before = at < kPut ? 0U : at < kPut + kSealedHeaderBytes ? 1U : 2U;
      EXPECT_EQ(opened.payloads.size(), before) << at;
    }
  }
}

TEST(Seal, FramesThatAreRepeatedLeftOutSwappedOrReflectedDoNotOpen) {
  constexpr size_t kPut = kSealedHeaderBytes + 100 + kSealTagBytes;
  for (const Vector& vector : SealedVectors()) {
    const Wire wire = ThreeFrames(vector);
    const auto part = [&](size_t from, size_t bytes) {
      const auto begin = wire.bytes.begin() + static_cast<std::ptrdiff_t>(from);
      return Bytes(begin, begin + static_cast<std::ptrdiff_t>(bytes));
    };
    const Bytes first = part(0, kPut);
    const Bytes ping = part(kPut, kSealedHeaderBytes);
    const Bytes last = part(kPut + kSealedHeaderBytes, kPut);
    const auto joined = [](std::initializer_list<Bytes> parts) {
      Bytes all;
      for (const Bytes& one : parts) all.insert(all.end(), one.begin(), one.end());
      return all;
    };
    const std::vector<std::pair<Bytes, size_t>> attacks = {
        {joined({first, first}), 1},       {joined({first, ping, ping}), 2},
        {joined({ping, last}), 0},         {joined({first, last}), 1},
        {joined({last, ping, first}), 0},
        // The payload of one in the place of the other's.
        {joined({part(0, kSealedHeaderBytes), part(kPut + 2 * kSealedHeaderBytes, 100 + kSealTagBytes)}), 0},
        // A byte was lost.
        {joined({first, part(kPut + 1, wire.bytes.size() - kPut - 1)}), 1},
    };
    for (size_t i = 0; i < attacks.size(); ++i) {
      FrameOpener opener(wire.cipher, wire.secret);
      const Opened opened = OpenAll(opener, attacks[i].first);
      EXPECT_FALSE(opened.sound) << i;
      EXPECT_EQ(opened.payloads.size(), attacks[i].second) << i;
    }
    FrameOpener other(wire.cipher, Secret(First32(vector.Hex("server-seal"))));
    EXPECT_FALSE(OpenAll(other, wire.bytes).sound) << "its own frames, sent back";
    FrameOpener cut(wire.cipher, wire.secret);
    EXPECT_EQ(OpenAll(cut, part(0, kPut - 1)).payloads.size(), 0U) << "a payload without the end of its tag";
  }
}

TEST(Seal, NoTwoRecordsAreSealedAlikeAlsoWhereKeysAreReplaced) {
  const Vector vector = SealedVectors().front();
  for (const uint64_t cipher : {kCanAes256Gcm, kCanChaCha20Poly1305}) {
    const Secret secret(First32(vector.Hex("client-seal")));
    // So small a limit that every second record has a key of its own, and one that is met mid-way.
    for (const uint64_t limit : {uint64_t{1}, uint64_t{150}, uint64_t{100'000}, kRekeyBytes}) {
      FrameSealer sealer(cipher, secret, limit);
      FrameOpener opener(cipher, secret, limit);
      std::set<std::string> seen;
      for (int i = 0; i < 3000; ++i) {
        Sent ping(vector.Hex("header2"));
        Bytes wire(kSealedHeaderBytes);
        ASSERT_EQ(sealer.Seal(ping.frame, wire), wire.size());
        EXPECT_TRUE(seen.emplace(reinterpret_cast<const char*>(wire.data()), wire.size()).second) << i;
        const Opened opened = OpenAll(opener, wire);
        ASSERT_TRUE(opened.sound && opened.payloads.size() == 1) << i;
      }
    }
  }
  // What a limit that only one side has met leads to.
  FrameSealer early(kCanAes256Gcm, Secret(First32(vector.Hex("client-seal"))), 64);
  FrameOpener late(kCanAes256Gcm, Secret(First32(vector.Hex("client-seal"))), 1000);
  Bytes wire;
  std::mt19937 random(1);
  for (int i = 0; i < 2; ++i) {
    Sent ping(vector.Hex("header2"));
    SealInto(wire, early, ping, random);
  }
  const Opened opened = OpenAll(late, wire);
  EXPECT_FALSE(opened.sound);
  EXPECT_EQ(opened.payloads.size(), 1U);
}

TEST(Seal, AesComesFirstWhereBothHaveIt) {
  EXPECT_EQ(ChooseCipher(kCanSeal, kCanSeal), kCanAes256Gcm);
  EXPECT_EQ(ChooseCipher(kCanSeal, kCanChaCha20Poly1305), kCanChaCha20Poly1305);
  EXPECT_EQ(ChooseCipher(kCanAes256Gcm, kCanChaCha20Poly1305), 0U);
  EXPECT_EQ(ChooseCipher(kCanSeal, 0), 0U);
  EXPECT_EQ(ChooseCipher(kCanSeal, ~uint64_t{3}), 0U);
  EXPECT_NE(OwnCiphers() & kCanChaCha20Poly1305, 0U);
}

}  // namespace
}  // namespace pando::rpc
