#include "rpc/transport/tcp.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>

#include "rpc/seal.h"
#include "rpc/transport/ipoib.h"
#include "rpc/transport/session_laws.h"
#include "rpc/transport/transport_laws.h"

namespace pando::rpc {
namespace {

std::string AnyPort() { return "127.0.0.1:0"; }
std::string Nobody() { return "127.0.0.1:1"; }

INSTANTIATE_TEST_SUITE_P(Tcp, SessionLaws, testing::Values(SessionMaker{"tcp", AnyPort}),
                         [](const auto& of) { return of.param.kind; });

/// A folder in the shape of /sys, which calls the loopback interface InfiniBand: the kernel's own word for
/// its link layer is the one thing that is not real here.
class FakeSysfs {
 public:
  explicit FakeSysfs(const std::string& flags = "0x1003") {
    static std::atomic<int> count{0};
    root_ = std::filesystem::temp_directory_path() /
            ("pando-sysfs-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    Add("lo", "32", flags);
    Add("eth9", "1", "0x1003");
  }
  ~FakeSysfs() { std::filesystem::remove_all(root_); }
  FakeSysfs(const FakeSysfs&) = delete;
  FakeSysfs& operator=(const FakeSysfs&) = delete;
  void Add(const std::string& name, const std::string& type, const std::string& flags) const {
    const std::filesystem::path folder = root_ / "class/net" / name;
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "type") << type << "\n";
    std::ofstream(folder / "flags") << flags << "\n";
  }
  [[nodiscard]] std::string root() const { return root_.string(); }

 private:
  std::filesystem::path root_;
};

/// tcp whose connections are sealed from their first frame on, as if a greeting had gone before.
class SealedTcp final : public TransportDriver {
 public:
  std::string_view name() const override { return "sealed tcp"; }
  size_t Poll(uint64_t now_us) override { return tcp_->Poll(now_us); }
  bool Arm() override { return tcp_->Arm(); }
  int event_fd() const override { return tcp_->event_fd(); }
  Result<std::unique_ptr<Acceptor>> Listen(const std::string& address, AcceptEvents& events) override {
    guards_.push_back(std::make_unique<Guard>(events));
    return tcp_->Listen(address, *guards_.back());
  }
  Result<std::unique_ptr<Connection>> Connect(const std::string& address) override {
    auto made = tcp_->Connect(address);
    if (made.ok()) Seal(*made.value(), Sender::kClient);
    return made;
  }

 private:
  static void Seal(Connection& connection, Sender side) {
    std::array<std::byte, 32> one{};
    std::array<std::byte, 32> other{};
    other[0] = std::byte{1};
    const SealSecrets secrets{kCanAes256Gcm, Secret(std::span<const std::byte, 32>(one)),
                              Secret(std::span<const std::byte, 32>(other))};
    connection.Seal(std::make_unique<FrameSeal>(secrets, side));
  }
  struct Guard final : AcceptEvents {
    explicit Guard(AcceptEvents& events) : told(events) {}
    void OnAccept(std::unique_ptr<Connection> connection) override {
      Seal(*connection, Sender::kServer);
      told.OnAccept(std::move(connection));
    }
    AcceptEvents& told;
  };
  std::unique_ptr<TcpDriver> tcp_ = TcpDriver::Create().value();
  std::vector<std::unique_ptr<Guard>> guards_;
};

INSTANTIATE_TEST_SUITE_P(
    Tcp, TransportLaws,
    testing::Values(TransportMaker{"tcp",
                                   []() -> std::unique_ptr<TransportDriver> {
                                     return TcpDriver::Create().value();
                                   },
                                   AnyPort, Nobody, 5000},
                    TransportMaker{"sealed",
                                   []() -> std::unique_ptr<TransportDriver> {
                                     return std::make_unique<SealedTcp>();
                                   },
                                   AnyPort, Nobody, 5000},
                    TransportMaker{"ipoib",
                                   [] { return OpenIpoibDriver(FakeSysfs().root()).value(); },
                                   AnyPort, Nobody, 5000}),
    [](const auto& of) { return of.param.name; });

/// While it lives the process can open nothing: its bound is the first descriptor that is free.
class NoDescriptorLeft {
 public:
  NoDescriptorLeft() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const FileHandle next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(next.get());
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptorLeft() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  NoDescriptorLeft(const NoDescriptorLeft&) = delete;
  NoDescriptorLeft& operator=(const NoDescriptorLeft&) = delete;

 private:
  rlimit before_ = {};
};

TEST(Tcp, WithoutADescriptorWhoKnocksIsHungUpOnAndKeepsNobodyAwake) {
  Arena arena(2);
  Reception reception(arena);
  const auto driver = TcpDriver::Create().value();
  auto acceptor = driver->Listen(AnyPort(), reception).value();
  const auto is_ready = [&] {
    pollfd seen = {driver->event_fd(), POLLIN, 0};
    return ::poll(&seen, 1, 0) > 0;
  };
  const auto knock = [&] {
    FileHandle socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(acceptor->address().substr(10))));
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return socket;
  };
  std::vector<FileHandle> guests;
  for (int i = 0; i < 20; ++i) guests.push_back(knock());
  {
    const NoDescriptorLeft full;
    ASSERT_LT(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    ASSERT_TRUE(is_ready());
    for (int turn = 0; turn < 40 && is_ready(); ++turn) driver->Poll(0);
    EXPECT_FALSE(is_ready()) << "a reactor would turn for as long as nobody closes a descriptor";
  }
  EXPECT_TRUE(reception.guests.empty());
  for (const FileHandle& guest : guests) {
    pollfd ended = {guest.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&ended, 1, 5000), 1);
    char byte = 0;
    EXPECT_LE(::recv(guest.get(), &byte, 1, MSG_DONTWAIT), 0);
  }
  // When there are descriptors again, who comes is taken.
  const FileHandle last = knock();
  for (int turn = 0; turn < 1000 && reception.guests.empty(); ++turn) driver->Poll(0);
  ASSERT_EQ(reception.guests.size(), 1U);
  reception.guests[0]->connection().Close(false);
  for (int turn = 0; turn < 1000 && !reception.guests[0]->closed.has_value(); ++turn) driver->Poll(0);
  reception.guests.clear();
  acceptor.reset();
}

TEST(Ipoib, InterfacesAreFoundByTheirLinkLayer) {
  const FakeSysfs sysfs;
  sysfs.Add("ib7", "32", "0x1002");
  const std::vector<IpoibInterface> found = FindIpoibInterfaces(sysfs.root());
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].name, "ib7");
  EXPECT_FALSE(found[0].is_up);
  EXPECT_TRUE(found[0].addresses.empty());
  EXPECT_EQ(found[1].name, "lo");
  EXPECT_TRUE(found[1].is_up);
  EXPECT_NE(std::find(found[1].addresses.begin(), found[1].addresses.end(), "127.0.0.1"),
            found[1].addresses.end());
}

TEST(Ipoib, WithoutAnInterfaceThatIsUpThereIsNoTransport) {
  EXPECT_EQ(OpenIpoibDriver("/nonexistent").code(), ErrorCode::kPeerUnreachable);
  const FakeSysfs down("0x1002");
  EXPECT_EQ(OpenIpoibDriver(down.root()).code(), ErrorCode::kPeerUnreachable);
}

TEST(Ipoib, TheDriverIsBoundToItsInterface) {
  Arena arena(1);
  Reception reception(arena);
  const auto driver = OpenIpoibDriver(FakeSysfs().root()).value();
  EXPECT_EQ(driver->name(), "ipoib");
}

}  // namespace
}  // namespace pando::rpc
