// Taking a bdev, and letting go of it.
#include <fcntl.h>
#include <spdk/env.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "block/spdk/spdk_device.h"

namespace pando {
namespace {

constexpr uint32_t kMostComplaints = 20;

bool IsKernelPath(BdevKind kind) { return kind == BdevKind::kAio || kind == BdevKind::kUring; }

/// Does the kernel say that what this device has completed is on the medium? A partition has its
/// disk's queue.
bool WritesThrough(dev_t device) {
  const std::string folder =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  for (const char* queue : {"/queue/write_cache", "/../queue/write_cache"}) {
    std::string text;
    if (std::getline(std::ifstream(folder + queue), text)) return text == "write through";
  }
  return false;
}

}  // namespace

SpdkDevice::SpdkDevice(SpdkDeviceOptions options)
    : options_(std::move(options)), environment_(SpdkEnvironment::Get()), label_page_(kPageBytes) {}

std::string SpdkDevice::What() const {
  const BdevOptions& bdev = options_.bdev;
  switch (bdev.kind) {
    case BdevKind::kMalloc:
      return "the memory of partition " + std::to_string(options_.partition);
    case BdevKind::kNvme:
      return bdev.target + " namespace " + std::to_string(bdev.name_space);
    case BdevKind::kNvmeTcp:
    case BdevKind::kNvmeRdma:
      return bdev.nqn + " at " + bdev.target + " namespace " + std::to_string(bdev.name_space);
    default:
      return bdev.target;
  }
}

Status SpdkDevice::Open() {
  if (options_.log) log_token_ = environment_.AddLog(options_.log);
  Status status = Guard();
  if (status.ok()) status = OpenBdev();
  if (status.ok()) status = TakeLabel();
  if (!status.ok()) Close();
  return status;
}

// SPDK opens whatever it is given, a mounted disk as well.
Status SpdkDevice::Guard() {
  wake_ = FileHandle(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake_.get() < 0) return SystemError("eventfd", errno);
  if (!IsKernelPath(options_.bdev.kind)) return {};
  const std::string& path = options_.bdev.target;
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) return SystemError(path, errno);
  const bool is_device = S_ISBLK(info.st_mode);
  is_file_ = !is_device;
  if (!is_device && !S_ISREG(info.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, path + " is neither a block device nor a file"};
  }
  // O_EXCL on a block device: nobody has it mounted or exclusively open, and nobody will.
  guard_ = FileHandle(::open(path.c_str(), O_RDWR | O_CLOEXEC | (is_device ? O_EXCL : 0)));
  if (guard_.get() < 0) {
    if (errno != EBUSY) return SystemError("open " + path, errno);
    return Error{ErrorCode::kConflict, path + " is in use: mounted, or part of something else"};
  }
  if (::flock(guard_.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{ErrorCode::kConflict, path + " is open in another process"};
  }
  const bool keeps =
      options_.bdev.kind == BdevKind::kAio || (is_device && WritesThrough(info.st_rdev));
  if (!keeps && !options_.bdev.may_lose) {
    return Error{ErrorCode::kInvalidArgument,
                 path +
                     " has a write cache that SPDK cannot flush through a bdev of kind uring: "
                     "acknowledged writes "
                     "could be lost with the power; use kind aio"};
  }
  return {};
}

Status SpdkDevice::OpenBdev() {
  auto made = environment_.CreateBdev(options_.bdev);
  if (!made.ok()) return Error{made.code(), "no bdev of " + What() + ": " + made.error().message};
  bdev_name_ = std::move(made).value();
  thread_ = spdk_thread_create(bdev_name_.c_str(), nullptr);
  if (thread_ == nullptr) return Error{ErrorCode::kIoError, "SPDK made no thread"};
  const Current current(thread_);
  const auto on_event = [](spdk_bdev_event_type type, spdk_bdev*, void* context) {
    static_cast<SpdkDevice*>(context)->OnEvent(type);
  };
  const int status = spdk_bdev_open_ext(bdev_name_.c_str(), true, on_event, this, &descriptor_);
  if (status != 0) {
    descriptor_ = nullptr;
    return Error{status == -EPERM ? ErrorCode::kConflict : ErrorCode::kIoError,
                 "cannot open " + What() + " (errno " + std::to_string(-status) + ")"};
  }
  bdev_ = spdk_bdev_desc_get_bdev(descriptor_);
  channel_ = spdk_bdev_get_io_channel(descriptor_);
  if (channel_ == nullptr) return Error{ErrorCode::kIoError, "SPDK gave no channel to " + What()};
  block_bytes_ = spdk_bdev_get_block_size(bdev_);
  blocks_ = spdk_bdev_get_num_blocks(bdev_);
  if (block_bytes_ == 0 || kPageBytes % block_bytes_ != 0 || spdk_bdev_get_md_size(bdev_) != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 What() + " has blocks of " + std::to_string(block_bytes_) + " bytes and " +
                     std::to_string(spdk_bdev_get_md_size(bdev_)) +
                     " of metadata; it has to be 512 to 4096, without metadata"};
  }
  const uint64_t bytes = blocks_ * block_bytes_ / kPageBytes * kPageBytes;
  capacity_ = bytes > kLabelAreaBytes ? bytes - kLabelAreaBytes : 0;
  flush_each_ =
      options_.bdev.kind == BdevKind::kNvmeTcp || options_.bdev.kind == BdevKind::kNvmeRdma;
  const bool caches = spdk_bdev_has_write_cache(bdev_);
  flushes_ = caches && spdk_bdev_io_type_supported(bdev_, SPDK_BDEV_IO_TYPE_FLUSH);
  if (caches && !flushes_ && !options_.bdev.may_lose) {
    return Error{ErrorCode::kInvalidArgument, What() + " has a write cache that cannot be flushed"};
  }
  if (options_.log) {
    options_.log(LogLevel::kInfo,
                 What() + ": " + std::to_string(bytes >> 20U) + " MiB, blocks of " +
                     std::to_string(block_bytes_) + " bytes, " +
                     (flushes_ ? "a write cache, flushed for each group of durable writes"
                               : "no write cache to flush"));
  }
  // A device that moves bytes by itself reaches only memory that SPDK knows.
  const bool bounces = options_.bdev.bounce || options_.bdev.kind == BdevKind::kNvme ||
                       options_.bdev.kind == BdevKind::kNvmeRdma;
  pieces_.resize(bounces ? kBouncePieces : kPieces);
  if (bounces) {
    bounce_ =
        static_cast<std::byte*>(spdk_dma_malloc(kBouncePieces * kBounceBytes, kPageBytes, nullptr));
    if (bounce_ == nullptr)
      return Error{ErrorCode::kInsufficientStorage, "SPDK has no memory left for buffers"};
  }
  for (size_t i = 0; i < pieces_.size(); ++i) {
    pieces_[i].device = this;
    if (bounces) pieces_[i].bounce = bounce_ + i * kBounceBytes;
    pieces_[i].next = std::exchange(free_pieces_, &pieces_[i]);
  }
  return {};
}

