// A data plane with a port, as one node of a region: listens, connects, asks others. For tests.
#ifndef PANDO_TEST_SUPPORT_PEER_NODE_H_
#define PANDO_TEST_SUPPORT_PEER_NODE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "pando/data_plane.h"
#include "pando/peer_layout.h"
#include "pando/port_client.h"
#include "support/store_harness.h"

namespace pando {

struct PeerNodeOptions {
  uint8_t node = 1;
  uint8_t region = 9;
  uint8_t key = 7;
  uint32_t reactors = 1;
  bool faulty = false;
  uint64_t cache_bytes = DataPlaneOptions().cache_bytes;
  FaultPlan faults = {};
  WaitMode wait = WaitMode::kAdaptive;
  uint32_t seal = 0;  // as in PeerPage
  uint32_t timeout_ms = 5000;
};

class PeerNode {
 public:
  static constexpr uint64_t kPages = 64ULL << 20U;  // in the slab: pages of peers lie behind it

  explicit PeerNode(PeerNodeOptions options = {}) : options_(options) {
    DataPlaneOptions plane;
    plane.backend = Backend::kMemory;
    plane.reactors = options.reactors;
    plane.capacity_bytes = 2ULL << 30U;
    plane.wait = options.wait;
    plane.faulty = options.faulty;
    plane.cache_bytes = options.cache_bytes;
    plane.faults = options.faults;
    auto opened = DataPlane::Open(plane);
    EXPECT_TRUE(opened.ok());
    plane_ = std::move(opened).value();
    PortOptions port;
    port.slab_bytes = kPages + (1U << 20U);
    auto made = plane_->OpenPort(port);
    EXPECT_TRUE(made.ok());
    port_ = std::move(made).value();
    client_ = std::make_unique<PortClient>(*port_);
  }
  ~PeerNode() { Close(); }
  void Close() {
    client_.reset();
    port_.reset();
    if (plane_) {
      // One whose device has failed says so, also at its end.
      EXPECT_TRUE(plane_->Close().ok() || options_.faulty);
    }
    plane_.reset();
  }

  [[nodiscard]] std::span<std::byte> slab() { return port_->slab(); }
  PeerPage& Page(uint32_t index) {
    return *reinterpret_cast<PeerPage*>(slab().data() + kPages + size_t{index} * 4096);
  }
  void Fill(uint32_t index, const std::string& address, const std::string& kind = "tcp") {
    PeerPage& page = Page(index);
    page = {};
    std::strncpy(page.kind, kind.c_str(), sizeof page.kind - 1);
    std::strncpy(page.address, address.c_str(), sizeof page.address - 1);
    page.node.fill(options_.node);
    page.region.fill(options_.region);
    page.region_key.fill(std::byte{options_.key});
    page.map_epoch = 5;
    page.timeout_ms = options_.timeout_ms;
    page.keep_alive_ms = 10000;
    page.request_credits = 64;
    page.byte_credits = 16U << 20U;
    page.max_sessions = 1024;
    page.seal = options_.seal;
  }

  uint64_t Push(PeerSqEntry entry) {
    entry.token = ++token_;
    const auto raw = std::bit_cast<SqEntry>(entry);
    EXPECT_TRUE(client_->Push(raw));
    client_->Publish();
    return token_;
  }
  bool Has(uint64_t token) {
    CqEntry completion;
    while (client_->Pop(completion)) done_[completion.token] = completion;
    return done_.contains(token);
  }
  CqEntry Wait(uint64_t token, int seconds = 20) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (!Has(token)) {
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "request " << token << " was not answered";
        CqEntry none = {};
        none.status = 0xFFFFFFFF;
        return none;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    const CqEntry completion = done_.at(token);
    done_.erase(token);
    return completion;
  }
  CqEntry Call(const PeerSqEntry& entry) { return Wait(Push(entry)); }

