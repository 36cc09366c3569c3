// SPDX-License-Identifier: MIT
/// Counter-based random numbers (Philox4x32-10): a value is a function of (seed, stream, step, sample, element).
#pragma once

#include <boot/config.hpp>
#include <boot/core/math.hpp>

#include <cstdint>

/// There is no generator state to save, split or advance: the same five numbers give the same integer on every device,
/// for every split of a batch over calls, threads and ranks.
namespace boot::inline v0 {

/// Four 32-bit words: a Philox counter or one block of its output.
struct philox_words {
  std::uint32_t v[4];  ///< the words
  /// Word i.
  BOOT_HD constexpr std::uint32_t& operator[](int i) noexcept { return v[i]; }
  /// Word i.
  BOOT_HD constexpr std::uint32_t operator[](int i) const noexcept { return v[i]; }
  friend constexpr bool operator==(const philox_words&, const philox_words&) = default;
};

/// Two 32-bit words: a Philox key.
struct philox_key {
  std::uint32_t v[2];  ///< the words
};

/// Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
struct philox4x32 {
  static constexpr std::uint32_t multiplier_0 = 0xd2511f53u;  ///< of the first word
  static constexpr std::uint32_t multiplier_1 = 0xcd9e8d57u;  ///< of the third word
  static constexpr std::uint32_t weyl_0 = 0x9e3779b9u;        ///< golden ratio
  static constexpr std::uint32_t weyl_1 = 0xbb67ae85u;        ///< sqrt(3) - 1

  /// The block of four words that belongs to `counter` under `key`.
  BOOT_HD constexpr philox_words operator()(philox_words counter, philox_key key) const noexcept {
    rounds(counter.v[0], counter.v[1], counter.v[2], counter.v[3], key.v[0], key.v[1]);
    return counter;
  }

  /// The same on four counter words in place; vectorises in a loop over counters.
  BOOT_HD BOOT_FORCE_INLINE static constexpr void rounds(std::uint32_t& x0, std::uint32_t& x1, std::uint32_t& x2,
                                                         std::uint32_t& x3, std::uint32_t k0,
                                                         std::uint32_t k1) noexcept {
    round(x0, x1, x2, x3, k0, k1, 0);  // written out: compilers vectorise around these rounds, not around a loop
    round(x0, x1, x2, x3, k0, k1, 1);
    round(x0, x1, x2, x3, k0, k1, 2);
    round(x0, x1, x2, x3, k0, k1, 3);
    round(x0, x1, x2, x3, k0, k1, 4);
    round(x0, x1, x2, x3, k0, k1, 5);
    round(x0, x1, x2, x3, k0, k1, 6);
    round(x0, x1, x2, x3, k0, k1, 7);
    round(x0, x1, x2, x3, k0, k1, 8);
    round(x0, x1, x2, x3, k0, k1, 9);
  }

