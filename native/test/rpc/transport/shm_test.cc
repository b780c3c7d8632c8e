#include "rpc/transport/shm_driver.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/transport/shm_connection.h"
#include "rpc/transport/session_laws.h"
#include "rpc/transport/transport_laws.h"

namespace pando::rpc {
namespace {

std::string FreshPath() {
  static std::atomic<int> count{0};
  const char* const folder = std::getenv("TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/pando-shm-" +
         std::to_string(::getpid()) + "-" + std::to_string(count++);
}

// The smallest rings wrap all the time, and a connection without hot time rings for everything.
INSTANTIATE_TEST_SUITE_P(
    Shm, TransportLaws,
    testing::Values(TransportMaker{"shm", [] { return ShmDriver::Open().value(); }, FreshPath,
                                   FreshPath},
                    TransportMaker{
                        "smallest",
                        [] { return ShmDriver::Open({.ring_bytes = 4096, .hot_us = 0}).value(); },
                        FreshPath, FreshPath}),
    [](const auto& of) { return of.param.name; });

INSTANTIATE_TEST_SUITE_P(Shm, SessionLaws, testing::Values(SessionMaker{"shm", FreshPath}),
                         [](const auto& of) { return of.param.kind; });

/// A server with a peer that speaks the transport's set-up by hand, and then does as it likes.
class HostileShmPeer : public testing::Test {
 protected:
  void SetUp() override {
    driver = ShmDriver::Open().value();
    path = FreshPath();
    acceptor = driver->Listen(path, reception).value();
  }
  void TearDown() override {
    for (auto& guest : reception.guests) {
      if (!guest->closed) guest->connection().Close(false);
    }
    Turn();
    reception.guests.clear();
    acceptor.reset();
  }
  void Turn(int times = 50) {
    for (int i = 0; i < times; ++i) driver->Poll(now += 100);
  }
  /// Connects as a client would.
  void Connect() {
    socket = ConnectUnix(path).value();
    Turn();
    ShmOffer offer;
    ReceivedDescriptor got =
        ReceiveDescriptor(socket.get(), std::as_writable_bytes(std::span(&offer, 1)));
    ASSERT_EQ(got.outcome, ReceivedDescriptor::Outcome::kOk);
    region = ShmRegion::Map(got.descriptor, offer.ring_bytes).value();
    file = std::move(got.descriptor);
    ASSERT_EQ(reception.guests.size(), 1U);
  }
  Endpoint& guest() { return *reception.guests[0]; }

  Arena arena;
  Reception reception{arena};
  std::unique_ptr<ShmDriver> driver;
  std::unique_ptr<Acceptor> acceptor;
  std::string path;
  FileHandle socket;
  FileHandle file;
  ShmRegion region;
  uint64_t now = 1;
};

TEST_F(HostileShmPeer, APositionBeyondTheRingEndsTheConnection) {
  for (const uint64_t tail : {uint64_t{1} << 40U, ~uint64_t{0}, uint64_t{512 * 1024 + 64},
                              uint64_t{63}, ~uint64_t{63}}) {
    Connect();
    region.control(0)->tail.store(tail);
    Turn();
    ASSERT_TRUE(guest().closed.has_value()) << tail;
    EXPECT_EQ(*guest().closed, ErrorCode::kProtocolError);
    EXPECT_TRUE(guest().received.empty());
    reception.guests.clear();
  }
}

TEST_F(HostileShmPeer, APositionThatGoesBackEndsTheConnection) {
  Connect();
  const HeaderBytes header = EncodeHeader(Header{});
  for (int i = 0; i < 2; ++i) std::memcpy(region.ring(0).data() + 64 * i, header.data(), 64);
  region.control(0)->tail.store(128);
  Turn();
  EXPECT_EQ(guest().received.size(), 2U);
  region.control(0)->tail.store(64);
  Turn();
  ASSERT_TRUE(guest().closed.has_value());
  EXPECT_EQ(*guest().closed, ErrorCode::kProtocolError);
}

TEST_F(HostileShmPeer, AReaderThatClaimsMoreThanWasWrittenEndsTheConnection) {
  Connect();
  region.control(1)->head.store(8 << 20);
  guest().Send(1, 4 << 20);
  Turn();
  ASSERT_TRUE(guest().closed.has_value());
  EXPECT_EQ(*guest().closed, ErrorCode::kProtocolError);
  EXPECT_TRUE(guest().each_done_once());
}

TEST_F(HostileShmPeer, MemoryThatChangesWhileItIsReadIsReadOnce) {
  // The endpoint compares what it was given with the header it was given: it must have got its own
  // copy of both, whatever the peer does to the ring afterwards.
  Connect();
  HeaderBytes seen{};
  guest().on_header = [&](const Header& header) {
    std::memset(region.ring(0).data(), 0xFF, 64);
    std::memcpy(seen.data(), &header, sizeof(header));
  };
  Header header;
  header.id = 77;
  const HeaderBytes bytes = EncodeHeader(header);
  std::memcpy(region.ring(0).data(), bytes.data(), 64);
  region.control(0)->tail.store(64);
  Turn();
  EXPECT_EQ(seen, bytes);
  ASSERT_EQ(guest().received.size(), 1U);
  EXPECT_EQ(guest().received[0].id, 77U);
}

TEST_F(HostileShmPeer, TheMemoryCannotBeCutUnderTheReader) {
  Connect();
  EXPECT_NE(::ftruncate(file.get(), 0), 0);
  EXPECT_EQ(errno, EPERM);
}

TEST_F(HostileShmPeer, AFloodOfBellsAndOfConnectionsIsSurvived) {
  Connect();
  std::vector<std::byte> bells(1 << 16);
  for (int i = 0; i < 20; ++i) {
    ::send(socket.get(), bells.data(), bells.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    Turn(3);
  }
  std::vector<FileHandle> sockets;
  for (int i = 0; i < 50; ++i) sockets.push_back(ConnectUnix(path).value());
  Turn();
  sockets.clear();
  Turn();
  EXPECT_EQ(reception.guests.size(), 51U);
  for (size_t i = 1; i < 51; ++i) EXPECT_TRUE(reception.guests[i]->closed.has_value());
  EXPECT_FALSE(guest().closed.has_value());
}

/// What a listening process may offer to a client of ours.
class HostileShmListener : public testing::TestWithParam<int> {};

TEST_P(HostileShmListener, WhatItOffersIsLookedAtBeforeItIsMapped) {
  const std::string path = FreshPath();
  UnixListener listener = UnixListener::Open(path).value();
  Arena arena(1);
  const std::unique_ptr<ShmDriver> driver = ShmDriver::Open().value();
  Endpoint client(arena);
  client.Take(driver->Connect(path).value());
  const FileHandle socket(::accept(listener.fd(), nullptr, nullptr));
  ShmOffer offer;
  offer.ring_bytes = 4096;
  FileHandle file(::memfd_create("offer", MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(file.get(), 3 * 4096), 0);
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
  size_t length = sizeof(offer);
  switch (GetParam()) {
    case 0:  // could be cut later
      break;
    case 1:  // shorter than told
      ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
      break;
    case 2:
      offer.ring_bytes = ~uint64_t{0};
      break;
    case 3:
      offer.ring_bytes = 0;
      break;
    case 4:
      offer.magic = 0;
      break;
    case 5:
      offer.version = 2;
      break;
    case 6:  // not a memory file
      file = FileHandle(::open("/dev/zero", O_RDWR));
      break;
    case 7:
      length = 8;
      break;
    default:
      break;
  }
  if (GetParam() != 0 && GetParam() != 6) {
    ASSERT_EQ(::fcntl(file.get(), F_ADD_SEALS, seals), 0);
  }
  ASSERT_TRUE(SendDescriptor(socket.get(), std::as_bytes(std::span(&offer, 1)).first(length),
                             file.get()));
  for (uint64_t now = 1; now < 5000 && !client.closed && !client.open; now += 100) driver->Poll(now);
  EXPECT_EQ(client.open, GetParam() == 8) << client.why;
  if (GetParam() != 8) {
    ASSERT_TRUE(client.closed.has_value());
    EXPECT_NE(*client.closed, ErrorCode::kOk);
  } else {
    client.connection().Close(false);
    driver->Poll(10'000);
  }
}
INSTANTIATE_TEST_SUITE_P(Shm, HostileShmListener, testing::Range(0, 9));

/// A client in a process of its own that sends for ever; killed at a moment of which nobody knows where
/// in its work it lies.
TEST(ShmPeer, ThatIsKilledInMidTransferEndsTheConnectionAndNothingElse) {
  for (int round = 0; round < 20; ++round) {
    const std::string path = FreshPath();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Arena arena(4);
      const std::unique_ptr<ShmDriver> driver = ShmDriver::Open().value();
      struct stat found{};
      while (::stat(path.c_str(), &found) != 0) ::usleep(1000);
      Endpoint client(arena);
      do {
        if (client.closed) client.Destroy();
        client.closed.reset();
        client.Take(driver->Connect(path).value());
        while (!client.open && !client.closed) driver->Poll(NowUs());
      } while (client.closed);
      for (uint32_t id = 0;; driver->Poll(NowUs())) {
        client.Forget();
        if (client.Send(id, (id * 7919) % (300U << 10U))) ++id;
      }
    }
    Arena arena;
    Reception reception(arena);
    const std::unique_ptr<ShmDriver> driver = ShmDriver::Open().value();
    std::unique_ptr<Acceptor> acceptor = driver->Listen(path, reception).value();
    const auto until = [&](const std::function<bool()>& reached) {
      const uint64_t limit = NowUs() + 20'000'000;
      while (!reached() && NowUs() < limit) driver->Poll(NowUs());
      return reached();
    };
    // At first attempts the socket may be there and not be listened on yet.
    const auto alive = [&]() -> Endpoint* {
      for (auto& guest : reception.guests) {
        if (!guest->received.empty()) return guest.get();
      }
      return nullptr;
    };
    EXPECT_TRUE(until([&] {
      return alive() != nullptr && alive()->received.size() > static_cast<size_t>(10 + round * 5);
    }));
    ::kill(child, SIGKILL);
    EXPECT_TRUE(until([&] {
      for (auto& guest : reception.guests) {
        if (!guest->closed) return false;
      }
      return true;
    }));
    ::waitpid(child, nullptr, 0);
    for (const Endpoint::Frame& frame : alive()->received) ASSERT_TRUE(frame.sound) << frame.id;
    EXPECT_TRUE(*alive()->closed == ErrorCode::kOk ||
                *alive()->closed == ErrorCode::kPeerUnreachable)
        << alive()->why;
    reception.guests.clear();
    acceptor.reset();
  }
}

TEST(ShmSocket, OfAProcessThatWasKilledIsTakenOver) {
  const std::string path = FreshPath();
  const pid_t child = ::fork();
  if (child == 0) {
    Result<UnixListener> listener = UnixListener::Open(path);
    ::_exit(listener.ok() ? 0 : 1);  // without the destructor, as a kill would
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  {
    Result<UnixListener> again = UnixListener::Open(path);
    ASSERT_TRUE(again.ok()) << again.error().message;
    struct stat found{};
    ASSERT_EQ(::stat(path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, 0600U);
    EXPECT_EQ(UnixListener::Open(path).code(), ErrorCode::kPeerUnreachable);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "the listener takes its file away";
}

TEST(ShmSocket, WhatIsNotASocketIsLeftAlone) {
  const std::string path = FreshPath();
  FileHandle(::open(path.c_str(), O_CREAT | O_WRONLY, 0600)).Reset();
  EXPECT_EQ(UnixListener::Open(path).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
  ::unlink(path.c_str());
  EXPECT_EQ(UnixListener::Open(std::string(200, 'x')).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(UnixListener::Open("").code(), ErrorCode::kInvalidArgument);
}

TEST(ShmSocket, OfAnotherUserIsNotTrusted) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const std::string path = FreshPath();
  Arena arena(1);
  Reception reception(arena);
  const std::unique_ptr<ShmDriver> driver = ShmDriver::Open().value();
  std::unique_ptr<Acceptor> acceptor = driver->Listen(path, reception).value();
  // The permissions of the file are the first wall, not the only one.
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65534) != 0) ::_exit(2);
    Result<FileHandle> socket = ConnectUnix(path);
    if (!socket.ok()) ::_exit(3);
    std::byte byte{};
    ::fcntl(socket.value().get(), F_SETFL, 0);
    ::_exit(::recv(socket.value().get(), &byte, 1, 0) == 0 ? 0 : 4);
  }
  int status = -1;
  for (uint64_t now = 1; ::waitpid(child, &status, WNOHANG) == 0; now += 100) driver->Poll(now);
  // 3: a folder on the way to the socket is closed to other users, which serves as well.
  EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3) << WEXITSTATUS(status);
  EXPECT_TRUE(reception.guests.empty());
  acceptor.reset();
}

}  // namespace
}  // namespace pando::rpc
