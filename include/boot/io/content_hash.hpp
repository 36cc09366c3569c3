// SPDX-License-Identifier: MIT
/// A 64-bit hash of bytes, to tell files and parameters apart: fast, the same on every machine, no defence against
/// malice.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace boot::inline v0 {

namespace detail {
/// Mixes all bits of `x` into all others (the finaliser of SplitMix64, Steele et al. 2014).
[[nodiscard]] constexpr std::uint64_t mix_bits(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
}  // namespace detail

/// Hash of `bytes`: four lanes of 64-bit multiply and rotate, folded together with the length. `seed` chains hashes.
[[nodiscard]] inline std::uint64_t content_hash(std::span<const std::byte> bytes, std::uint64_t seed = 0) noexcept {
  constexpr std::uint64_t odd = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio
  std::uint64_t lane[4] = {seed + odd, seed + 2 * odd, seed + 3 * odd, seed + 4 * odd};
  const auto add = [](std::uint64_t& l, std::uint64_t word) {
    l = std::rotl((l ^ word) * 0xbf58476d1ce4e5b9u, 29) * 5 + 0x52dce729u;
  };
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    std::uint64_t word[4];
    std::memcpy(word, bytes.data() + at, 32);
    for (int i = 0; i < 4; ++i) add(lane[i], word[i]);
  }
  for (int i = 0; at < bytes.size(); at += 8, ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at < 8 ? bytes.size() - at : 8);
    add(lane[i], word);
  }
  std::uint64_t h = detail::mix_bits(seed ^ static_cast<std::uint64_t>(bytes.size()));
  for (const std::uint64_t l : lane) h = detail::mix_bits(h ^ l) * odd + 1;
  return detail::mix_bits(h);
}

}  // namespace boot::inline v0
