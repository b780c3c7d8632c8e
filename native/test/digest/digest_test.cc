#include "pando/digest.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "digest/block_hash.h"
#include "digest/cpu.h"
#include "digest/crc.h"
#include "digest/hashes.h"
#include "digest/md5_lanes.h"
#include "pando/crc32c.h"

namespace pando {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

template <typename Range>
std::string Hex(const Range& bytes) {
  std::string out;
  for (const uint8_t byte : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

DigestResults Digest(std::span<const std::byte> data, uint32_t algorithms = kDigestAll) {
  BodyDigest digest(algorithms);
  digest.Update(data);
  DigestResults results;
  digest.Finish(&results);
  return results;
}

std::vector<std::byte> Random(size_t length, uint32_t seed) {
  std::vector<std::byte> bytes(length);
  uint32_t state = seed * 2654435761U + 1;
  for (auto& byte : bytes) {
    state ^= state << 13U;
    state ^= state >> 17U;
    state ^= state << 5U;
    byte = static_cast<std::byte>(state >> 9U);
  }
  return bytes;
}

TEST(DigestTest, CheckValuesAreThePublishedOnes) {
  const DigestResults r = Digest(Bytes("123456789"));
  EXPECT_EQ(Hex(r.md5), "25f9e794323b453885f5181f1b624d0b");
  EXPECT_EQ(Hex(r.sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
  EXPECT_EQ(Hex(r.sha256), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
  EXPECT_EQ(Hex(r.crc32), "cbf43926");
  EXPECT_EQ(Hex(r.crc32c), "e3069283");
  EXPECT_EQ(Hex(r.crc64nvme), "ae8b14860a799888");
}

TEST(DigestTest, VectorsOfTheStandards) {
  // RFC 1321 A.5, RFC 3174 7.3, FIPS 180-4's published examples.
  EXPECT_EQ(Hex(Digest(Bytes("")).md5), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(Hex(Digest(Bytes("abc")).md5), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(Hex(Digest(Bytes("12345678901234567890123456789012345678901234567890123456789012345678901234567890")).md5),
            "57edf4a22be3c955ac49da2e2107b67a");
  EXPECT_EQ(Hex(Digest(Bytes("abc")).sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(Hex(Digest(Bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")).sha1),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(Hex(Digest(Bytes("abc")).sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex(Digest(Bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")).sha256),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1'000'000, 'a');
  EXPECT_EQ(Hex(Digest(Bytes(million)).md5), "7707d6ae4e027c70eea2a935c2296f21");
  EXPECT_EQ(Hex(Digest(Bytes(million)).sha1), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  EXPECT_EQ(Hex(Digest(Bytes(million)).sha256),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(DigestTest, NvmeVectorsOfTheSpecification) {
  // NVM Express base specification 2.0, figure of 64b CRC test cases: 4096 bytes of 00, of FF, of 00 01 02 ...
  std::vector<std::byte> bytes(4096, std::byte{0});
  EXPECT_EQ(digest::Crc64Nvme(bytes), 0x6482D367EB22B64EU);
  std::fill(bytes.begin(), bytes.end(), std::byte{0xFF});
  EXPECT_EQ(digest::Crc64Nvme(bytes), 0xC0DDBA7302ECA3ACU);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  EXPECT_EQ(digest::Crc64Nvme(bytes), 0x3E729F5F6750449CU);
}

TEST(DigestTest, OnlyWhatWasAskedForIsSet) {
  const DigestResults r = Digest(Bytes("123456789"), kDigestSha1 | kDigestCrc32);
  EXPECT_EQ(Hex(r.sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
  EXPECT_EQ(Hex(r.crc32), "cbf43926");
  EXPECT_EQ(Hex(r.md5), std::string(32, '0'));
  EXPECT_EQ(Hex(r.crc64nvme), std::string(16, '0'));
}

TEST(DigestTest, PiecesGiveTheSameAsTheWhole) {
  const auto body = Random(70'001, 3);
  const DigestResults whole = Digest(body);
  for (const size_t piece : {1U, 7U, 63U, 64U, 65U, 127U, 128U, 129U, 4095U, 16384U, 16385U}) {
    BodyDigest digest(kDigestAll);
    for (size_t at = 0; at < body.size(); at += piece) {
      digest.Update(std::span(body).subspan(at, std::min(piece, body.size() - at)));
    }
    DigestResults results;
    digest.Finish(&results);
    EXPECT_EQ(Hex(results.md5), Hex(whole.md5)) << piece;
    EXPECT_EQ(Hex(results.sha1), Hex(whole.sha1)) << piece;
    EXPECT_EQ(Hex(results.sha256), Hex(whole.sha256)) << piece;
    EXPECT_EQ(Hex(results.crc32), Hex(whole.crc32)) << piece;
    EXPECT_EQ(Hex(results.crc32c), Hex(whole.crc32c)) << piece;
    EXPECT_EQ(Hex(results.crc64nvme), Hex(whole.crc64nvme)) << piece;
  }
}

TEST(DigestTest, FastKernelsAgreeWithThePortableOnes) {
  const auto body = Random(3000, 9);
  for (size_t start = 0; start < 17; ++start) {
    for (size_t length = 0; length < 1200; ++length) {
      const auto piece = std::span<const std::byte>(body).subspan(start, length);
      const auto seed = static_cast<uint32_t>(length * 77777);
      ASSERT_EQ(digest::Crc32(piece, seed), digest::Crc32Portable(piece, seed)) << start << "+" << length;
      ASSERT_EQ(digest::Crc64Nvme(piece, seed), digest::Crc64NvmePortable(piece, seed)) << start << "+" << length;
    }
  }
#if defined(__x86_64__)
  if (!digest::CpuFeatures::Get().sha) GTEST_SKIP() << "no SHA extensions on this machine";
  const auto* blocks = reinterpret_cast<const uint8_t*>(body.data());
  for (size_t count = 1; count < 40; ++count) {
    auto fast1 = digest::Sha1::kInitial;
    auto slow1 = digest::Sha1::kInitial;
    digest::Sha1ShaNi(fast1.data(), blocks + count, count);
    digest::Sha1Portable(slow1.data(), blocks + count, count);
    ASSERT_EQ(fast1, slow1) << count;
    auto fast2 = digest::Sha256::kInitial;
    auto slow2 = digest::Sha256::kInitial;
    digest::Sha256ShaNi(fast2.data(), blocks + count, count);
    digest::Sha256Portable(slow2.data(), blocks + count, count);
    ASSERT_EQ(fast2, slow2) << count;
  }
#endif
}

using LanesKernel = void (*)(std::span<const digest::Md5Lane>, size_t);

void ExpectLanesAgree(LanesKernel kernel, const char* name) {
  const auto body = Random(9000, 12);
  const auto* bytes = reinterpret_cast<const uint8_t*>(body.data());
  for (size_t lanes = 1; lanes <= digest::kMd5Lanes; ++lanes) {
    for (size_t count = 0; count < 20; ++count) {
      std::vector<std::array<uint32_t, 4>> fast(lanes);
      std::vector<digest::Md5Lane> inputs;
      for (size_t i = 0; i < lanes; ++i) {
        fast[i] = {static_cast<uint32_t>(i), 0x9E3779B9U * static_cast<uint32_t>(count + 1), 3, ~0U};
        inputs.push_back({fast[i].data(), bytes + i * 777});  // wherever the bytes lie
      }
      auto slow = fast;
      kernel(inputs, count);
      for (size_t i = 0; i < lanes; ++i) {
        digest::Md5::Compress(slow[i].data(), bytes + i * 777, count);
        ASSERT_EQ(fast[i], slow[i]) << name << ", lane " << i << " of " << lanes << ", " << count << " blocks";
      }
    }
  }
}

TEST(DigestTest, Md5SideBySideIsMd5OneByOne) {
  ExpectLanesAgree(digest::Md5LanesPortable, "portable");
  ExpectLanesAgree(digest::Md5CompressLanes, "chosen");
#if defined(__x86_64__)
  if (!digest::CpuFeatures::Get().avx2) GTEST_SKIP() << "no AVX2 on this machine";
  ExpectLanesAgree(digest::Md5LanesAvx2, "AVX2");
  if (!digest::CpuFeatures::Get().avx512) GTEST_SKIP() << "no AVX-512 VL on this machine";
  ExpectLanesAgree(digest::Md5LanesAvx512, "AVX-512");
#endif
}

TEST(DigestTest, BodiesUpdatedTogetherEndAsIfAlone) {
  const auto body = Random(400'000, 21);
  uint32_t state = 5;
  const auto below = [&state](uint32_t limit) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8U) % limit;
  };
  for (int round = 0; round < 60; ++round) {
    const size_t bodies = 1 + below(20);
    std::vector<std::unique_ptr<BodyDigest>> together;
    std::vector<std::unique_ptr<BodyDigest>> alone;
    for (size_t i = 0; i < bodies; ++i) {
      const uint32_t algorithms = below(4) == 0 ? 1 + below(kDigestAll) : uint32_t{kDigestMd5};
      together.push_back(std::make_unique<BodyDigest>(algorithms));
      alone.push_back(std::make_unique<BodyDigest>(algorithms));
    }
    for (int step = 0; step < 8; ++step) {
      std::vector<DigestUpdate> updates;
      for (size_t i = 0; i < bodies; ++i) {
        if (below(5) == 0) continue;
        // Empty ones, ones within a block, and whole runs.
        const size_t length = below(3) == 0 ? below(130) : below(40'000);
        const auto piece = std::span<const std::byte>(body).subspan(below(300'000), length);
        updates.push_back({together[i].get(), piece});
        alone[i]->Update(piece);
      }
      BodyDigest::UpdateTogether(updates);
    }
    for (size_t i = 0; i < bodies; ++i) {
      DigestResults left;
      DigestResults right;
      together[i]->Finish(&left);
      alone[i]->Finish(&right);
      ASSERT_EQ(std::memcmp(&left, &right, sizeof left), 0) << "round " << round << ", body " << i;
    }
  }
}

}  // namespace
}  // namespace pando
