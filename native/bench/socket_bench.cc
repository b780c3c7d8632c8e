// What the kernel's loopback device carries between two processes when nothing is done with the bytes:
// blocking calls of 1 MiB out of and into 64 MiB. The ceiling for rpc_bench over tcp.
//   socket_bench [--seconds S] [--cpus RECEIVER,SENDER]
// Prints one line of JSON in the words of rpc_bench.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr size_t kPieceBytes = 1U << 20U;
constexpr size_t kPieces = 64;
constexpr double kWarmUpSeconds = 0.3;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

void StayOn(int cpu) {
  if (cpu < 0) return;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(cpu), &cpus);
  if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) Fail("sched_setaffinity");
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double CpuSeconds(clockid_t clock) {
  timespec time = {};
  if (::clock_gettime(clock, &time) != 0) Fail("clock_gettime");
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

void SendForEver(const sockaddr_in& address) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    Fail("connect");
  }
  const std::vector<char> memory(kPieces * kPieceBytes, 'Z');
  for (size_t piece = 0;; piece = (piece + 1) % kPieces) {
    for (size_t sent = 0; sent < kPieceBytes;) {
      const ssize_t n = ::send(socket, memory.data() + piece * kPieceBytes + sent, kPieceBytes - sent,
                               MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }
}

uint64_t ReceiveFor(int socket, std::vector<char>& memory, double seconds) {
  uint64_t received = 0;
  for (const double until = Now() + seconds; Now() < until;) {
    const size_t at = received % memory.size();
    const ssize_t n = ::recv(socket, memory.data() + at, kPieceBytes - at % kPieceBytes, 0);
    if (n <= 0) Fail("recv");
    received += static_cast<uint64_t>(n);
  }
  return received;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 1;
  int receiver_cpu = -1;
  int sender_cpu = -1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--seconds") seconds = std::stod(argv[i + 1]);
    if (name == "--cpus") std::sscanf(argv[i + 1], "%d,%d", &receiver_cpu, &sender_cpu);
  }
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, generic, size) != 0 || ::listen(listener, 1) != 0 ||
      ::getsockname(listener, generic, &size) != 0) {
    Fail("listen");
  }
  const pid_t sender = ::fork();
  if (sender < 0) Fail("fork");
  if (sender == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    StayOn(sender_cpu);
    SendForEver(address);
    return 0;
  }
  StayOn(receiver_cpu);
  const int socket = ::accept(listener, nullptr, nullptr);
  clockid_t sender_clock = 0;
  if (socket < 0 || ::clock_getcpuclockid(sender, &sender_clock) != 0) Fail("accept");
  std::vector<char> memory(kPieces * kPieceBytes, 'A');
  ReceiveFor(socket, memory, kWarmUpSeconds);
  const double receiver_before = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  const double sender_before = CpuSeconds(sender_clock);
  const double began = Now();
  const double gib = static_cast<double>(ReceiveFor(socket, memory, seconds)) / (1U << 30U);
  const double took = Now() - began;
  std::printf("{\"transport\": \"socket\", \"op\": \"stream\", \"bytes\": %zu, \"mibPerSecond\": %.1f, "
              "\"clientCpuSecondsPerGib\": %.4f, \"serverCpuSecondsPerGib\": %.4f}\n",
              kPieceBytes, gib * 1024 / took,
              (CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - receiver_before) / gib,
              (CpuSeconds(sender_clock) - sender_before) / gib);
  ::close(socket);
  ::waitpid(sender, nullptr, 0);
  return 0;
}
