// SPDX-License-Identifier: MIT
/// bf16 against a reference that rounds in double, and the element type concepts.
#include "support/catch.hpp"

#include <boot/core/scalar.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

static_assert(boot::ComputeScalar<float> && boot::ComputeScalar<double> && !boot::ComputeScalar<boot::bf16>);
static_assert(boot::StorageScalar<boot::bf16> && !boot::StorageScalar<int> && !boot::StorageScalar<const float>);
static_assert(std::is_same_v<boot::compute_type<double>, double> && std::is_same_v<boot::compute_type<float>, float> &&
              std::is_same_v<boot::compute_type<boot::bf16>, float>);
static_assert(std::is_trivially_copyable_v<boot::bf16> && std::is_trivially_default_constructible_v<boot::bf16>);
static_assert(!std::is_convertible_v<float, boot::bf16> && !std::is_convertible_v<boot::bf16, float>);

namespace {

float value(boot::bf16 b) { return static_cast<float>(b); }

/// Nearest even by arithmetic: 8 significant bits, fewer below the normal range.
double nearest(float x) {
  int exponent = 0;
  std::frexp(static_cast<double>(x), &exponent);
  const double spacing = std::ldexp(1.0, (exponent < -125 ? -125 : exponent) - 8);
  return std::nearbyint(static_cast<double>(x) / spacing) * spacing;
}

}  // namespace

TEST_CASE("bf16 keeps each of its own values", "[core][scalar]") {
  long changed = 0, wrong_nan = 0;
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    boot::bf16 b{};
    b.bits = static_cast<std::uint16_t>(bits);
    const float f = value(b);
    if ((bits & 0x7fffu) > 0x7f80u) {
      wrong_nan += !std::isnan(f) || boot::bf16{f}.bits != 0x7fff;
    } else {
      changed += boot::bf16{f}.bits != b.bits;
    }
  }
  REQUIRE(changed == 0);
  REQUIRE(wrong_nan == 0);
}

TEST_CASE("bf16 rounds to nearest even", "[core][scalar]") {
  REQUIRE(value(boot::bf16{1.0f + 0x1p-8f}) == 1.0f);                 // tie, even below
  REQUIRE(value(boot::bf16{1.0f + 0x3p-8f}) == 1.0f + 0x2p-7f);       // tie, even above
  REQUIRE(value(boot::bf16{1.0f + 0x1.0002p-8f}) == 1.0f + 0x1p-7f);  // just above a tie
  REQUIRE(value(boot::bf16{-1.0f - 0x3p-8f}) == -1.0f - 0x2p-7f);
  REQUIRE(boot::bf16{-0.0f}.bits == 0x8000);

  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 engine(seed);
  long wrong = 0;
  for (int i = 0; i < 400000; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(engine()));
    if (!std::isfinite(x) || std::abs(x) >= 0x1.fep127f) continue;
    wrong += static_cast<double>(value(boot::bf16{x})) != nearest(x);
  }
  REQUIRE(wrong == 0);
}

TEST_CASE("bf16 at the ends of the range", "[core][scalar]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  REQUIRE(value(boot::bf16{infinity}) == infinity);
  REQUIRE(value(boot::bf16{-infinity}) == -infinity);
  REQUIRE(value(boot::bf16{0x1.fep127f}) == 0x1.fep127f);                       // the largest finite bf16
  REQUIRE(value(boot::bf16{0x1.fefffep127f}) == 0x1.fep127f);                   // just below the tie with infinity
  REQUIRE(value(boot::bf16{(std::numeric_limits<float>::max)()}) == infinity);  // above it
  REQUIRE(std::isnan(value(boot::bf16{std::numeric_limits<float>::quiet_NaN()})));
  REQUIRE(std::isnan(value(boot::bf16{std::bit_cast<float>(0x7f800001u)})));  // NaN whose payload lies in the lost half
}

TEST_CASE("store converts to the storage type", "[core][scalar]") {
  float f = NAN;
  double d = NAN;
  boot::bf16 b{NAN};
  boot::store(f, 0.1f);
  boot::store(d, 0.1);
  boot::store(b, 0.1f);
  REQUIRE(f == 0.1f);
  REQUIRE(d == 0.1);
  REQUIRE(b.bits == boot::bf16{0.1f}.bits);
}
