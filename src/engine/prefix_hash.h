// The hash chain that names a full KV block by all tokens up to its end.
//
// SipHash-2-4 with 128 bits of output (Aumasson, Bernstein) under a secret key drawn at start: a
// client who does not know the key cannot construct two prompts with the same name, so no request
// ever reads another one's cache by collision. A cache_salt enters the first link, which
// separates the requests of different salts.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tiercel::engine {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const BlockHash&, const BlockHash&) = default;
};

struct BlockHashHasher {
  size_t operator()(const BlockHash& h) const { return h.low; }
};

class PrefixHasher {
 public:
  // A key from the operating system's random source, or a fixed one for tests.
  PrefixHasher();
  PrefixHasher(uint64_t key0, uint64_t key1) : key0_(key0), key1_(key1) {}

  // The chain's start for requests with this salt.
  BlockHash Root(std::string_view cache_salt) const;
  // The name of the block that holds `tokens` after the prefix named `parent`.
  BlockHash Next(const BlockHash& parent, std::span<const int32_t> tokens) const;

 private:
  uint64_t key0_;
  uint64_t key1_;
};

}  // namespace tiercel::engine