 private:
  /// All 64 bits of a * b.
  BOOT_HD BOOT_FORCE_INLINE static constexpr std::uint64_t product(std::uint32_t a, std::uint32_t b) noexcept {
#if BOOT_DEVICE_CODE
    if (!__builtin_is_constant_evaluated()) {
      std::uint64_t p;  // in a loop the plain product becomes one of 64 bits, with an addition of 0 to its upper half
      asm("mul.wide.u32 %0, %1, %2;" : "=l"(p) : "r"(b), "r"(a));
      return p;
    }
#endif
    return static_cast<std::uint64_t>(a) * b;
  }
  BOOT_HD BOOT_FORCE_INLINE static constexpr void round(std::uint32_t& x0, std::uint32_t& x1, std::uint32_t& x2,
                                                        std::uint32_t& x3, std::uint32_t k0, std::uint32_t k1,
                                                        std::uint32_t index) noexcept {
    const std::uint64_t p0 = product(multiplier_0, x0), p1 = product(multiplier_1, x2);
    x0 = static_cast<std::uint32_t>(p1 >> 32) ^ x1 ^ (k0 + index * weyl_0);
    x1 = static_cast<std::uint32_t>(p1);
    x2 = static_cast<std::uint32_t>(p0 >> 32) ^ x3 ^ (k1 + index * weyl_1);
    x3 = static_cast<std::uint32_t>(p0);
  }
};

/// What a random number is for. Numbers of different streams are independent.
enum class stream : std::uint32_t {
  noise = 0,        ///< the noise a sample starts from
  time = 1,         ///< training times
  condition = 2,    ///< labels, prompts, dropped conditions
  initial = 3,      ///< initial parameters
  shuffle = 4,      ///< order of samples
  renoise = 5,      ///< noise of stochastic samplers and of re-noised signals
  metric = 6,       ///< projections and subsets of metrics
  dropout = 7,      ///< dropout and augmentation inside networks
  test = 8,         ///< inputs made by tests and benchmarks
  user = 1u << 16,  ///< first value that is the user's: static_cast<stream>(65536 + i), i < 65536
};

/// Everything of a random number's address but sample and element.
struct counter_key {
  std::uint64_t seed = 0;                ///< the Philox key
  boot::stream s = boot::stream::noise;  ///< what the number is for, < 2^17
  std::uint64_t step = 0;                ///< training step, < 2^40
};

inline constexpr std::uint64_t max_random_stream = (std::uint64_t{1} << 17) - 1;   ///< largest stream
inline constexpr std::uint64_t max_random_step = (std::uint64_t{1} << 40) - 1;     ///< largest step
inline constexpr std::uint64_t max_random_sample = (std::uint64_t{1} << 39) - 1;   ///< largest sample
inline constexpr std::uint64_t max_random_element = (std::uint64_t{1} << 34) - 1;  ///< largest element

/// True when the address has its own counter. Beyond it counters repeat; the functions below do not check.
BOOT_HD constexpr bool counter_fits(const counter_key& key, std::uint64_t sample, std::uint64_t element) noexcept {
  return static_cast<std::uint64_t>(key.s) <= max_random_stream && key.step <= max_random_step &&
         sample <= max_random_sample && element <= max_random_element;
}

/// The Philox counter of a block of four elements: block, low sample, low step, and in the last word from the lowest
/// bit: 17 bits of stream, 7 high bits of sample, 8 high bits of step.
BOOT_HD constexpr philox_words random_counter(const counter_key& key, std::uint64_t sample,
                                              std::uint64_t block) noexcept {
  const std::uint32_t last = (static_cast<std::uint32_t>(key.s) & 0x1ffffu) |
                             ((static_cast<std::uint32_t>(sample >> 32) & 0x7fu) << 17) |
                             ((static_cast<std::uint32_t>(key.step >> 32) & 0xffu) << 24);
  return {{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(key.step),
           last}};
}

/// The four words of elements 4 block .. 4 block + 3.
BOOT_HD constexpr philox_words random_block(const counter_key& key, std::uint64_t sample,
                                            std::uint64_t block) noexcept {
  return philox4x32{}(random_counter(key, sample, block),
                      {{static_cast<std::uint32_t>(key.seed), static_cast<std::uint32_t>(key.seed >> 32)}});
}

/// 32 random bits.
BOOT_HD constexpr std::uint32_t random_bits(const counter_key& key, std::uint64_t sample,
                                            std::uint64_t element) noexcept {
  return random_block(key, sample, element >> 2)[static_cast<int>(element & 3u)];
}
/// 32 random bits.
BOOT_HD constexpr std::uint32_t random_bits(std::uint64_t seed, stream s, std::uint64_t step, std::uint64_t sample,
                                            std::uint64_t element) noexcept {
  return random_bits(counter_key{seed, s, step}, sample, element);
}

/// Uniform on (0, 1): the 2^23 midpoints (k + 1/2) 2^-23, never 0 nor 1.
BOOT_HD constexpr float uniform(const counter_key& key, std::uint64_t sample, std::uint64_t element) noexcept {
  return (static_cast<float>(random_bits(key, sample, element) >> 9) + 0.5f) * 0x1p-23f;
}

/// Uniform on (0, 1): the 2^52 midpoints (k + 1/2) 2^-52, never 0 nor 1. Element e takes the words of elements 2e and
/// 2e + 1, so e < 2^33, and one (stream, step, sample) should serve either this function or the others.
BOOT_HD constexpr double uniform_double(const counter_key& key, std::uint64_t sample, std::uint64_t element) noexcept {
  const philox_words w = random_block(key, sample, element >> 1);
  const int first = static_cast<int>(element & 1u) * 2;
  const std::uint64_t bits = (static_cast<std::uint64_t>(w[first]) << 20) | (w[first + 1] >> 12);
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

/// Uniform on 0 .. bound - 1 for bound >= 1. Probabilities are off by at most 2^-32, so relatively by bound 2^-32.
BOOT_HD constexpr std::uint32_t uniform_index(std::uint32_t bound, const counter_key& key, std::uint64_t sample,
                                              std::uint64_t element) noexcept {
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(random_bits(key, sample, element)) * bound) >> 32);
}

