// SPDX-License-Identifier: MIT
/// io/file_dtype.hpp: half precision, every pattern both ways, and every rounding boundary.
#include "support/catch.hpp"

#include <boot/io/file_dtype.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace {

/// The value of a binary16 pattern by its definition, in double.
double half_value(std::uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

/// The nearest finite pattern, ties to even, found by search among all.
std::uint16_t nearest_half(double value) {
  const double a = std::fabs(value);
  std::uint16_t low = 0, high = 0x7c00;  // infinity stands where 65536 would be
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (half_value(middle) <= a ? low : high) = middle;
  }
  const double below = a - half_value(low), above = (high == 0x7c00 ? 65536.0 : half_value(high)) - a;
  const std::uint16_t magnitude = below < above ? low : below > above ? high : (low & 1) == 0 ? low : high;
  return static_cast<std::uint16_t>(magnitude | (std::signbit(value) ? 0x8000 : 0));
}

}  // namespace

TEST_CASE("every binary16 pattern converts exactly and back", "[io][half]") {
  int wrong_value = 0, wrong_back = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto h = static_cast<std::uint16_t>(i);
    const float f = boot::half_to_float(h);
    if ((h & 0x7c00) == 0x7c00) {
      const bool nan = (h & 0x3ff) != 0;
      wrong_value += nan ? !std::isnan(f) : !std::isinf(f) || std::signbit(f) != ((h & 0x8000) != 0);
    } else {
      wrong_value += static_cast<double>(f) != half_value(h) || std::signbit(f) != ((h & 0x8000) != 0);
    }
    wrong_back += boot::float_to_half(f) != h;
  }
  CHECK(wrong_value == 0);
  CHECK(wrong_back == 0);
}

TEST_CASE("between any two neighbouring halves the middle goes to even, its neighbours to the nearer", "[io][half]") {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 0x7c00; ++i) {
    const auto low = static_cast<std::uint16_t>(i), high = static_cast<std::uint16_t>(i + 1);
    const double next = high == 0x7c00 ? 65536.0 : half_value(high);
    const float middle = static_cast<float>((half_value(low) + next) / 2);  // exact in float
    const float below = std::nextafter(middle, 0.0f), above = std::nextafter(middle, 1e9f);
    wrong += boot::float_to_half(middle) != ((low & 1) == 0 ? low : high);
    wrong += boot::float_to_half(below) != low;
    wrong += boot::float_to_half(above) != high;
    wrong += boot::float_to_half(-middle) != (((low & 1) == 0 ? low : high) | 0x8000);
  }
  CHECK(wrong == 0);
  CHECK(boot::float_to_half(std::numeric_limits<float>::max()) == 0x7c00);
  CHECK(boot::float_to_half(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(boot::float_to_half(std::numeric_limits<float>::denorm_min()) == 0);
  CHECK(std::isnan(boot::half_to_float(boot::float_to_half(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("random floats round to the nearest half", "[io][half]") {
  std::mt19937_64 random(std::random_device{}());
  int wrong = 0;
  for (int i = 0; i < 200000; ++i) {
    std::uint32_t bits = static_cast<std::uint32_t>(random());
    if (i % 2 == 0)
      bits = (bits & 0x807fffffu) | (static_cast<std::uint32_t>(100 + random() % 46) << 23);  // near the range of half
    const float f = std::bit_cast<float>(bits);
    if (std::isfinite(f)) wrong += boot::float_to_half(f) != nearest_half(static_cast<double>(f));
  }
  CHECK(wrong == 0);
}

TEST_CASE("every bf16 pattern converts exactly and back", "[io][half]") {
  int wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const float f = std::bit_cast<float>(i << 16);
    boot::bf16 b;
    b.bits = static_cast<std::uint16_t>(i);
    wrong += std::bit_cast<std::uint32_t>(static_cast<float>(b)) != i << 16;
    if (std::isnan(f)) {
      wrong += !std::isnan(static_cast<float>(boot::bf16(f)));
    } else {
      wrong += boot::bf16(f).bits != i;
      if ((i & 0x7fff) < 0x7f80) {  // half way to the next pattern, and just off it
        const std::uint32_t middle = (i << 16) | 0x8000u;
        wrong += boot::bf16(std::bit_cast<float>(middle)).bits != ((i & 1) == 0 ? i : i + 1);
        wrong += boot::bf16(std::bit_cast<float>(middle - 1)).bits != i;
        wrong += boot::bf16(std::bit_cast<float>(middle + 1)).bits != i + 1;
      }
    }
  }
  CHECK(wrong == 0);
}
