#include "reactor/port.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "block/aligned_buffer.h"
#include "reactor/reactor.h"
#include "rpc/engine.h"

namespace pando {
namespace {

constexpr size_t kHugePageBytes = 2 << 20;
constexpr uint32_t kTakeAtOnce = 256;

}  // namespace

Region::~Region() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

bool Region::Map(size_t bytes) {
  size_ = bytes;
  void* base = MAP_FAILED;
  if (bytes >= kHugePageBytes && bytes % kHugePageBytes == 0) {
    base = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
                  -1, 0);
    hugepage_ = base != MAP_FAILED;
  }
  if (base == MAP_FAILED) {
    base = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return false;
    // Transparent huge pages, where the administrator allows them on request. Only advice.
    ::madvise(base, size_, MADV_HUGEPAGE);
  }
  base_ = static_cast<std::byte*>(base);
  return true;
}

ReactorPort::ReactorPort(Reactor& home, const std::vector<Reactor*>& all, PortOptions options)
    : home_(home), reactors_(all), options_(std::move(options)) {}

Result<std::unique_ptr<ReactorPort>> ReactorPort::Create(Reactor& home,
                                                         const std::vector<Reactor*>& all,
                                                         PortOptions options) {
  constexpr uint32_t kMostEntries = 32768;
  constexpr uint64_t kMostSlab = (2ULL << 30U) - kPageBytes;
  if (!std::has_single_bit(options.sq_entries) || !std::has_single_bit(options.cq_entries) ||
      options.sq_entries < 2 || options.sq_entries > kMostEntries ||
      options.cq_entries < options.sq_entries || options.cq_entries > 2 * kMostEntries ||
      options.slab_bytes == 0 || options.slab_bytes > kMostSlab) {
    return Error{ErrorCode::kInvalidArgument, "port: ring or slab size is out of range"};
  }
  options.slab_bytes = RoundUp(options.slab_bytes, kPageBytes);
  std::unique_ptr<ReactorPort> port(new ReactorPort(home, all, std::move(options)));
  const PortOptions& o = port->options_;
  const size_t sq_bytes = size_t{o.sq_entries} * sizeof(SqEntry);
  const size_t cq_bytes = size_t{o.cq_entries} * sizeof(CqEntry);
  if (!port->rings_.Map(RoundUp(kPortControlBytes + sq_bytes + cq_bytes, kPageBytes)) ||
      !port->slab_.Map(o.slab_bytes)) {
    return Error{ErrorCode::kInsufficientStorage, "port: no memory for the rings or the slab"};
  }
  std::byte* base = port->rings_.span().data();
  port->control_ = new (base) PortControl;
  port->control_->sq_entries = o.sq_entries;
  port->control_->cq_entries = o.cq_entries;
  port->control_->sq_offset = static_cast<uint32_t>(kPortControlBytes);
  port->control_->cq_offset = static_cast<uint32_t>(kPortControlBytes + sq_bytes);
  port->control_->slab_bytes = o.slab_bytes;
  port->sq_ = reinterpret_cast<SqEntry*>(base + port->control_->sq_offset);
  port->cq_ = reinterpret_cast<CqEntry*>(base + port->control_->cq_offset);
  port->slots_.reserve(o.cq_entries);
  for (uint32_t i = 0; i < o.cq_entries; ++i) {
    port->slots_.push_back(std::make_unique<PortSlot>());
    port->slots_.back()->owner = port.get();
    port->free_.push_back(port->slots_.back().get());
  }
  ReactorPort* raw = port.get();
  home.Post([&home, raw] { home.AddPort(raw); });
  return port;
}

ReactorPort::~ReactorPort() {
  Close();
  if (on_destroy_) on_destroy_();
}

void ReactorPort::Kick() { home_.Wake(); }

void ReactorPort::Close() {
  std::unique_lock lock(close_mutex_);
  if (!close_requested_ && !closed_) {
    close_requested_ = true;
    home_.Post([this] { home_.BeginClose(this); });
  }
  close_done_.wait(lock, [this] { return closed_; });
}

void ReactorPort::FinishClose() {
  const std::lock_guard lock(close_mutex_);
  closed_ = true;
  close_done_.notify_all();
}

