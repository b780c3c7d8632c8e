// Unix sockets as the shared memory transport needs them: who is on the other side, and handing over
// a descriptor.
#ifndef PANDO_RPC_TRANSPORT_UNIX_SOCKET_H_
#define PANDO_RPC_TRANSPORT_UNIX_SOCKET_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "block/file_handle.h"
#include "pando/result.h"

namespace pando::rpc {

/// A listening socket with its file, which it takes away at its end unless somebody else has put
/// another one there.
class UnixListener {
 public:
  /// INVALID_ARGUMENT (path too long, not a socket), PEER_UNREACHABLE (somebody listens there).
  /// Only our own user and root may connect.
  [[nodiscard]] static Result<UnixListener> Open(const std::string& path);
  UnixListener(UnixListener&& other) noexcept = default;
  UnixListener& operator=(UnixListener&& other) = delete;
  ~UnixListener();
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  UnixListener(FileHandle socket, std::string path, ino_t inode)
      : socket_(std::move(socket)), path_(std::move(path)), inode_(inode) {}
  FileHandle socket_;
  std::string path_;
  ino_t inode_;
};

/// Never blocks. PEER_UNREACHABLE: nobody listens, or its queue is full.
[[nodiscard]] Result<FileHandle> ConnectUnix(const std::string& path);

/// The process on the other side runs as our user, or as root. What listens on a path that somebody
/// else could have made is told apart by this as well.
[[nodiscard]] bool IsTrustedPeer(int socket);

/// One message with a descriptor. False: it could not be sent whole.
[[nodiscard]] bool SendDescriptor(int socket, std::span<const std::byte> message, int descriptor);

struct ReceivedDescriptor {
  enum class Outcome : uint8_t { kOk, kLater, kRefused };
  Outcome outcome = Outcome::kRefused;
  FileHandle descriptor;
};
/// Takes exactly one message of this length with exactly one descriptor; whatever else comes is
/// closed and refused.
[[nodiscard]] ReceivedDescriptor ReceiveDescriptor(int socket, std::span<std::byte> message);

}  // namespace pando::rpc

#endif  // PANDO_RPC_TRANSPORT_UNIX_SOCKET_H_
