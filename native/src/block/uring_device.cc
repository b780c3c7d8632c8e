// io_uring with direct I/O. One ring per reactor, created on the reactor's thread.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <vector>

#include "block/block_device.h"
#include "block/file_handle.h"

#if PANDO_HAVE_URING
#include <fcntl.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>
#endif

#if PANDO_SANITIZED_THREAD
#include <sanitizer/tsan_interface.h>
#endif

namespace pando {

#if PANDO_HAVE_URING
namespace {

// liburing maps and unmaps a ring by bare system calls, which ThreadSanitizer does not see: when one reactor's
// ring takes the address that another's has just given back, it would report the old owner's writes as a race.
// The kernel orders the two; these say so.
#if PANDO_SANITIZED_THREAD
char ring_memory;
void RingMapped() { __tsan_acquire(&ring_memory); }
void RingGoes() { __tsan_release(&ring_memory); }
#else
void RingMapped() {}
void RingGoes() {}
#endif

constexpr unsigned kRingEntries = 256;
constexpr unsigned kReapPart = 8;
constexpr size_t kMaxStarted = 256;  // a completion queue twice as large never overflows

class UringDevice final : public BlockDevice {
 public:
  UringDevice() = default;
  ~UringDevice() override { Close(); }

  Status Open(const FileDeviceOptions& options) {
    // Deferred task work runs completions only when we ask, on the thread that asks: fewer
    // interrupts of the reactor. Older kernels refuse the flags.
    constexpr std::array<unsigned, 3> kFlagSets = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0};
    int error = 0;
    for (const unsigned flags : kFlagSets) {
      io_uring_params parameters = {};
      parameters.flags = flags;
      error = io_uring_queue_init_params(kRingEntries, &ring_, &parameters);
      if (error == 0) RingMapped();
      if (error == 0 && (parameters.features & IORING_FEAT_EXT_ARG) == 0) {
        RingGoes();
        io_uring_queue_exit(&ring_);
        error = -ENOSYS;
      }
      if (error == 0) {
        deferred_ = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
        break;
      }
      if (error != -EINVAL) break;
    }
    if (error != 0) return SystemError("io_uring_queue_init", -error);
    open_ = true;
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    bool supported = probe != nullptr;
    for (const int op : {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
                         IORING_OP_READ}) {
      supported = supported && io_uring_opcode_supported(probe, op) != 0;
    }
    if (probe != nullptr) io_uring_free_probe(probe);
    if (!supported) return Error{ErrorCode::kIoError, "io_uring lacks an operation"};

    auto file = OpenForDirectIo(options);
    if (!file.ok()) return file.error();
    file_ = std::move(file).value();
    auto size = SizeOf(file_.get());
    if (!size.ok()) return size.error();
    size_ = size.value();
    wake_ = FileHandle(::eventfd(0, EFD_CLOEXEC));
    if (wake_.get() < 0) return SystemError("eventfd", errno);
    const std::array<int, 2> files = {file_.get(), wake_.get()};
    registered_ = io_uring_register_files(&ring_, files.data(), files.size()) == 0;
    ArmWake();
    return {};
  }

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool wants_prewrite() const override { return true; }
  [[nodiscard]] std::string_view name() const override { return "uring"; }
  [[nodiscard]] size_t in_flight() const override { return started_ + waiting_.size(); }

  void Submit(BlockRequest* request) override {
    request->moved = 0;
    waiting_.Push(request);
  }

  size_t Poll(uint64_t wait_us) override {
    Start(wait_us > 0);
    size_t finished = Reap();
    if (finished == 0 && wait_us > 0) {
      __kernel_timespec timeout = {};
      timeout.tv_sec = static_cast<int64_t>(wait_us / 1000000);
      timeout.tv_nsec = static_cast<long long>(wait_us % 1000000) * 1000;
      io_uring_cqe* cqe = nullptr;
      io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
      finished = Reap();
    }
    return finished;
  }

  void Wake() override {
    woken_.store(true);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
  }

  // The ring's own descriptor does not wake who sleeps over it when a completion's work is deferred: that was slept through until
  // the sleep was over. An eventfd of the ring is told.
  // Nobody reads it: each completion is an edge, and some are told late.
  [[nodiscard]] int event_fd() override {
    if (event_.get() < 0) {
      FileHandle event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      if (event.get() < 0 || io_uring_register_eventfd(&ring_, event.get()) != 0) return ring_.ring_fd;
      event_ = std::move(event);
    }
    return event_.get();
  }

  [[nodiscard]] bool tells_edges() const override { return true; }

  void Close() override {
    if (!open_) return;
    PANDO_ASSERT(in_flight() == 0);
    RingGoes();
    io_uring_queue_exit(&ring_);
    file_.Reset();
    open_ = false;
  }

 private:
  io_uring_sqe* NextSqe() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }

  void SetFile(io_uring_sqe* sqe, int index, int fd) const {
    sqe->fd = registered_ ? index : fd;
    if (registered_) sqe->flags |= IOSQE_FIXED_FILE;
  }

  void ArmWake() {
    io_uring_sqe* sqe = NextSqe();
    PANDO_ASSERT(sqe != nullptr);
    io_uring_prep_read(sqe, 0, &wake_value_, sizeof wake_value_, 0);
    SetFile(sqe, 1, wake_.get());
    io_uring_sqe_set_data(sqe, nullptr);
  }

