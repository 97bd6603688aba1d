// SPDX-License-Identifier: LGPL-3.0-or-later
#include "connection.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "error.h"

namespace deepmd::ipi {
namespace {

constexpr size_t HEADER = 12;
constexpr auto PATIENCE = std::chrono::seconds(10);

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/** The file of a server's socket; a name with a slash is taken as it is. */
std::string socket_path(const std::string& host) {
  return host.find('/') == std::string::npos ? "/tmp/ipi_" + host : host;
}

/** One attempt; -1, with errno, if there is no server. */
int connect_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw Error("host: " + path + ": is too long for the name of a socket");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int why = errno;
    ::close(fd);
    errno = why;
    return -1;
  }
  return fd;
}

int connect_inet(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* addresses = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses);
  if (failed != 0) {
    throw Error("host: " + host + ": " + ::gai_strerror(failed));
  }
  int fd = -1;
  int why = 0;
  for (const addrinfo* a = addresses; a != nullptr && fd < 0; a = a->ai_next) {
    fd = ::socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd >= 0 && ::connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
      why = errno;
      ::close(fd);
      fd = -1;
    }
  }
  ::freeaddrinfo(addresses);
  if (fd >= 0) {
    const int on = 1;  // messages are short and wait for each other
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  errno = why;
  return fd;
}

}  // namespace

Connection::Connection(const Settings& s) {
  const std::string path = socket_path(s.host);
  server_ = s.use_unix ? path : s.host + ":" + std::to_string(s.port);
  const auto start = std::chrono::steady_clock::now();
  while (true) {
    socket_ = s.use_unix ? connect_unix(path) : connect_inet(s.host, s.port);
    if (socket_ >= 0) {
      return;
    }
    const bool starting = errno == ECONNREFUSED || errno == ENOENT;
    if (!starting || std::chrono::steady_clock::now() - start > PATIENCE) {
      throw Error(server_ + ": no server: " + std::strerror(errno) +
                  "; start i-PI first, and compare its <ffsocket> with host, port and use_unix");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Connection::~Connection() { ::close(socket_); }

size_t Connection::receive_some(char* data, size_t size) {
  size_t have = 0;
  while (have < size) {
    const ssize_t n = ::recv(socket_, data + have, size - have, 0);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      throw Error(server_ + ": " + std::strerror(errno));
    }
    if (n == 0) {
      break;
    }
    have += static_cast<size_t>(n);
  }
  return have;
}

void Connection::receive_bytes(char* data, size_t size) {
  if (receive_some(data, size) < size) {
    throw Error(server_ + ": the server went away in the middle of a message");
  }
}

void Connection::send_bytes(const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = ::send(socket_, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      throw Error(server_ + ": " + std::strerror(errno));
    }
    data += n;
    size -= static_cast<size_t>(n);
  }
}

bool Connection::receive_header(std::string& header) {
  header.assign(HEADER, ' ');
  const size_t have = receive_some(&header[0], HEADER);
  if (have == 0) {
    return false;
  }
  if (have < HEADER) {
    throw Error(server_ + ": the server went away in the middle of a message");
  }
  header.erase(header.find_last_not_of(' ') + 1);
  return true;
}

void Connection::send_header(const std::string& header) {
  std::string padded = header;
  padded.resize(HEADER, ' ');
  send_bytes(padded.data(), HEADER);
}

}  // namespace deepmd::ipi
