// SPDX-License-Identifier: LGPL-3.0-or-later
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "settings.h"

namespace deepmd::ipi {

/** The socket of a server of the i-PI protocol; this side is the client. */
class Connection {
 public:
  /** Connect; a server that is still starting is waited for. */
  explicit Connection(const Settings& settings);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /** The next message of 12 characters, without blanks at its end; false: the server is gone. */
  bool receive_header(std::string& header);
  void send_header(const std::string& header);

  /** Numbers as they lie in memory. */
  template <typename T>
  void receive(T* data, size_t count) {
    receive_bytes(reinterpret_cast<char*>(data), count * sizeof(T));
  }
  template <typename T>
  T receive() {
    T value;
    receive(&value, 1);
    return value;
  }
  template <typename T>
  void send(const T* data, size_t count) {
    send_bytes(reinterpret_cast<const char*>(data), count * sizeof(T));
  }
  template <typename T>
  void send(T value) {
    send(&value, 1);
  }

 private:
  size_t receive_some(char* data, size_t size);
  void receive_bytes(char* data, size_t size);
  void send_bytes(const char* data, size_t size);

  std::string server_;
  int socket_ = -1;
};

}  // namespace deepmd::ipi
