#include "block/spdk/spdk_device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace pando {
namespace {

/// Requests under way are polled for so long before the thread naps between two looks.
constexpr uint64_t kSpinUs = 200;
constexpr long kNapNs = 50'000;
/// SPDK's own messages (a device that goes away, for example) are looked for so often.
constexpr uint64_t kIdlePollUs = 20'000;

uint64_t MonotonicUs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

void Drain(int fd) {
  uint64_t value = 0;
  [[maybe_unused]] const ssize_t n = ::read(fd, &value, sizeof value);
}

void Ring(int fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(fd, &one, sizeof one);
}

void Nap(int fd, long nanoseconds) {
  pollfd waited = {fd, POLLIN, 0};
  const timespec time = {nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  if (::ppoll(&waited, 1, &time, nullptr) > 0) Drain(fd);
}

// The bytes of a request from `at` on, between its parts and one piece of memory.
template <typename Copy>
void EachPart(const BlockRequest& request, uint64_t at, uint64_t length, Copy copy) {
  uint64_t position = 0;
  uint64_t done = 0;
  for (size_t i = 0; i < request.part_count && done < length; ++i) {
    const iovec& part = request.parts[i];
    const uint64_t skip =
        at + done > position ? std::min<uint64_t>(at + done - position, part.iov_len) : 0;
    const uint64_t step = std::min(part.iov_len - skip, length - done);
    if (step > 0) copy(static_cast<std::byte*>(part.iov_base) + skip, done, step);
    done += step;
    position += part.iov_len;
  }
}

}  // namespace

void SpdkDevice::Submit(BlockRequest* request) {
  request->moved = 0;
  request->pieces = 1;  // the issuer's own, until all of it has been asked for
  request->failure = 0;
  ++in_flight_;
  waiting_.Push(request);
}

void SpdkDevice::Start() {
  if (no_room_) return;
  while (issuing_ != nullptr || waiting_.size() > 0) {
    BlockRequest* request = issuing_ != nullptr ? issuing_ : waiting_.Pop();
    issuing_ = nullptr;
    if (failure_ != 0) {
      request->failure = failure_;
      DropPiece(request);
    } else if (request->op == BlockRequest::Op::kAllocate) {
      allocating_.Push(request);
      PumpAllocations();
    } else if (request->op == BlockRequest::Op::kFlush) {
      flushes_ ? unflushed_.Push(request) : Finish(request, 0);
    } else if (!Issue(request)) {
      issuing_ = request;
      break;
    }
  }
  StartFlush();
}

bool SpdkDevice::Issue(BlockRequest* request) {
  // Behind the end of what was allocated there is nothing, as at the end of a file.
  if (!IsRaw(request) && request->offset + request->length > label_.grown_bytes) {
    Finish(request, request->op == BlockRequest::Op::kRead ? 0 : -ENOSPC);
    return true;
  }
  while (request->moved < request->length && request->failure == 0) {
    Piece* piece = free_pieces_;
    if (piece == nullptr) return false;
    piece->request = request;
    piece->at = request->moved;
    piece->length = request->length - request->moved;
    if (piece->bounce != nullptr) piece->length = std::min<uint64_t>(piece->length, kBounceBytes);
    if (!SubmitPiece(piece)) return false;
  }
  DropPiece(request);
  return true;
}

bool SpdkDevice::SubmitPiece(Piece* piece) {
  BlockRequest* request = piece->request;
  int parts = request->part_count;
  if (piece->bounce == nullptr) {
    std::copy_n(request->parts, request->part_count, piece->parts.begin());
  } else {
    parts = 1;
    piece->parts[0] = {piece->bounce, piece->length};
    if (request->op == BlockRequest::Op::kWrite) {
      EachPart(*request, piece->at, piece->length,
               [piece](std::byte* from, uint64_t at, uint64_t step) {
                 std::memcpy(piece->bounce + at, from, step);
               });
    }
  }
  const uint64_t offset = request->offset + piece->at + (IsRaw(request) ? 0 : kLabelAreaBytes);
  const auto done = [](spdk_bdev_io* io, bool good, void* context) {
    auto* finished = static_cast<Piece*>(context);
    if (!good) {
      uint32_t dword = 0;
      int type = 0;
      int code = 0;
      spdk_bdev_io_get_nvme_status(io, &dword, &type, &code);
      finished->device->Complain("status " + std::to_string(type) + "/" + std::to_string(code));
    }
    spdk_bdev_free_io(io);
    finished->device->PieceDone(finished, good);
  };
  free_pieces_ = piece->next;
  ++busy_pieces_;
  ++request->pieces;
  request->moved += piece->length;
  const auto submit =
      request->op == BlockRequest::Op::kRead ? spdk_bdev_readv_blocks : spdk_bdev_writev_blocks;
  const int status = submit(descriptor_, channel_, piece->parts.data(), parts,
                            offset / block_bytes_, piece->length / block_bytes_, done, piece);
  if (status == 0) return true;
  if (status != -ENOMEM) {
    Complain("refused with errno " + std::to_string(-status));
    PieceDone(piece, false);
    return true;
  }
  request->moved -= piece->length;
  --request->pieces;
  --busy_pieces_;
  piece->next = std::exchange(free_pieces_, piece);
  WaitForRoom();
  return false;
}

// SPDK's pool of requests is empty: it calls when one comes back. Until then everything waits here.
void SpdkDevice::WaitForRoom() {
  if (no_room_) return;
  no_room_ = true;
  room_.bdev = bdev_;
  room_.cb_arg = this;
  room_.cb_fn = [](void* context) { static_cast<SpdkDevice*>(context)->no_room_ = false; };
  if (spdk_bdev_queue_io_wait(bdev_, channel_, &room_) != 0) no_room_ = false;
}

void SpdkDevice::PieceDone(Piece* piece, bool good) {
  BlockRequest* request = piece->request;
  if (!good) {
    request->failure = failure_ != 0 ? failure_ : -EIO;
  } else if (piece->bounce != nullptr && request->op == BlockRequest::Op::kRead) {
    EachPart(*request, piece->at, piece->length,
             [piece](std::byte* to, uint64_t at, uint64_t step) {
               std::memcpy(to, piece->bounce + at, step);
             });
  }
  --busy_pieces_;
  piece->next = std::exchange(free_pieces_, piece);
  DropPiece(request);
}

// The last one ends the request, which is gone then: it belongs to whoever waited for it.
void SpdkDevice::DropPiece(BlockRequest* request) {
  if (--request->pieces > 0) return;
  if (request->failure != 0) return Finish(request, request->failure);
  const bool flush = request->durable || flush_each_;
  if (request->op == BlockRequest::Op::kWrite && flush && flushes_) return unflushed_.Push(request);
  Finish(request, static_cast<int64_t>(request->length));
}

// One flush for all writes that completed before it began. Those that complete meanwhile wait for
// the next: a flush promises nothing about them.
void SpdkDevice::StartFlush() {
  if (flush_runs_ || no_room_ || unflushed_.size() == 0) return;
  if (failure_ != 0 || flush_failed_) {
    const int failure = failure_ != 0 ? failure_ : -EIO;
    while (BlockRequest* request = unflushed_.Pop()) Finish(request, failure);
    return;
  }
  flush_runs_ = true;
  std::swap(flushing_, unflushed_);
  const auto done = [](spdk_bdev_io* io, bool good, void* context) {
    spdk_bdev_free_io(io);
    static_cast<SpdkDevice*>(context)->FlushDone(good);
  };
  const int status = spdk_bdev_flush_blocks(descriptor_, channel_, 0, blocks_, done, this);
  if (status == -ENOMEM) {
    std::swap(flushing_, unflushed_);
    flush_runs_ = false;
    return WaitForRoom();
  }
  if (status != 0) FlushDone(false);
}

void SpdkDevice::FlushDone(bool good) {
  if (!good) {
    Complain(
        "a flush failed; nothing more is called durable there until the node was started again");
    flush_failed_ = true;
  }
  flush_runs_ = false;
  RequestQueue flushed;
  std::swap(flushed, flushing_);
  while (BlockRequest* request = flushed.Pop()) {
    Finish(request, good ? static_cast<int64_t>(
                               request->op == BlockRequest::Op::kWrite ? request->length : 0)
                         : -EIO);
  }
}

// The label says how far the store has grown before anything is written there.
void SpdkDevice::PumpAllocations() {
  while (!label_runs_ && allocating_.size() > 0) {
    BlockRequest* request = allocating_.Pop();
    const uint64_t end = RoundUp(request->offset + request->length, kPageBytes);
    if (end > capacity_ || end < request->offset) {
      Finish(request, -ENOSPC);
      continue;
    }
    if (end <= label_.grown_bytes) {
      Finish(request, 0);
      continue;
    }
    if (const int refused = ReserveInFile(label_.grown_bytes, end); refused != 0) {
      Finish(request, refused);
      continue;
    }
    label_runs_ = true;
    BdevLabel next = label_;
    ++next.sequence;
    next.grown_bytes = end;
    EncodeLabel(next, label_page_.span());
    raw_ = BlockRequest{};
    raw_.op = BlockRequest::Op::kWrite;
    raw_.durable = true;
    raw_.offset = LabelOffset(next.sequence);
    raw_.SetPart(label_page_.data(), kPageBytes);
    // Found again by the completion: there is one allocation under way.
    raw_.context = this;
    labelling_ = request;
    raw_.done = [](BlockRequest* label) {
      auto* device = static_cast<SpdkDevice*>(label->context);
      BlockRequest* owner = std::exchange(device->labelling_, nullptr);
      device->label_runs_ = false;
      if (label->result == static_cast<int64_t>(kPageBytes)) {
        ++device->label_.sequence;
        device->label_.grown_bytes = RoundUp(owner->offset + owner->length, kPageBytes);
        device->Finish(owner, 0);
      } else {
        device->Finish(owner, label->result < 0 ? label->result : -EIO);
      }
      device->PumpAllocations();
    };
    Submit(&raw_);
  }
}

// Of a file that is sparse, as truncate makes it: better no room now than in the middle of a write.
int SpdkDevice::ReserveInFile(uint64_t from, uint64_t to) const {
  if (!is_file_) return 0;
  int status = -1;
  do {
    status = ::fallocate(guard_.get(), 0, static_cast<off_t>(kLabelAreaBytes + from),
                         static_cast<off_t>(to - from));
  } while (status != 0 && errno == EINTR);
  // Without fallocate only writing tells; where there is no room, that ends as a failed write.
  return status == 0 || errno == EOPNOTSUPP ? 0 : -errno;
}

void SpdkDevice::Finish(BlockRequest* request, int64_t result) {
  request->result = result;
  --in_flight_;
  ++finished_;
  request->done(request);
}

void SpdkDevice::Turn() {
  Start();
  spdk_thread_poll(thread_, 0, 0);
  Start();
  CloseIfRemoved();
}

size_t SpdkDevice::Poll(uint64_t wait_us) {
  const Current current(thread_);
  finished_ = 0;
  Turn();
  if (wait_us > 0 && finished_ == 0) {
    const uint64_t began = MonotonicUs();
    while (finished_ == 0 && !woken_.exchange(false)) {
      const uint64_t waited = MonotonicUs() - began;
      if (waited >= wait_us) break;
      const bool idle = in_flight_ == 0;
      if (idle || waited >= kSpinUs) {
        const uint64_t nap_us = idle ? std::min(wait_us - waited, kIdlePollUs) : 0;
        sleeping_.store(true);
        if (!woken_.load()) Nap(wake_.get(), idle ? static_cast<long>(nap_us) * 1000 : kNapNs);
        sleeping_.store(false);
      }
      Turn();
    }
  }
  UpdateBell();
  return finished_;
}

void SpdkDevice::Wake() {
  woken_.store(true);
  if (sleeping_.load()) Ring(wake_.get());
}

int SpdkDevice::event_fd() {
  if (bell_.get() < 0) bell_ = FileHandle(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  return bell_.get();
}

// SPDK's completions are seen only by looking: while any is awaited, nobody sleeps on the bell.
void SpdkDevice::UpdateBell() {
  const bool ring = in_flight_ > 0;
  if (bell_.get() < 0 || ring == bell_rings_) return;
  bell_rings_ = ring;
  ring ? Ring(bell_.get()) : Drain(bell_.get());
}

}  // namespace pando