  // Hands over what was submitted; the kernel's own work on completions is done on the way, unless
  // a wait follows, which does both in one call.
  void Start(bool waits) {
    bool queued = false;
    while (started_ < kMaxStarted && waiting_.size() > 0) {
      io_uring_sqe* sqe = NextSqe();
      if (sqe == nullptr) break;
      BlockRequest* request = waiting_.Pop();
      Prepare(sqe, request);
      ++started_;
      queued = true;
    }
    if (waits) return;
    if (queued || io_uring_sq_ready(&ring_) > 0) {
      if (deferred_) {
        io_uring_submit_and_get_events(&ring_);
      } else {
        io_uring_submit(&ring_);
      }
    } else if (deferred_ && (started_ > 0 || woken_.load()) && io_uring_cq_ready(&ring_) == 0) {
      io_uring_get_events(&ring_);
    }
  }

  void Prepare(io_uring_sqe* sqe, BlockRequest* request) const {
    const auto parts = static_cast<unsigned>(request->part_count);
    switch (request->op) {
      case BlockRequest::Op::kRead:
        io_uring_prep_readv(sqe, 0, request->parts, parts, request->offset + request->moved);
        break;
      case BlockRequest::Op::kWrite:
        io_uring_prep_writev(sqe, 0, request->parts, parts, request->offset + request->moved);
        if (request->durable) sqe->rw_flags = RWF_DSYNC;
        break;
      case BlockRequest::Op::kFlush:
        io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
        break;
      case BlockRequest::Op::kAllocate:
        io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, 0, nullptr, 0, request->offset);
        sqe->addr = request->length;
        break;
    }
    SetFile(sqe, 0, file_.get());
    io_uring_sqe_set_data(sqe, request);
  }

  size_t Reap() {
    size_t finished = 0;
    std::array<io_uring_cqe*, 64> batch = {};
    // A part of what is ready: what its requesters ask for next is started before the rest is
    // looked at, so that a device that serves its queue in rounds does not wait for us.
    const unsigned most = std::max(1U, io_uring_cq_ready(&ring_) / kReapPart);
    while (finished < most) {
      const unsigned n = io_uring_peek_batch_cqe(&ring_, batch.data(),
                                                 std::min<unsigned>(most, batch.size()));
      if (n == 0) break;
      // Copied out first: `done` may submit, and must find room in the ring.
      std::array<std::pair<BlockRequest*, int>, 64> results;
      for (unsigned i = 0; i < n; ++i) {
        results[i] = {static_cast<BlockRequest*>(io_uring_cqe_get_data(batch[i])), batch[i]->res};
      }
      io_uring_cq_advance(&ring_, n);
      for (unsigned i = 0; i < n; ++i) {
        auto [request, result] = results[i];
        if (request == nullptr) {
          woken_.store(false);
          ArmWake();
          ++finished;  // ends the wait
          continue;
        }
        --started_;
        // Also what goes on with the rest of a short transfer: somebody must start that before he sleeps.
        Finish(request, result);
        ++finished;
      }
    }
    return finished;
  }

  // A short transfer goes back for the rest.
  void Finish(BlockRequest* request, int result) {
    const bool transfers =
        request->op == BlockRequest::Op::kRead || request->op == BlockRequest::Op::kWrite;
    if (result == -EAGAIN || result == -EINTR) {
      waiting_.Push(request);
      return;
    }
    if (result == -EOPNOTSUPP && request->op == BlockRequest::Op::kAllocate) {
      size_ = std::max(size_, request->offset + request->length);
    }
    if (result < 0) {
      request->result = result;
    } else if (!transfers) {
      request->result = 0;
      if (request->op == BlockRequest::Op::kAllocate) {
        size_ = std::max(size_, request->offset + request->length);
      }
    } else {
      request->moved += static_cast<uint64_t>(result);
      if (result > 0 && request->moved < request->length) {
        auto skip = static_cast<size_t>(result);
        while (skip > 0) {
          iovec& part = request->parts[0];
          const size_t step = std::min(skip, part.iov_len);
          part.iov_base = static_cast<std::byte*>(part.iov_base) + step;
          part.iov_len -= step;
          skip -= step;
          if (part.iov_len == 0 && request->part_count > 1) {
            request->parts[0] = request->parts[1];
            request->part_count = 1;
          }
        }
        waiting_.Push(request);
        return;
      }
      request->result = static_cast<int64_t>(request->moved);
    }
    request->done(request);
  }

  io_uring ring_ = {};
  bool open_ = false;
  bool deferred_ = false;
  bool registered_ = false;
  FileHandle file_;
  FileHandle wake_;
  FileHandle event_;  // of the ring, once somebody sleeps over it
  std::atomic<bool> woken_ = false;
  uint64_t wake_value_ = 0;
  uint64_t size_ = 0;
  size_t started_ = 0;
  RequestQueue waiting_;
};

}  // namespace

Result<std::unique_ptr<BlockDevice>> OpenUringDevice(const FileDeviceOptions& options) {
  auto device = std::make_unique<UringDevice>();
  auto status = device->Open(options);
  if (!status.ok()) return status.error();
  return std::unique_ptr<BlockDevice>(std::move(device));
}

#else

Result<std::unique_ptr<BlockDevice>> OpenUringDevice(const FileDeviceOptions&) {
  return Error{ErrorCode::kIoError, "built without liburing"};
}

#endif

}  // namespace pando
