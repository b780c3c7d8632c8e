// A chunk store with a synchronous face, for tests.
#ifndef PANDO_TEST_SUPPORT_STORE_HARNESS_H_
#define PANDO_TEST_SUPPORT_STORE_HARNESS_H_

#include <memory>
#include <string>
#include <span>
#include <vector>

#include "block/aligned_buffer.h"
#include "store/chunk_store.h"

namespace pando {

using Bytes = std::vector<std::byte>;

[[nodiscard]] ChunkId MakeId(uint64_t number);
/// The bytes of chunk `number`: the same every time.
[[nodiscard]] Bytes MakeBytes(uint64_t number, size_t length);
/// `bytes` are what MakeBytes gives.
[[nodiscard]] bool AreBytesOf(uint64_t number, size_t length, std::span<const std::byte> bytes);

/// One request with memory of its own.
struct TestRequest {
  StoreRequest request;
  AlignedBuffer buffer;
  bool done = false;
  uint64_t number = 0;

  TestRequest(PortOp op, const ChunkId& id, size_t room);
  [[nodiscard]] Bytes Output() const;
};

/// Small segments, so that tests fill and collect them quickly.
[[nodiscard]] StoreOptions SmallOptions();

class StoreHarness {
 public:
  explicit StoreHarness(BlockDevice& device, StoreOptions options = SmallOptions());
  ~StoreHarness();

  /// The store of a device that was formatted before.
  void Open();
  [[nodiscard]] Status TryOpen();
  void Format();
  /// A clean end.
  void Close();
  /// The process dies: nothing more is written.
  void Kill();

  ErrorCode Put(uint64_t number, size_t length);
  ErrorCode Put(const ChunkId& id, const Bytes& bytes);
  ErrorCode Get(const ChunkId& id, Bytes& out, uint32_t offset = 0,
                uint32_t length = kMaxChunkBytes);
  ErrorCode Has(uint64_t number);
  ErrorCode Delete(uint64_t number);
  [[nodiscard]] std::vector<ListRecord> List(const ChunkId& from, uint32_t limit, bool* more,
                                             ChunkId* next);
  [[nodiscard]] std::vector<ScrubFinding> Scrub(uint32_t budget = 1 << 20);
  uint64_t Collect();
  /// The chunk is there, with the bytes that MakeBytes gives.
  [[nodiscard]] bool IsWhole(uint64_t number, size_t length);

  void Submit(TestRequest& request);
  void Run(TestRequest& request);
  void Turn();
  /// Until nothing is under way.
  void Settle();

  [[nodiscard]] ChunkStore& store() { return *store_; }
  [[nodiscard]] Partition& partition() { return store_->partition(); }
  [[nodiscard]] const std::vector<std::string>& log() const { return log_; }
  [[nodiscard]] bool LogHas(std::string_view text) const;
  StoreOptions options;
  uint64_t now_us = 1;

 private:
  BlockDevice& device_;
  std::unique_ptr<ChunkStore> store_;
  std::vector<std::string> log_;
};

}  // namespace pando

#endif  // PANDO_TEST_SUPPORT_STORE_HARNESS_H_
