// What RPC.md says of peers that lie, over every transport of the data plane: one side is a real node, the other one
// is spoken by hand. (test/kit/transport-strangers.ts proves the same over transports whose bytes TypeScript can speak.)
#ifndef PANDO_TEST_RPC_TRANSPORT_SESSION_LAWS_H_
#define PANDO_TEST_RPC_TRANSPORT_SESSION_LAWS_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "rpc/drivers.h"
#include "rpc/transport/hand.h"
#include "support/peer_node.h"

namespace pando::rpc {

/// For a greeting. In an emulated guest whose device loses what it cannot take at once, five seconds were too short by chance.
inline constexpr uint32_t kPatienceMs = 15'000;

struct SessionMaker {
  std::string kind;  // as MakeDriver takes it
  std::function<std::string()> address;
  /// Less where everything is emulated.
  uint32_t most_bytes = kMaxChunkBytes;
};

class SessionLaws : public testing::TestWithParam<SessionMaker> {
 protected:
  void SetUp() override {
    auto made = MakeDriver(GetParam().kind, "");
    ASSERT_TRUE(made.ok()) << made.error().message;
    driver = std::move(made).value();
    ASSERT_TRUE(driver->AddMemory(arena.all()).ok());
    hand = std::make_unique<Hand>(*driver, arena);
  }
  void TearDown() override {
    hand.reset();
    acceptor.reset();
    if (driver) driver->RemoveMemory(arena.all());
  }

  /// A node that listens; its page is 0.
  PeerNode& Server() {
    if (!server) {
      server = std::make_unique<PeerNode>(PeerNodeOptions{.node = 1, .timeout_ms = kPatienceMs});
      EXPECT_NE(server->Listen(0, GetParam().address(), GetParam().kind), 0U) << server->Page(0).message;
      address = server->Page(0).address;
    }
    return *server;
  }
  /// The hand has a session there.
  void Open() {
    Server();
    ASSERT_TRUE(hand->Connect(address));
    const auto answer = hand->Greet(IdentityOfHand(2));
    ASSERT_TRUE(answer.has_value());
    ASSERT_EQ(answer->refusal, Reason::kNone);
    ASSERT_EQ(answer->version, 1);
  }
  /// GOODBYE with the reason, then nothing.
  void ExpectGoodbye(Reason reason, const std::string& what) {
    const auto frame = hand->Hear();
    ASSERT_TRUE(frame.has_value()) << what;
    EXPECT_EQ(frame->header.op, Op::kGoodbye) << what;
    EXPECT_EQ(frame->header.reason, reason) << what;
    EXPECT_TRUE(hand->HearsTheEnd()) << what;
  }
  /// Whatever happened to the hand, another peer is served.
  void ExpectOthersServed() {
    PeerNode other({.node = 3, .timeout_ms = kPatienceMs});
    const uint32_t peer = other.Connect(0, address, GetParam().kind);
    ASSERT_NE(peer, 0U) << other.Page(0).message;
    EXPECT_EQ(other.Put(peer, 77, 100'000), ErrorCode::kOk);
    EXPECT_TRUE(other.IsWhole(peer, 77, 100'000));
  }
  static Header Request(Op op, uint32_t id, uint32_t length = 0, uint16_t flags = 0) {
    Header header;
    header.op = op;
    header.id = id;
    header.length = length;
    header.flags = flags;
    header.chunk = MakeId(1000 + id);
    return header;
  }

  Arena arena{16};
  std::unique_ptr<TransportDriver> driver;
  std::unique_ptr<Hand> hand;
  std::unique_ptr<PeerNode> server;
  std::unique_ptr<Acceptor> acceptor;
  std::string address;
};

}  // namespace pando::rpc

#endif  // PANDO_TEST_RPC_TRANSPORT_SESSION_LAWS_H_
