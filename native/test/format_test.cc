#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "../fuzz/format_fuzz.h"
#include "block/memory_device.h"
#include "pando/crc32c.h"
#include "store/index.h"
#include "support/store_harness.h"

namespace pando {
namespace {

// Sanitizers make a round many times as long.
#if PANDO_SANITIZED
constexpr int kShare = 5;
#else
constexpr int kShare = 1;
#endif

TEST(Format, DecodersSurviveArbitraryBytes) {
  std::mt19937_64 random(20);
  std::vector<std::byte> input(kPageBytes + 1);
  for (int round = 0; round < 60000 / kShare; ++round) {
    const size_t length = round % 5 == 0 ? random() % input.size() : input.size();
    // Small numbers are likelier to be plausible fields than random ones.
    for (size_t i = 0; i < length; ++i) {
      const uint64_t value = random();
      input[i] = std::byte{static_cast<uint8_t>(value % 3 == 0 ? value >> 8U : value % 5)};
    }
    FuzzFormat(std::span<const std::byte>(input).first(length));
  }
}

TEST(Format, ARecordHeaderThatPointsOutsideItsBatchIsRefused) {
  std::vector<std::byte> page(kPageBytes);
  BatchHeader header;
  header.kind = static_cast<uint16_t>(BatchKind::kData);
  header.segment = 3;
  header.page = 7;
  header.payload_pages = 1;
  header.slots = 1;
  RecordHeader record;
  record.type = static_cast<uint8_t>(RecordType::kPut);
  record.length = 4096;
  record.position = 64;
  const auto decode = [&] {
    std::memcpy(page.data(), &header, sizeof header);
    std::memcpy(page.data() + 128, &record, sizeof record);
    SealHeaderPage(page);
    const auto decoded = DecodeBatchHeader(page, {{}, 3, 7, 100});
    std::vector<RecordView> records;
    return decoded.ok() && DecodeRecords(page, decoded.value(), records).ok();
  };
  EXPECT_TRUE(decode());
  record.position = 65;
  EXPECT_FALSE(decode());
  record.position = 64;
  record.length = 4097;
  EXPECT_FALSE(decode());
  record.length = 4096;
  record.extra_slots = 1;
  EXPECT_FALSE(decode());
  record.extra_slots = 0;
  header.payload_pages = 100;
  EXPECT_FALSE(decode());
  header.payload_pages = 1;
  header.page = 8;
  EXPECT_FALSE(decode());
}

// Random damage anywhere in a real store: it opens or refuses, and what it serves is right.
TEST(Format, AStoreDamagedAtRandomNeverServesAWrongByte) {
  auto made = MemoryDevice::Open(64 << 20);
  ASSERT_TRUE(made.ok());
  MemoryDevice& device = *made.value();
  {
    StoreHarness harness(device);
    harness.Format();
    harness.Open();
    for (uint64_t i = 0; i < 120; ++i) ASSERT_EQ(harness.Put(i, 1 + i * 300), ErrorCode::kOk);
    for (uint64_t i = 0; i < 120; i += 4) ASSERT_EQ(harness.Delete(i), ErrorCode::kOk);
  }
  const Bytes pristine(device.medium().begin(), device.medium().end());
  std::mt19937_64 random(5);
  for (int round = 0; round < 25 / kShare; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    std::copy(pristine.begin(), pristine.end(), device.medium().begin());
    for (uint64_t i = 0; i <= random() % 40; ++i) {
      const uint64_t at = random() % 3 == 0 ? random() % 4 * kSuperblockSpacing + random() % 4096
                                            : random() % pristine.size();
      device.medium()[at] = std::byte{static_cast<uint8_t>(random())};
    }
    if (round % 3 == 0) {
      const uint64_t from = random() % (pristine.size() - 8192) / 512 * 512;
      std::fill_n(device.medium().begin() + static_cast<std::ptrdiff_t>(from), 4096, std::byte{0});
    }
    StoreHarness harness(device);
    if (!harness.TryOpen().ok()) continue;
    for (uint64_t i = 0; i < 120; ++i) {
      Bytes out;
      if (harness.Get(MakeId(i), out) == ErrorCode::kOk) {
        ASSERT_TRUE(AreBytesOf(i, 1 + i * 300, out)) << i;
      }
    }
    EXPECT_TRUE(harness.partition().RecountLive());
  }
}

TEST(Index, AgreesWithAMapUnderRandomChanges) {
  Index index;
  std::map<ChunkId, uint32_t> model;
  std::mt19937_64 random(9);
  for (int step = 0; step < 200000; ++step) {
    IndexEntry entry;
    const uint64_t number = random() % 30000;
    // Half of the ids follow each other, half are spread.
    entry.id = number % 2 == 0 ? MakeId(number) : ChunkId{};
    if (number % 2 == 1) {
      for (size_t i = 0; i < 8; ++i)
        entry.id.bytes[8 + i] = static_cast<uint8_t>(number >> (8 * (7 - i)));
    }
    entry.length = static_cast<uint32_t>(1 + random() % 4096);
    entry.crc = static_cast<uint32_t>(random());
    entry.address = 1 << 14;
    if (random() % 3 == 0) {
      const auto gone = index.Erase(entry.id);
      EXPECT_EQ(gone.has_value(), model.erase(entry.id) == 1);
    } else {
      index.Put(entry);
      model[entry.id] = entry.crc;
    }
  }
  ASSERT_EQ(index.size(), model.size());
  for (const auto& [id, crc] : model) ASSERT_EQ(index.Find(id)->crc, crc);
  std::vector<IndexEntry> listed;
  index.List(ChunkId{}, model.size() + 5, listed);
  ASSERT_EQ(listed.size(), model.size());
  auto expected = model.begin();
  for (const IndexEntry& entry : listed) ASSERT_EQ(entry.id, (expected++)->first);
}

TEST(Index, TakesAtMostFortyBytesAChunk) {
  Index index;
  std::mt19937_64 random(1);
  for (uint64_t i = 0; i < 300000; ++i) {
    IndexEntry entry;
    const uint64_t high = random();
    std::memcpy(entry.id.bytes.data(), &high, 8);
    entry.length = 1;
    index.Put(entry);
    if (i > 50000 && i % 1000 == 0) {
      ASSERT_LE(static_cast<double>(index.memory_bytes()) / static_cast<double>(index.size()),
                40.0);
    }
  }
  EXPECT_LE(static_cast<double>(index.memory_bytes()) / static_cast<double>(index.size()), 40.0);
  std::printf("%.1f bytes a chunk\n",
              static_cast<double>(index.memory_bytes()) / static_cast<double>(index.size()));
}

TEST(Crc32c, AgreesWithTheStandardAndWithItselfInPieces) {
  const char* digits = "123456789";
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(digits, 9))), 0xE3069283U);
  const Bytes bytes = MakeBytes(1, 100001);
  const std::span<const std::byte> all(bytes);
  std::mt19937_64 random(2);
  for (int i = 0; i < 200; ++i) {
    const size_t cut = random() % bytes.size();
    const uint32_t first = Crc32c(all.first(cut));
    EXPECT_EQ(Crc32c(all.subspan(cut), first), Crc32c(all));
    EXPECT_EQ(Crc32cCombine(first, Crc32c(all.subspan(cut)), bytes.size() - cut), Crc32c(all));
  }
}

}  // namespace
}  // namespace pando