  static PeerSqEntry Entry(PortOp op, uint32_t peer = 0) {
    PeerSqEntry entry = {};
    entry.op = static_cast<uint8_t>(op);
    entry.peer = peer;
    return entry;
  }
  /// Handle, or 0.
  uint32_t Listen(uint32_t page, const std::string& address = "127.0.0.1:0",
                  const std::string& kind = "tcp") {
    Fill(page, address, kind);
    return Open(kPeerListen, page);
  }
  uint32_t Connect(uint32_t page, const std::string& address, const std::string& kind = "tcp") {
    Fill(page, address, kind);
    return Open(kPeerConnect, page);
  }
  uint32_t Open(PortOp op, uint32_t page) {
    PeerSqEntry entry = Entry(op);
    entry.slab_offset = static_cast<uint32_t>(kPages + uint64_t{page} * 4096);
    const CqEntry completion = Call(entry);
    last_status = static_cast<ErrorCode>(completion.status);
    return completion.status == 0 ? static_cast<uint32_t>(completion.value) : 0;
  }
  void ClosePeer(uint32_t peer, uint32_t grace_ms = 1000) {
    PeerSqEntry entry = Entry(kPeerClose, peer);
    entry.length = grace_ms;
    EXPECT_EQ(Call(entry).status, 0U);
  }

  PeerSqEntry PutEntry(uint32_t peer, uint64_t number, size_t length, uint32_t at = 0) {
    const Bytes bytes = MakeBytes(number, length);
    std::copy(bytes.begin(), bytes.end(), slab().begin() + at);
    PeerSqEntry entry = Entry(kPeerPut, peer);
    entry.id = MakeId(number);
    entry.length = static_cast<uint32_t>(length);
    entry.slab_offset = at;
    return entry;
  }
  ErrorCode Put(uint32_t peer, uint64_t number, size_t length) {
    return static_cast<ErrorCode>(Call(PutEntry(peer, number, length)).status);
  }
  PeerSqEntry GetEntry(uint32_t peer, uint64_t number, uint32_t offset = 0,
                       uint32_t length = kMaxChunkBytes, uint32_t at = 8U << 20U) {
    PeerSqEntry entry = Entry(kPeerGet, peer);
    entry.id = MakeId(number);
    entry.chunk_offset = offset;
    entry.length = length;
    entry.slab_offset = at;
    return entry;
  }
  bool IsWhole(uint32_t peer, uint64_t number, size_t length) {
    const CqEntry completion = Call(GetEntry(peer, number));
    const auto out = slab().subspan(8U << 20U, completion.length);
    return completion.status == 0 && completion.chunk_length == length &&
           AreBytesOf(number, length, out);
  }

  /// A listener whose groups may move: see Moved.
  uint32_t ListenMoving(uint32_t page, const std::string& address = "127.0.0.1:0",
                        const std::string& kind = "tcp") {
    Fill(page, address, kind);
    for (uint32_t i = 0; i < kMovedPages; ++i) {
      Page(page).moved[i] = static_cast<uint32_t>(kPages + uint64_t{page + 1 + i} * 4096);
    }
    return Open(kPeerListen, page);
  }
  /// The group of the chunk has moved with this epoch.
  void Moved(uint32_t page, uint64_t number, uint32_t epoch) {
    const ChunkId id = MakeId(number);
    const uint32_t group = (uint32_t{id.bytes[0]} << 8U | id.bytes[1]) % kPlacementGroups;
    auto* epochs = reinterpret_cast<uint32_t*>(slab().data() + Page(page).moved[group / kMovedPerPage]);
    std::atomic_ref<uint32_t>(epochs[group % kMovedPerPage]).store(epoch);
    std::atomic_ref<uint64_t>(Page(page).map_epoch).store(epoch);
  }

  ErrorCode last_status = ErrorCode::kOk;

 private:
  PeerNodeOptions options_;
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Port> port_;
  std::unique_ptr<PortClient> client_;
  uint64_t token_ = 0;
  std::map<uint64_t, CqEntry> done_;
};

}  // namespace pando

#endif  // PANDO_TEST_SUPPORT_PEER_NODE_H_
