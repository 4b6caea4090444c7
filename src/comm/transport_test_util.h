// Processes of a job as threads of a test, over TCP.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "comm/socket.h"
#include "comm/tcp_transport.h"

namespace tiercel::comm {

inline int FreePort() {
  const auto socket = Listen("127.0.0.1", 0);
  return LocalEnd(*socket)->port;
}

using Transports = std::vector<Expected<std::unique_ptr<Transport>>>;

// Process i connects with options[i]; all at once.
inline Transports Connect(const std::vector<TcpOptions>& options) {
  std::vector<std::future<Expected<std::unique_ptr<Transport>>>> waiting;
  for (const TcpOptions& each : options) {
    waiting.push_back(std::async(std::launch::async, [&each] { return ConnectTcp(each); }));
  }
  Transports transports;
  for (auto& each : waiting) transports.push_back(each.get());
  return transports;
}

inline Transports ConnectAll(int count, double timeout_seconds = 30) {
  const int port = FreePort();
  std::vector<TcpOptions> options;
  for (int i = 0; i < count; ++i) options.push_back({.process = {i, count}, .port = port, .timeout_seconds = timeout_seconds});
  return Connect(options);
}

// Calls fn(transport) for each in a thread of its own.
template <typename F>
void Each(const Transports& transports, F fn) {
  std::vector<std::thread> threads;
  for (const auto& transport : transports) {
    ASSERT_TRUE(transport.has_value()) << transport.error();
    threads.emplace_back([&fn, t = transport->get()] { fn(*t); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace tiercel::comm
