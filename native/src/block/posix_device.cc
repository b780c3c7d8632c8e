// pread and pwrite on a small pool of threads: the fallback where io_uring is refused (seccomp
// profiles of container runtimes do that).
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "block/block_device.h"
#include "block/file_handle.h"

namespace pando {
namespace {

constexpr size_t kThreads = 8;

class PosixDevice final : public BlockDevice {
 public:
  PosixDevice() = default;
  ~PosixDevice() override { Close(); }

  Status Open(const FileDeviceOptions& options) {
    auto file = OpenForDirectIo(options);
    if (!file.ok()) return file.error();
    file_ = std::move(file).value();
    auto size = SizeOf(file_.get());
    if (!size.ok()) return size.error();
    size_ = size.value();
    threads_.reserve(kThreads);
    for (size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Serve(); });
    return {};
  }

  [[nodiscard]] uint64_t size() const override { return size_; }
  [[nodiscard]] bool wants_prewrite() const override { return true; }
  [[nodiscard]] std::string_view name() const override { return "posix"; }
  [[nodiscard]] size_t in_flight() const override { return in_flight_; }

  void Submit(BlockRequest* request) override {
    ++in_flight_;
    waiting_.Push(request);
  }

  size_t Poll(uint64_t wait_us) override {
    std::unique_lock lock(mutex_);
    const bool started = waiting_.size() > 0;
    while (BlockRequest* request = waiting_.Pop()) queue_.Push(request);
    if (started) work_.notify_all();
    if (finished_.empty() && !woken_ && wait_us > 0) {
      // Against the system clock: thread sanitizers of this generation do not see
      // pthread_cond_clockwait.
      done_.wait_until(lock, std::chrono::system_clock::now() + std::chrono::microseconds(wait_us),
                       [this] { return !finished_.empty() || woken_; });
    }
    woken_ = false;
    reaped_.swap(finished_);
    if (event_.get() >= 0 && !reaped_.empty()) {
      uint64_t value = 0;
      [[maybe_unused]] const ssize_t n = ::read(event_.get(), &value, sizeof value);
    }
    lock.unlock();
    for (BlockRequest* request : reaped_) {
      --in_flight_;
      if (request->op == BlockRequest::Op::kAllocate && request->result == 0) {
        size_ = std::max(size_, request->offset + request->length);
      }
      request->done(request);
    }
    const size_t count = reaped_.size();
    reaped_.clear();
    return count;
  }

  void Wake() override {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    done_.notify_one();
  }

  [[nodiscard]] int event_fd() override {
    const std::lock_guard lock(mutex_);
    if (event_.get() < 0) event_ = FileHandle(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return event_.get();
  }

  void Close() override {
    if (threads_.empty()) return;
    PANDO_ASSERT(in_flight_ == 0);
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      work_.notify_all();
    }
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    file_.Reset();
  }

 private:
  void Serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stopping_ || queue_.size() > 0; });
      if (stopping_) return;
      BlockRequest* request = queue_.Pop();
      lock.unlock();
      request->result = Execute(*request);
      lock.lock();
      finished_.push_back(request);
      done_.notify_one();
      if (event_.get() >= 0) {
        const uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(event_.get(), &one, sizeof one);
      }
    }
  }

  [[nodiscard]] int64_t Execute(BlockRequest& request) const {
    switch (request.op) {
      case BlockRequest::Op::kFlush:
        return ::fdatasync(file_.get()) == 0 ? 0 : -errno;
      case BlockRequest::Op::kAllocate: {
        const int status = ::posix_fallocate(file_.get(), static_cast<off_t>(request.offset),
                                             static_cast<off_t>(request.length));
        return -status;
      }
      default:
        return Transfer(request);
    }
  }

  [[nodiscard]] int64_t Transfer(const BlockRequest& request) const {
    std::array<iovec, BlockRequest::kMaxParts> parts = {};
    std::copy_n(request.parts, request.part_count, parts.begin());
    size_t first = 0;
    uint64_t moved = 0;
    while (moved < request.length) {
      const auto offset = static_cast<off_t>(request.offset + moved);
      const auto count = static_cast<int>(request.part_count - first);
      const ssize_t n = request.op == BlockRequest::Op::kRead
                            ? ::preadv(file_.get(), parts.data() + first, count, offset)
                            : ::pwritev2(file_.get(), parts.data() + first, count, offset,
                                         request.durable ? RWF_DSYNC : 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return -errno;
      if (n == 0) break;
      moved += static_cast<uint64_t>(n);
      auto skip = static_cast<size_t>(n);
      while (skip > 0) {
        const size_t step = std::min(skip, parts[first].iov_len);
        parts[first].iov_base = static_cast<std::byte*>(parts[first].iov_base) + step;
        parts[first].iov_len -= step;
        skip -= step;
        if (parts[first].iov_len == 0) ++first;
      }
    }
    return static_cast<int64_t>(moved);
  }

  FileHandle file_;
  uint64_t size_ = 0;
  size_t in_flight_ = 0;
  RequestQueue waiting_;
  std::vector<BlockRequest*> reaped_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable work_;
  std::condition_variable done_;
  RequestQueue queue_;
  std::vector<BlockRequest*> finished_;
  FileHandle event_;
  bool woken_ = false;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<BlockDevice>> OpenPosixDevice(const FileDeviceOptions& options) {
  auto device = std::make_unique<PosixDevice>();
  auto status = device->Open(options);
  if (!status.ok()) return status.error();
  return std::unique_ptr<BlockDevice>(std::move(device));
}

}  // namespace pando
