// What every transport must obey (rpc/transport.h). The laws are in the .cc file, compiled once: the test file of a
// transport says how its drivers are made and instantiates the suite.
#ifndef PANDO_TEST_RPC_TRANSPORT_LAWS_H_
#define PANDO_TEST_RPC_TRANSPORT_LAWS_H_

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "rpc/transport/endpoint.h"

namespace pando::rpc {

inline uint64_t NowUs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

#if PANDO_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

struct TransportMaker {
  std::string name;
  std::function<std::unique_ptr<TransportDriver>()> driver;
  std::function<std::string()> address;
  /// Where nobody listens.
  std::function<std::string()> empty_address;
  /// Less where everything is emulated.
  uint32_t wake_ups = 20'000;
  /// How much goes through one connection at once. A sanitizer looks at every byte of it several times.
  uint64_t stream_bytes = kSanitized ? 128U << 20U : 1U << 30U;
};

class TransportLaws : public testing::TestWithParam<TransportMaker> {
 protected:
  void SetUp() override {
    server_driver = GetParam().driver();
    client_driver = GetParam().driver();
    ASSERT_TRUE(server_driver && client_driver);
    ASSERT_TRUE(server_driver->AddMemory(server_arena.all()).ok());
    ASSERT_TRUE(client_driver->AddMemory(client_arena.all()).ok());
    Result<std::unique_ptr<Acceptor>> listening =
        server_driver->Listen(GetParam().address(), reception);
    ASSERT_TRUE(listening.ok()) << listening.error().message;
    acceptor = std::move(listening).value();
  }
  void TearDown() override {
    if (client && !client->closed.has_value()) client->connection().Close(false);
    for (auto& guest : reception.guests) {
      if (!guest->closed.has_value()) guest->connection().Close(false);
    }
    if (client) {
      EXPECT_TRUE(Until([&] { return client->closed.has_value(); }));
      EXPECT_TRUE(client->each_done_once());
    }
    for (auto& guest : reception.guests) {
      EXPECT_TRUE(Until([&] { return guest->closed.has_value(); }));
      EXPECT_TRUE(guest->each_done_once());
    }
    reception.guests.clear();
    client.reset();
    acceptor.reset();
    if (server_driver) server_driver->RemoveMemory(server_arena.all());
    if (client_driver) client_driver->RemoveMemory(client_arena.all());
  }

  /// Turns both reactors until it is so; 20 s at most without progress.
  bool Until(const std::function<bool()>& reached) {
    for (uint64_t last_work = NowUs(); !reached();) {
      const uint64_t now = NowUs();
      const size_t work = server_driver->Poll(now) + client_driver->Poll(now);
      if (work > 0) {
        last_work = now;
      } else if (now - last_work > 20'000'000) {
        return false;
      }
    }
    return true;
  }

  void Connect() {
    client = std::make_unique<Endpoint>(client_arena);
    Result<std::unique_ptr<Connection>> made = client_driver->Connect(acceptor->address());
    ASSERT_TRUE(made.ok()) << made.error().message;
    client->Take(std::move(made).value());
    ASSERT_TRUE(Until([&] { return (client->open && !reception.guests.empty()) || client->closed; }));
    ASSERT_FALSE(client->closed.has_value()) << client->why;
    server = reception.guests.back().get();
  }

  std::unique_ptr<TransportDriver> server_driver;
  std::unique_ptr<TransportDriver> client_driver;
  Arena server_arena;
  Arena client_arena;
  Reception reception{server_arena};
  std::unique_ptr<Acceptor> acceptor;
  std::unique_ptr<Endpoint> client;
  Endpoint* server = nullptr;
};

}  // namespace pando::rpc

#endif  // PANDO_TEST_RPC_TRANSPORT_LAWS_H_