uint32_t ReactorPort::CqRoom() const {
  const uint32_t unread =
      control_->cq_tail.value.load(std::memory_order_relaxed) - control_->cq_head.value.load();
  // A consumer that writes nonsense must not make us overrun the ring.
  if (unread > options_.cq_entries) return 0;
  return options_.cq_entries - unread;
}

bool ReactorPort::CanTake() const {
  return !closing_ && in_flight_ < CqRoom() &&
         control_->sq_head.value.load(std::memory_order_relaxed) != control_->sq_tail.value.load();
}

void ReactorPort::SetSleeping(bool sleeping) { control_->sleeping.value.store(sleeping ? 1 : 0); }

size_t ReactorPort::Take() {
  if (closing_) return 0;
  uint32_t head = control_->sq_head.value.load(std::memory_order_relaxed);
  const uint32_t queued = control_->sq_tail.value.load() - head;
  const uint32_t room = CqRoom();
  uint32_t count = std::min(
      {queued, options_.sq_entries, kTakeAtOnce, room > in_flight_ ? room - in_flight_ : 0});
  for (uint32_t i = 0; i < count; ++i, ++head) {
    // Copied out before it is checked: the other side could still change it.
    const SqEntry entry = sq_[head & (options_.sq_entries - 1)];
    Execute(entry);
  }
  if (count > 0) control_->sq_head.value.store(head);
  return count;
}

bool ReactorPort::Valid(const SqEntry& entry) const {
  if (entry.flags != 0 || entry.qos_class >= kMostQosClasses) return false;
  if (IsPeerOp(entry.op)) return ValidForPeer(entry);
  if (entry.op >= kPortOpCount) return false;
  uint64_t bytes = 0;
  switch (static_cast<PortOp>(entry.op)) {
    case PortOp::kPut:
      if (entry.length == 0 || entry.length > kMaxChunkBytes) return false;
      bytes = entry.length;
      break;
    case PortOp::kGet:
      if (entry.length > kMaxChunkBytes) return false;
      bytes = entry.length;
      break;
    case PortOp::kList:
      bytes = uint64_t{entry.length} * sizeof(ListRecord);
      break;
    case PortOp::kStats:
      bytes = sizeof(StoreStats);
      break;
    case PortOp::kScrub:
      if (entry.length == 0 || entry.position >> 56U >= reactors_.size()) return false;
      bytes = uint64_t{entry.length} * sizeof(ScrubFinding);
      break;
    default:
      return true;
  }
  return InSlab(entry.slab_offset, bytes);
}

bool ReactorPort::InSlab(uint64_t offset, uint64_t bytes) const {
  const uint64_t rounded = RoundUp(bytes, kPageBytes);
  return offset % kSlabAlignment == 0 && rounded <= options_.slab_bytes &&
         offset <= options_.slab_bytes - rounded;
}

bool ReactorPort::ValidForPeer(const SqEntry& entry) const {
  const auto asked = std::bit_cast<PeerSqEntry>(entry);
  const auto op = static_cast<PortOp>(entry.op);
  uint64_t bytes = 0;
  if (op == kPeerConnect || op == kPeerListen) bytes = sizeof(PeerPage);
  if (op == kPeerPut || op == kPeerGet) {
    if (asked.length > kMaxChunkBytes || (op == kPeerPut && asked.length == 0)) return false;
    bytes = asked.length;
  }
  if (op == kPeerList) {
    if (asked.length == 0 || asked.length > rpc::kMaxListRecords) return false;
    bytes = uint64_t{asked.length} * sizeof(ListRecord);
  }
  if (op == kPeerStat) bytes = sizeof(StoreStats);
  return InSlab(asked.slab_offset, bytes);
}

void ReactorPort::Refuse(const SqEntry& entry, ErrorCode code) {
  CqEntry completion = {};
  completion.token = entry.token;
  completion.status = static_cast<uint32_t>(code);
  completion.id = entry.id;
  Publish(completion);
}