Status SpdkDevice::TakeLabel() {
  if (capacity_ == 0) return Error{ErrorCode::kInvalidArgument, What() + " is too small"};
  if (options_.bdev.kind == BdevKind::kMalloc) {
    label_.uuid = options_.uuid;
    return WriteLabel() ? Status() : Error{ErrorCode::kIoError, "cannot write to " + What()};
  }
  AlignedBuffer area(kLabelAreaBytes);
  if (RunRaw(BlockRequest::Op::kRead, 0, area.span()) != static_cast<int64_t>(area.size())) {
    return Error{ErrorCode::kIoError, "cannot read " + What()};
  }
  std::optional<BdevLabel> best;
  for (uint64_t copy = 0; copy < kLabelCopies; ++copy) {
    const auto label = DecodeLabel(area.span().subspan(copy * kLabelSpacing, kPageBytes));
    if (label && (!best || label->sequence > best->sequence)) best = label;
  }
  if (best && best->uuid == options_.uuid) {
    if (best->grown_bytes > capacity_) {
      return Error{ErrorCode::kInvalidArgument,
                   What() + " has shrunk below what the store has on it"};
    }
    label_ = *best;
    return {};
  }
  if (best) {
    return Error{
        ErrorCode::kConflict,
        What() + " belongs to another Pando data directory, or to another partition of this one"};
  }
  const bool blank = std::all_of(area.span().begin(), area.span().end(),
                                 [](std::byte b) { return b == std::byte{0}; });
  if (!options_.may_label) {
    return Error{ErrorCode::kConflict,
                 What() + " has no Pando label: it is not the device that partition " +
                     std::to_string(options_.partition) +
                     " was made on, or it has lost its beginning"};
  }
  if (!blank) {
    return Error{ErrorCode::kConflict, What() +
                                           " is not blank: its first MiB holds something. If that "
                                           "may go, overwrite it with zeros"};
  }
  label_.uuid = options_.uuid;
  // Both copies, so that from now on a torn one always leaves another.
  if (!WriteLabel() || !WriteLabel())
    return Error{ErrorCode::kIoError, "cannot write the label of " + What()};
  return {};
}

