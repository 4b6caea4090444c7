#include "engine/prefix_hash.h"

#include <bit>
#include <cstring>
#include <random>

namespace tiercel::engine {
namespace {

class SipHash {
 public:
  SipHash(uint64_t k0, uint64_t k1)
      : v0_(k0 ^ 0x736f6d6570736575), v1_(k1 ^ 0x646f72616e646f6d ^ 0xee),
        v2_(k0 ^ 0x6c7967656e657261), v3_(k1 ^ 0x7465646279746573) {}

  void Word(uint64_t m) {
    v3_ ^= m;
    Round();
    Round();
    v0_ ^= m;
  }

  BlockHash Finish() {
    BlockHash hash;
    v2_ ^= 0xee;
    for (int i = 0; i < 4; ++i) Round();
    hash.low = v0_ ^ v1_ ^ v2_ ^ v3_;
    v1_ ^= 0xdd;
    for (int i = 0; i < 4; ++i) Round();
    hash.high = v0_ ^ v1_ ^ v2_ ^ v3_;
    return hash;
  }

 private:
  void Round() {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v2_ = std::rotl(v2_, 32);
  }

  uint64_t v0_, v1_, v2_, v3_;
};

// SipHash's own padding: the rest of the message, and its length in the top byte.
BlockHash HashBytes(SipHash hash, const unsigned char* data, size_t size, size_t total) {
  size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    uint64_t word;
    std::memcpy(&word, data + i, 8);
    hash.Word(word);
  }
  uint64_t last = uint64_t{total & 0xff} << 56;
  for (size_t j = 0; i + j < size; ++j) last |= uint64_t{data[i + j]} << (8 * j);
  hash.Word(last);
  return hash.Finish();
}

}  // namespace

PrefixHasher::PrefixHasher() {
  std::random_device random;
  const auto word = [&] { return (uint64_t{random()} << 32) | random(); };
  key0_ = word();
  key1_ = word();
}

BlockHash PrefixHasher::Root(std::string_view cache_salt) const {
  return HashBytes(SipHash(key0_, key1_), reinterpret_cast<const unsigned char*>(cache_salt.data()),
                   cache_salt.size(), cache_salt.size());
}

BlockHash PrefixHasher::Next(const BlockHash& parent, std::span<const int32_t> tokens) const {
  SipHash hash(key0_, key1_);
  hash.Word(parent.low);
  hash.Word(parent.high);
  return HashBytes(hash, reinterpret_cast<const unsigned char*>(tokens.data()),
                   tokens.size_bytes(), 16 + tokens.size_bytes());
}

}  // namespace tiercel::engine