/// Two independent standard normals from two random words, by Box and Muller; |z| <= 6.67.
BOOT_HD BOOT_FORCE_INLINE void box_muller(std::uint32_t radius_bits, std::uint32_t angle_bits, float& z0,
                                          float& z1) noexcept {
  // Signed conversions are one instruction everywhere. u is in [2^-32, 1] and finest near 0, where the tails come from.
  const float u = math::fma(static_cast<float>(static_cast<std::int32_t>(radius_bits >> 1)), 0x1p-31f, 0x1p-32f);
  const float radius = detail::sqrt_normal(-2.0f * math::log(u));
  float sine, cosine;
  math::sincospi(static_cast<float>(static_cast<std::int32_t>(angle_bits)) * 0x1p-31f, sine, cosine);
  z0 = math::fma(radius, cosine, 0.0f);  // a plain product could be fused into the caller's sum
  z1 = math::fma(radius, sine, 0.0f);
}

/// Four standard normals.
struct normal_block {
  float v[4];  ///< by element
};

/// The standard normals of elements 4 block .. 4 block + 3.
struct normal4 {
  /// Elements 4 block .. 4 block + 3 of `sample`.
  BOOT_HD normal_block operator()(const counter_key& key, std::uint64_t sample, std::uint64_t block) const noexcept {
    const philox_words w = random_block(key, sample, block);
    normal_block z;
    box_muller(w.v[0], w.v[1], z.v[0], z.v[1]);
    box_muller(w.v[2], w.v[3], z.v[2], z.v[3]);
    return z;
  }
};

/// Standard normal; the same bits as normal4 and fill_normal.
BOOT_HD inline float normal(const counter_key& key, std::uint64_t sample, std::uint64_t element) noexcept {
  return normal4{}(key, sample, element >> 2).v[element & 3u];
}

/// out[i] = normal(key, sample, first + i) for i < count, on the calling thread.
inline void fill_normal(float* out, std::int64_t count, const counter_key& key, std::int64_t sample,
                        std::int64_t first = 0) noexcept {
  constexpr int lanes = 64;  // blocks made together
  const std::uint32_t k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
  alignas(64) std::uint32_t words[4][lanes];
  alignas(64) float z[4 * lanes];
  std::int64_t done = 0;
  while (done < count) {
    const std::int64_t from = first + done;
    const philox_words c =
        random_counter(key, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(from) >> 2);
    BOOT_SIMD
    for (int i = 0; i < lanes; ++i) {
      std::uint32_t x0 = c.v[0] + static_cast<std::uint32_t>(i), x1 = c.v[1], x2 = c.v[2], x3 = c.v[3];
      philox4x32::rounds(x0, x1, x2, x3, k0, k1);
      words[0][i] = x0;
      words[1][i] = x1;
      words[2][i] = x2;
      words[3][i] = x3;
    }
    const int skip = static_cast<int>(from & 3);
    const std::int64_t left = count - done;
    const bool whole = skip == 0 && left >= 4 * lanes;
    float* const target = whole ? out + done : z;
    BOOT_SIMD
    for (int i = 0; i < lanes; ++i) {
      float a, b, d, e;
      box_muller(words[0][i], words[1][i], a, b);
      box_muller(words[2][i], words[3][i], d, e);
      target[4 * i] = a;
      target[4 * i + 1] = b;
      target[4 * i + 2] = d;
      target[4 * i + 3] = e;
    }
    const std::int64_t made = left < 4 * lanes - skip ? left : 4 * lanes - skip;
    if (!whole)
      for (std::int64_t i = 0; i < made; ++i) out[done + i] = z[skip + i];
    done += made;
  }
}

}  // namespace boot::inline v0