void ReactorPort::Execute(const SqEntry& entry) {
  if (!Valid(entry)) return Refuse(entry, ErrorCode::kInvalidArgument);
  PANDO_ASSERT(!free_.empty());
  PortSlot* slot = free_.back();
  free_.pop_back();
  ++in_flight_;
  slot->token = entry.token;
  slot->ticket = 0;
  slot->target = &home_;
  StoreRequest& request = slot->request;
  request.op = static_cast<PortOp>(entry.op);
  if (IsPeerOp(entry.op)) {
    request.out_length = request.out_crc = request.out_chunk_length = 0;
    request.out_value = 0;
    request.out_id = entry.id;
    request.os_error = 0;
    return home_.engine().Execute(std::bit_cast<PeerSqEntry>(entry), slot, *this);
  }
  request.qos_class = entry.qos_class;
  request.id = entry.id;
  request.data =
      slab_.span().data() + (entry.slab_offset < options_.slab_bytes ? entry.slab_offset : 0);
  request.length = entry.length;
  request.chunk_offset = entry.chunk_offset;
  request.budget_bytes = entry.budget_bytes;
  request.position = entry.position;
  request.out_length = request.out_crc = request.out_chunk_length = 0;
  request.out_value = 0;
  request.out_id = entry.id;
  request.os_error = 0;

  if (request.op == PortOp::kSync) {
    syncs_.emplace_back(next_ticket_, slot);
    return ReleaseSyncs();
  }
  if (request.op == PortOp::kPut || request.op == PortOp::kDelete) {
    slot->ticket = next_ticket_++;
    tickets_.push_back(false);
  }
  RouteToPartition(slot, reactors_);
}

void ReactorPort::Completed(PortSlot* slot) {
  if (slot->parent != nullptr) {
    PortSlot* parent = slot->parent;
    if (!JoinPart(slot)) return;
    slot = parent;
  }
  const StoreRequest& request = slot->request;
  CqEntry completion = {};
  completion.token = slot->token;
  completion.status = static_cast<uint32_t>(request.status);
  completion.length = request.out_length;
  completion.value = request.out_value;
  completion.crc32c = request.out_crc;
  completion.chunk_length = request.out_chunk_length;
  completion.id = request.out_id;
  completion.os_error = request.os_error;
  if (request.op == PortOp::kScrub && reactors_.size() > 1 && request.status == ErrorCode::kOk) {
    const uint64_t partition = slot->target->index();
    if (request.out_value != 0) {
      completion.value = partition << 56U | request.out_value;
    } else if (partition + 1 < reactors_.size()) {
      completion.value = (partition + 1) << 56U;
    }
  }
  const uint64_t ticket = slot->ticket;
  --in_flight_;
  free_.push_back(slot);
  Publish(completion);
  if (ticket != 0) Settle(ticket);
}

void ReactorPort::Settle(uint64_t ticket) {
  tickets_[ticket - settled_below_] = true;
  while (!tickets_.empty() && tickets_.front()) {
    tickets_.pop_front();
    ++settled_below_;
  }
  ReleaseSyncs();
}

void ReactorPort::ReleaseSyncs() {
  while (!syncs_.empty() && syncs_.front().first <= settled_below_) {
    PortSlot* slot = syncs_.front().second;
    syncs_.pop_front();
    slot->request.status = ErrorCode::kOk;
    Completed(slot);
  }
}

void ReactorPort::Publish(const CqEntry& entry) {
  const uint32_t tail = control_->cq_tail.value.load(std::memory_order_relaxed);
  cq_[tail & (options_.cq_entries - 1)] = entry;
  control_->cq_tail.value.store(tail + 1);
  published_ = true;
}

void ReactorPort::RingDoorbell() {
  if (!published_) return;
  published_ = false;
  if (control_->armed.value.exchange(0) == 1 && options_.doorbell) options_.doorbell();
}

void ReactorPort::BeginClose() {
  closing_ = true;
  control_->closed.value.store(1);
  uint32_t head = control_->sq_head.value.load(std::memory_order_relaxed);
  const uint32_t queued = std::min(control_->sq_tail.value.load() - head, options_.sq_entries);
  const uint32_t room = CqRoom();
  const uint32_t spare = room > in_flight_ ? room - in_flight_ : 0;
  for (uint32_t i = 0; i < std::min(queued, spare); ++i, ++head) {
    const SqEntry entry = sq_[head & (options_.sq_entries - 1)];
    Refuse(entry, ErrorCode::kCancelled);
  }
  control_->sq_head.value.store(head);
}

}  // namespace pando
