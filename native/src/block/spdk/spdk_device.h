// A bdev of SPDK as a block device, driven by whoever polls it. The store sees what lies behind the
// label (label.h), and as much of it as was allocated.
#ifndef PANDO_BLOCK_SPDK_SPDK_DEVICE_H_
#define PANDO_BLOCK_SPDK_SPDK_DEVICE_H_

#include <spdk/bdev.h>
#include <spdk/thread.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/file_handle.h"
#include "block/spdk/backend.h"
#include "block/spdk/environment.h"
#include "block/spdk/label.h"

namespace pando {

class SpdkDevice final : public BlockDevice {
 public:
  explicit SpdkDevice(SpdkDeviceOptions options);
  ~SpdkDevice() override { Close(); }
  [[nodiscard]] Status Open();

  [[nodiscard]] uint64_t size() const override { return label_.grown_bytes; }
  [[nodiscard]] uint64_t capacity() const override { return capacity_; }
  [[nodiscard]] bool wants_prewrite() const override { return true; }
  [[nodiscard]] std::string_view name() const override { return "spdk"; }
  [[nodiscard]] size_t in_flight() const override { return in_flight_; }
  void Submit(BlockRequest* request) override;
  size_t Poll(uint64_t wait_us) override;
  void Wake() override;
  [[nodiscard]] int event_fd() override;
  void Close() override;

 private:
  static constexpr size_t kPieces = 128;
  static constexpr size_t kBounceBytes = 128 << 10;
  static constexpr size_t kBouncePieces = 64;

  /// What SPDK is asked for at once: a whole request, or as much of it as goes through one buffer.
  struct Piece {
    SpdkDevice* device = nullptr;
    BlockRequest* request = nullptr;
    std::array<iovec, BlockRequest::kMaxParts> parts = {};
    uint64_t at = 0;  // in the request
    uint64_t length = 0;
    std::byte* bounce = nullptr;
    Piece* next = nullptr;
  };
  /// SPDK's calls are about the current thread of its own; this one's, while it lives.
  class Current {
   public:
    explicit Current(spdk_thread* thread) : before_(spdk_get_thread()) { spdk_set_thread(thread); }
    ~Current() { spdk_set_thread(before_); }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

   private:
    spdk_thread* before_;
  };

  // Opening.
  [[nodiscard]] Status Guard();
  [[nodiscard]] Status OpenBdev();
  [[nodiscard]] Status TakeLabel();
  [[nodiscard]] int64_t RunRaw(BlockRequest::Op op, uint64_t offset, std::span<std::byte> bytes);
  [[nodiscard]] bool WriteLabel();
  [[nodiscard]] std::string What() const;

  void Start();
  /// False: SPDK has no room; the rest waits.
  bool Issue(BlockRequest* request);
  bool SubmitPiece(Piece* piece);
  void PieceDone(Piece* piece, bool good);
  void DropPiece(BlockRequest* request);
  void StartFlush();
  void FlushDone(bool good);
  void PumpAllocations();
  /// 0 or -errno.
  [[nodiscard]] int ReserveInFile(uint64_t from, uint64_t to) const;
  void Finish(BlockRequest* request, int64_t result);
  void WaitForRoom();
  void CloseIfRemoved();
  void ReleaseBdev();
  void UpdateBell();
  void Complain(const std::string& what);
  void OnEvent(spdk_bdev_event_type type);
  void Turn();
  [[nodiscard]] bool IsRaw(const BlockRequest* request) const { return request == &raw_; }

  SpdkDeviceOptions options_;
  SpdkEnvironment& environment_;
  std::optional<SpdkEnvironment::LogToken> log_token_;
  FileHandle guard_;  // keeps others away from a path of the kernel
  std::string bdev_name_;
  spdk_thread* thread_ = nullptr;
  spdk_bdev_desc* descriptor_ = nullptr;
  spdk_bdev* bdev_ = nullptr;
  spdk_io_channel* channel_ = nullptr;
  uint32_t block_bytes_ = 0;
  uint64_t blocks_ = 0;
  uint64_t capacity_ = 0;
  bool is_file_ = false;
  bool flushes_ = false;
  /// Every write completes only when it is flushed, not only the durable ones: over a network the
  /// device may be another one by the time of the next flush, or the same without its cache.
  bool flush_each_ = false;
  /// What a failed flush left behind is unknown, and the next one would say that all is well.
  bool flush_failed_ = false;
  int failure_ = 0;  // every request from now on ends with it
  uint32_t complaints_ = 0;

  std::vector<Piece> pieces_;
  Piece* free_pieces_ = nullptr;
  size_t busy_pieces_ = 0;
  std::byte* bounce_ = nullptr;

  RequestQueue waiting_;
  BlockRequest* issuing_ = nullptr;
  RequestQueue unflushed_;  // written, or waiting for a flush as such
  RequestQueue flushing_;
  bool flush_runs_ = false;
  RequestQueue allocating_;
  size_t in_flight_ = 0;
  size_t finished_ = 0;
  bool no_room_ = false;
  spdk_bdev_io_wait_entry room_ = {};

  BdevLabel label_;
  AlignedBuffer label_page_;
  BlockRequest raw_;  // at an offset of the bdev: labels
  bool label_runs_ = false;
  BlockRequest* labelling_ = nullptr;  // whose label is being written

  FileHandle wake_;
  FileHandle bell_;
  bool bell_rings_ = false;
  std::atomic<bool> woken_{false};
  std::atomic<bool> sleeping_{false};
};

}  // namespace pando

#endif  // PANDO_BLOCK_SPDK_SPDK_DEVICE_H_
