#include "support/store_harness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace pando {

ChunkId MakeId(uint64_t number) {
  ChunkId id;
  uint64_t x = number * 0x9E3779B97F4A7C15ULL + 1;
  for (size_t i = 0; i < 8; ++i) id.bytes[i] = static_cast<uint8_t>(x >> (8 * i));
  for (size_t i = 0; i < 8; ++i) id.bytes[8 + i] = static_cast<uint8_t>(number >> (8 * (7 - i)));
  return id;
}

Bytes MakeBytes(uint64_t number, size_t length) {
  // SplitMix64: a Mersenne twister is seeded with 2.5 KB of state, which was a third of the time of a store's test.
  uint64_t state = number * 7919 + length;
  Bytes bytes(length);
  for (size_t i = 0; i < length; i += 8) {
    state += 0x9E3779B97F4A7C15ULL;
    uint64_t value = (state ^ (state >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
    value ^= value >> 31U;
    std::memcpy(bytes.data() + i, &value, std::min<size_t>(8, length - i));
  }
  return bytes;
}

bool AreBytesOf(uint64_t number, size_t length, std::span<const std::byte> bytes) {
  // Vectors of bytes are compared one by one, each of them checked by a sanitizer.
  return bytes.size() == length && std::memcmp(bytes.data(), MakeBytes(number, length).data(), length) == 0;
}

TestRequest::TestRequest(PortOp op, const ChunkId& id, size_t room)
    : buffer(std::max<size_t>(room, kPageBytes)) {
  request.op = op;
  request.id = id;
  request.data = buffer.data();
  request.context = this;
  request.done = [](StoreRequest* finished) {
    static_cast<TestRequest*>(finished->context)->done = true;
  };
}

Bytes TestRequest::Output() const {
  return Bytes(buffer.data(), buffer.data() + request.out_length);
}

StoreOptions SmallOptions() {
  StoreOptions options;
  options.segment_pages = 64;  // 256 KiB
  options.capacity_segments = 32;
  options.initial_segments = 2;
  options.cache_bytes = 0;
  options.checkpoint_log_bytes = 1 << 20;
  for (size_t i = 0; i < 16; ++i) options.uuid[i] = static_cast<uint8_t>(i * 17 + 1);
  return options;
}

StoreHarness::StoreHarness(BlockDevice& device, StoreOptions store_options)
    : options(std::move(store_options)), device_(device) {
  options.now_us = [this] { return now_us; };
  options.log = [this](LogLevel, std::string_view text) { log_.emplace_back(text); };
}

StoreHarness::~StoreHarness() {
  if (store_) Kill();
}

void StoreHarness::Format() {
  const Status status = ChunkStore::Format(device_, options);
  ASSERT_TRUE(status.ok()) << status.error().message;
}

Status StoreHarness::TryOpen() {
  auto store = ChunkStore::Open(device_, options);
  if (!store.ok()) return store.error();
  store_ = std::move(store).value();
  return {};
}

void StoreHarness::Open() {
  const Status status = TryOpen();
  ASSERT_TRUE(status.ok()) << status.error().message;
}

void StoreHarness::Close() {
  const Status status = store_->Close();
  EXPECT_TRUE(status.ok()) << status.error().message;
  store_.reset();
}

void StoreHarness::Kill() {
  store_->Abandon();
  store_.reset();
}

void StoreHarness::Turn() {
  store_->Poll();
  device_.Poll(0);
  store_->Poll();
  now_us += 10;
}

void StoreHarness::Submit(TestRequest& request) {
  request.done = false;
  store_->Submit(&request.request);
}

void StoreHarness::Run(TestRequest& request) {
  Submit(request);
  for (uint64_t turn = 0; !request.done; ++turn) {
    Turn();
    ASSERT_LT(turn, 2000000U) << "a request hangs";
  }
}

void StoreHarness::Settle() {
  for (uint64_t turn = 0; !store_->idle() || device_.in_flight() > 0; ++turn) {
    Turn();
    ASSERT_LT(turn, 2000000U) << "the store does not come to rest";
  }
}

ErrorCode StoreHarness::Put(const ChunkId& id, const Bytes& bytes) {
  TestRequest request(PortOp::kPut, id, bytes.size());
  std::copy(bytes.begin(), bytes.end(), request.buffer.data());
  request.request.length = static_cast<uint32_t>(bytes.size());
  Run(request);
  return request.request.status;
}

ErrorCode StoreHarness::Put(uint64_t number, size_t length) {
  return Put(MakeId(number), MakeBytes(number, length));
}

ErrorCode StoreHarness::Get(const ChunkId& id, Bytes& out, uint32_t offset, uint32_t length) {
  // No chunk is longer than a segment, and a buffer of 4 MiB is written with zeros for each reading.
  const auto room = static_cast<uint32_t>(std::min<size_t>(length, options.segment_pages * kPageBytes));
  TestRequest request(PortOp::kGet, id, room);
  request.request.chunk_offset = offset;
  request.request.length = room;
  Run(request);
  out = request.Output();
  return request.request.status;
}

ErrorCode StoreHarness::Has(uint64_t number) {
  TestRequest request(PortOp::kHas, MakeId(number), 0);
  Run(request);
  return request.request.status;
}

ErrorCode StoreHarness::Delete(uint64_t number) {
  TestRequest request(PortOp::kDelete, MakeId(number), 0);
  Run(request);
  return request.request.status;
}

std::vector<ListRecord> StoreHarness::List(const ChunkId& from, uint32_t limit, bool* more,
                                           ChunkId* next) {
  TestRequest request(PortOp::kList, from, size_t{limit} * sizeof(ListRecord));
  request.request.length = limit;
  Run(request);
  EXPECT_EQ(request.request.status, ErrorCode::kOk);
  std::vector<ListRecord> records(request.request.out_length);
  if (!records.empty()) {
    std::memcpy(records.data(), request.buffer.data(), records.size() * sizeof(ListRecord));
  }
  *more = request.request.out_value == 1;
  *next = request.request.out_id;
  return records;
}

std::vector<ScrubFinding> StoreHarness::Scrub(uint32_t budget) {
  std::vector<ScrubFinding> all;
  uint64_t position = 0;
  do {
    TestRequest request(PortOp::kScrub, ChunkId{}, 64 * sizeof(ScrubFinding));
    request.request.length = 64;
    request.request.budget_bytes = budget;
    request.request.position = position;
    Run(request);
    EXPECT_EQ(request.request.status, ErrorCode::kOk);
    const size_t before = all.size();
    all.resize(before + request.request.out_length);
    if (request.request.out_length > 0) {
      std::memcpy(all.data() + before, request.buffer.data(),
                  request.request.out_length * sizeof(ScrubFinding));
    }
    position = request.request.out_value;
  } while (position != 0);
  return all;
}

uint64_t StoreHarness::Collect() {
  TestRequest request(PortOp::kCollect, ChunkId{}, 0);
  Run(request);
  return request.request.out_value;
}

bool StoreHarness::IsWhole(uint64_t number, size_t length) {
  Bytes out;
  return Get(MakeId(number), out) == ErrorCode::kOk && AreBytesOf(number, length, out);
}

bool StoreHarness::LogHas(std::string_view text) const {
  return std::any_of(log_.begin(), log_.end(), [text](const std::string& line) {
    return line.find(text) != std::string::npos;
  });
}

}  // namespace pando