bool SpdkDevice::WriteLabel() {
  ++label_.sequence;
  EncodeLabel(label_, label_page_.span());
  return RunRaw(BlockRequest::Op::kWrite, LabelOffset(label_.sequence), label_page_.span()) ==
         static_cast<int64_t>(kPageBytes);
}

int64_t SpdkDevice::RunRaw(BlockRequest::Op op, uint64_t offset, std::span<std::byte> bytes) {
  bool done = false;
  raw_ = BlockRequest{};
  raw_.op = op;
  raw_.durable = op == BlockRequest::Op::kWrite;
  raw_.offset = offset;
  raw_.SetPart(bytes.data(), bytes.size());
  raw_.context = &done;
  raw_.done = [](BlockRequest* request) { *static_cast<bool*>(request->context) = true; };
  Submit(&raw_);
  while (!done) Poll(10'000);
  return raw_.result;
}

void SpdkDevice::Complain(const std::string& what) {
  if (complaints_ >= kMostComplaints || !options_.log) return;
  ++complaints_;
  options_.log(LogLevel::kError, What() + ": a request failed: " + what);
}

void SpdkDevice::OnEvent(spdk_bdev_event_type type) {
  if (type == SPDK_BDEV_EVENT_REMOVE) {
    failure_ = -ENODEV;
    if (options_.log)
      options_.log(LogLevel::kError, What() +
                                         " has gone away; the partition reads and writes nothing "
                                         "until it is back and the node was started again");
  } else if (type == SPDK_BDEV_EVENT_RESIZE) {
    const uint64_t bytes = spdk_bdev_get_num_blocks(bdev_) * block_bytes_;
    const bool fits = bytes >= kLabelAreaBytes + label_.grown_bytes;
    if (!fits) failure_ = -EIO;
    if (!options_.log) return;
    options_.log(
        fits ? LogLevel::kInfo : LogLevel::kError,
        What() + " has now " + std::to_string(bytes >> 20U) + " MiB" +
            (fits ? "; a larger size counts from the next start"
                  : ", less than the store has on it: nothing is served from it any more"));
  }
}

// A bdev that goes away waits for us to let go of it.
void SpdkDevice::CloseIfRemoved() {
  if (failure_ == -ENODEV && busy_pieces_ == 0 && !flush_runs_) ReleaseBdev();
}

void SpdkDevice::ReleaseBdev() {
  if (channel_ != nullptr) spdk_put_io_channel(std::exchange(channel_, nullptr));
  if (descriptor_ != nullptr) spdk_bdev_close(std::exchange(descriptor_, nullptr));
}

void SpdkDevice::Close() {
  PANDO_ASSERT(in_flight_ == 0);
  if (thread_ != nullptr) {
    const Current current(thread_);
    ReleaseBdev();
    spdk_thread_exit(thread_);
    while (!spdk_thread_is_exited(thread_)) spdk_thread_poll(thread_, 0, 0);
    spdk_thread_destroy(std::exchange(thread_, nullptr));
  }
  if (bounce_ != nullptr) spdk_dma_free(std::exchange(bounce_, nullptr));
  if (!bdev_name_.empty()) environment_.DeleteBdev(options_.bdev, std::exchange(bdev_name_, {}));
  guard_.Reset();
  if (log_token_) environment_.RemoveLog(*std::exchange(log_token_, std::nullopt));
}

}  // namespace pando
