#include "rpc/transport/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace pando::rpc {
namespace {

Result<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return {ErrorCode::kInvalidArgument,
            "a socket's path has 1 to " + std::to_string(sizeof(address.sun_path) - 1) +
                " bytes: " + path};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

FileHandle OpenSocket() {
  return FileHandle(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

const sockaddr* Generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Error Unreachable(const std::string& path, int error_number) {
  return {ErrorCode::kPeerUnreachable, path + ": " + std::strerror(error_number)};
}

/// A socket's file outlives a process that was killed. Only one that nobody listens on is removed.
Status RemoveLeftover(const std::string& path, const sockaddr_un& address) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) return {};
  if (!S_ISSOCK(found.st_mode)) return {ErrorCode::kInvalidArgument, path + " is not a socket"};
  const FileHandle probe = OpenSocket();
  if (::connect(probe.get(), Generic(address), sizeof(address)) == 0 || errno == EAGAIN) {
    return {ErrorCode::kPeerUnreachable, path + ": another process listens there"};
  }
  if (errno == ECONNREFUSED) ::unlink(path.c_str());
  return {};
}

}  // namespace

Result<UnixListener> UnixListener::Open(const std::string& path) {
  Result<sockaddr_un> address = AddressOf(path);
  if (!address.ok()) return address.error();
  const Status removed = RemoveLeftover(path, address.value());
  if (!removed.ok()) return removed.error();
  FileHandle socket = OpenSocket();
  struct stat made{};
  // Nobody can connect between bind and listen, so the permissions are there in time.
  if (socket.get() < 0 || ::bind(socket.get(), Generic(address.value()), sizeof(sockaddr_un)) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::stat(path.c_str(), &made) != 0 ||
      ::listen(socket.get(), SOMAXCONN) != 0) {
    return Unreachable(path, errno);
  }
  return UnixListener(std::move(socket), path, made.st_ino);
}

UnixListener::~UnixListener() {
  struct stat found{};
  if (socket_.get() >= 0 && ::lstat(path_.c_str(), &found) == 0 && found.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

Result<FileHandle> ConnectUnix(const std::string& path) {
  Result<sockaddr_un> address = AddressOf(path);
  if (!address.ok()) return address.error();
  FileHandle socket = OpenSocket();
  if (socket.get() < 0 ||
      ::connect(socket.get(), Generic(address.value()), sizeof(sockaddr_un)) != 0) {
    return Unreachable(path, errno);
  }
  return socket;
}

bool IsTrustedPeer(int socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         (peer.uid == ::geteuid() || peer.uid == 0);
}

bool SendDescriptor(int socket, std::span<const std::byte> message, int descriptor) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  iovec part{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
  return ::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(message.size());
}

ReceivedDescriptor ReceiveDescriptor(int socket, std::span<std::byte> message) {
  constexpr size_t kMost = 8;  // more than this the kernel closes for us, and says so
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMost * sizeof(int))> control{};
  iovec part{message.data(), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  ReceivedDescriptor result;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    result.outcome = ReceivedDescriptor::Outcome::kLater;
    return result;
  }
  size_t count = 0;
  if (got >= 0) {
    for (cmsghdr* entry = CMSG_FIRSTHDR(&header); entry != nullptr;
         entry = CMSG_NXTHDR(&header, entry)) {
      if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
      for (size_t at = CMSG_LEN(0); at + sizeof(int) <= entry->cmsg_len; at += sizeof(int)) {
        int descriptor = -1;
        std::memcpy(&descriptor, reinterpret_cast<std::byte*>(entry) + at, sizeof(int));
        result.descriptor = FileHandle(descriptor);
        ++count;
      }
    }
  }
  if (got == static_cast<ssize_t>(message.size()) && count == 1 &&
      (header.msg_flags & MSG_CTRUNC) == 0) {
    result.outcome = ReceivedDescriptor::Outcome::kOk;
  }
  return result;
}

}  // namespace pando::rpc
