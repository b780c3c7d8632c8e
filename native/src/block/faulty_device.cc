#include "block/faulty_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pando {

FaultyDevice::FaultyDevice(std::unique_ptr<BlockDevice> inner, FaultPlan plan)
    : inner_(std::move(inner)), plan_(std::move(plan)), random_(plan_.seed) {}

FaultyDevice::~FaultyDevice() = default;

void FaultyDevice::SetPlan(FaultPlan plan) {
  plan_ = std::move(plan);
  random_.seed(plan_.seed);
  seen_ = {};
}

// Stands in for a request whose bytes or outcome are to differ from what its owner will be told.
struct FaultyDevice::Proxy {
  BlockRequest request;
  BlockRequest* original = nullptr;
  AlignedBuffer bytes;
  bool flip = false;
  bool halve = false;
  uint64_t bit = 0;
  int64_t told = 0;  // what the owner of a write is told
};

std::optional<FaultKind> FaultyDevice::Strike(BlockRequest::Op op) {
  const auto kind = static_cast<size_t>(op);
  const uint64_t number = seen_[kind]++;
  constexpr std::array<FaultOp, 4> kOps = {FaultOp::kRead, FaultOp::kWrite, FaultOp::kFlush,
                                           FaultOp::kAllocate};
  for (const Fault& fault : plan_.faults) {
    if (fault.op == kOps[kind] && number >= fault.after && number - fault.after < fault.count) {
      return fault.kind;
    }
  }
  return std::nullopt;
}

void FaultyDevice::Refuse(BlockRequest* request, int64_t result) {
  request->result = result;
  refused_.Push(request);
}

void FaultyDevice::Submit(BlockRequest* request) {
  const auto kind = Strike(request->op);
  if (request->op == BlockRequest::Op::kRead && request->offset < unreadable_.second &&
      request->offset + request->length > unreadable_.first) {
    return Refuse(request, -EIO);
  }
  if (!kind) return inner_->Submit(request);
  const bool moves =
      request->op == BlockRequest::Op::kRead || request->op == BlockRequest::Op::kWrite;
  switch (*kind) {
    case FaultKind::kIoError:
      return Refuse(request, -EIO);
    case FaultKind::kNoSpace:
      return Refuse(request, -ENOSPC);
    case FaultKind::kLost:
      return Refuse(request, moves ? static_cast<int64_t>(request->length) : 0);
    default:
      if (!moves) return inner_->Submit(request);
      return Distort(request, *kind);
  }
}

void FaultyDevice::Distort(BlockRequest* request, FaultKind kind) {
  auto* proxy = new Proxy;
  proxy->original = request;
  proxy->told = static_cast<int64_t>(request->length);
  BlockRequest& stand_in = proxy->request;
  stand_in.op = request->op;
  stand_in.durable = request->durable;
  stand_in.offset = request->offset;
  stand_in.context = proxy;
  uint64_t length = request->length;
  proxy->bit = random_() % (length * 8);
  proxy->flip = kind == FaultKind::kBitFlip;
  proxy->halve = kind == FaultKind::kShort;
  proxy->bytes = AlignedBuffer(length);
  if (request->op == BlockRequest::Op::kWrite) {
    size_t at = 0;
    for (size_t i = 0; i < request->part_count; ++i) {
      std::memcpy(proxy->bytes.data() + at, request->parts[i].iov_base, request->parts[i].iov_len);
      at += request->parts[i].iov_len;
    }
    if (proxy->flip) proxy->bytes.data()[proxy->bit / 8] ^= std::byte{1} << (proxy->bit % 8);
    if (kind == FaultKind::kMisdirect && stand_in.offset + length + kPageBytes <= size()) {
      stand_in.offset += kPageBytes;
    }
    if (kind == FaultKind::kTorn) {
      // Direct I/O moves whole sectors; the device below takes pages, so the rest of the torn page
      // is filled with what nobody wrote.
      const uint64_t kept = random_() % (length / 512) * 512;
      std::memset(proxy->bytes.data() + kept, 0xDB, length - kept);
      length = std::max<uint64_t>(RoundUp(kept, kPageBytes), kPageBytes);
    }
    if (proxy->halve) length = std::max<uint64_t>(length / 2 / kPageBytes * kPageBytes, kPageBytes);
  }
  stand_in.SetPart(proxy->bytes.data(), length);
  stand_in.done = [](BlockRequest* finished) {
    const std::unique_ptr<Proxy> owned(static_cast<Proxy*>(finished->context));
    BlockRequest* owner = owned->original;
    owner->result = finished->result;
    if (finished->result >= 0 && owner->op == BlockRequest::Op::kWrite) owner->result = owned->told;
    if (finished->result >= 0 && owner->op == BlockRequest::Op::kRead) {
      if (owned->flip) owned->bytes.data()[owned->bit / 8] ^= std::byte{1} << (owned->bit % 8);
      size_t at = 0;
      for (size_t i = 0; i < owner->part_count; ++i) {
        std::memcpy(owner->parts[i].iov_base, owned->bytes.data() + at, owner->parts[i].iov_len);
        at += owner->parts[i].iov_len;
      }
    }
    if (owned->halve && owner->result > 0) owner->result /= 2;
    owner->done(owner);
  };
  inner_->Submit(&stand_in);
}

size_t FaultyDevice::Poll(uint64_t wait_us) {
  size_t count = refused_.size();
  for (size_t i = 0; i < count; ++i) {
    BlockRequest* request = refused_.Pop();
    request->done(request);
  }
  return count + inner_->Poll(count > 0 ? 0 : wait_us);
}

}  // namespace pando
