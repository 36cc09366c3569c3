// SPDX-License-Identifier: MIT
/// Philox against its published vectors, the packing of counters, distributions, independence, and the bulk fill.
#include "support/catch.hpp"

#include <boot/core/random.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace {

constexpr std::uint32_t ones = 0xffffffffu;
constexpr boot::counter_key base{2024, boot::stream::test, 17};
constexpr int million = 1'000'000;

// Statistics are drawn from fixed seeds, and every bound was fixed before the first draw: five standard errors, or
// the 1e-4 quantile of the Kolmogorov distribution.
constexpr double standard_errors = 5.0;
constexpr double kolmogorov_quantile = 2.2253;

std::vector<float> normals(const boot::counter_key& key, std::int64_t sample, int n) {
  std::vector<float> z(static_cast<std::size_t>(n), std::numeric_limits<float>::quiet_NaN());
  boot::fill_normal(z.data(), n, key, sample);
  return z;
}

double correlation(const std::vector<float>& a, const std::vector<float>& b) {
  double aa = 0, bb = 0, ab = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    aa += x * x;
    bb += y * y;
    ab += x * y;
  }
  return ab / std::sqrt(aa * bb);
}

/// sqrt(n) times the largest distance between the empirical distribution of `values` and `distribution`.
template <class Distribution>
double kolmogorov_smirnov(std::vector<double> values, Distribution distribution) {
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double distance = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double f = distribution(values[i]), rank = static_cast<double>(i);
    distance = std::max({distance, f - rank / n, (rank + 1) / n - f});
  }
  return std::sqrt(n) * distance;
}

}  // namespace

TEST_CASE("Philox4x32-10 gives the published vectors", "[core][random]") {
  using words = boot::philox_words;
  constexpr boot::philox4x32 philox;
  STATIC_REQUIRE(philox(words{{0, 0, 0, 0}}, {{0, 0}}) == words{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  REQUIRE(philox(words{{0, 0, 0, 0}}, {{0, 0}}) == words{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  REQUIRE(philox(words{{ones, ones, ones, ones}}, {{ones, ones}}) ==
          words{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  REQUIRE(philox(words{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}}) ==
          words{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("every address within the limits has its own counter", "[core][random]") {
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
  std::size_t addresses = 0;
  const auto around = [](std::uint64_t last) {  // both ends, and each single bit
    std::vector<std::uint64_t> v{0, last};
    for (std::uint64_t bit = 1; bit <= last; bit <<= 1) v.push_back(bit);
    return std::set<std::uint64_t>(v.begin(), v.end());
  };
  for (const auto s : around(boot::max_random_stream))
    for (const auto step : around(boot::max_random_step))
      for (const auto sample : around(boot::max_random_sample)) {
        const boot::counter_key key{1, static_cast<boot::stream>(s), step};
        for (const auto element : {std::uint64_t{0}, std::uint64_t{4}, boot::max_random_element}) {
          if (!boot::counter_fits(key, sample, element)) FAIL("an address at the limits does not fit");
          const auto c = boot::random_counter(key, sample, element >> 2);
          seen.emplace(c[0], c[1], c[2], c[3]);
          ++addresses;
        }
      }
  REQUIRE(seen.size() == addresses);
  REQUIRE_FALSE(boot::counter_fits(base, 0, boot::max_random_element + 1));
  REQUIRE_FALSE(boot::counter_fits(base, boot::max_random_sample + 1, 0));
  REQUIRE_FALSE(boot::counter_fits({1, boot::stream::user, boot::max_random_step + 1}, 0, 0));
  REQUIRE_FALSE(boot::counter_fits({1, static_cast<boot::stream>(1u << 17), 0}, 0, 0));
  REQUIRE(boot::counter_fits({1, boot::stream::user, 0}, 0, 0));
}

TEST_CASE("random_bits takes the words of a block in order, and its two forms agree", "[core][random]") {
  const boot::counter_key key{0x0123456789abcdefu, boot::stream::user, 0x1234567890u};
  for (std::uint64_t element = 0; element < 64; ++element) {
    const boot::philox_words w =
        boot::philox4x32{}(boot::random_counter(key, 5, element / 4), {{0x89abcdef, 0x01234567}});
    REQUIRE(boot::random_bits(key, 5, element) == w[static_cast<int>(element % 4)]);
    REQUIRE(boot::random_bits(key.seed, key.s, key.step, 5, element) == w[static_cast<int>(element % 4)]);
  }
}

TEST_CASE("uniform numbers keep off 0 and 1 and are uniform", "[core][random]") {
  std::vector<double> single, twice;
  bool inside = true;
  for (std::uint64_t i = 0; i < million; ++i) {
    const float u = boot::uniform(base, 0, i);
    const double d = boot::uniform_double(base, 1, i);
    inside = inside && u > 0.0f && u < 1.0f && d > 0.0 && d < 1.0;
    single.push_back(static_cast<double>(u));
    twice.push_back(d);
  }
  REQUIRE(inside);
  const auto identity = [](double x) { return x; };
  REQUIRE(kolmogorov_smirnov(single, identity) < kolmogorov_quantile);
  REQUIRE(kolmogorov_smirnov(twice, identity) < kolmogorov_quantile);
  // 52 bits: all of a million values differ, which 2^32 values would not allow (116 collisions expected).
  REQUIRE(std::set<double>(twice.begin(), twice.end()).size() == million);
}

TEST_CASE("uniform_index covers its range evenly", "[core][random]") {
  constexpr int bound = 10;
  long count[bound] = {};
  for (std::uint64_t i = 0; i < million; ++i) ++count[boot::uniform_index(bound, base, 0, i)];
  double chi_square = 0;
  const double expected = static_cast<double>(million) / bound;
  for (const long c : count)
    chi_square += (static_cast<double>(c) - expected) * (static_cast<double>(c) - expected) / expected;
  REQUIRE(chi_square < 33.72);  // the 1e-4 quantile with 9 degrees of freedom
  bool in_range = true;
  for (std::uint64_t i = 0; i < 1000; ++i)
    for (const std::uint32_t b : {1u, 2u, 3u, 0x80000000u, ones})
      in_range = in_range && boot::uniform_index(b, base, 2, i) < b;
  REQUIRE(in_range);
}

TEST_CASE("normals have the moments of a standard normal", "[core][random]") {
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  for (const float f : normals(base, 3, million)) {
    const double z = static_cast<double>(f);
    m1 += z;
    m2 += z * z;
    m3 += z * z * z;
    m4 += z * z * z * z;
  }
  const double n = million;  // variances of z, z^2, z^3, z^4: 1, 2, 15, 96
  REQUIRE(std::abs(m1 / n) < standard_errors * std::sqrt(1.0 / n));
  REQUIRE(std::abs(m2 / n - 1) < standard_errors * std::sqrt(2.0 / n));
  REQUIRE(std::abs(m3 / n) < standard_errors * std::sqrt(15.0 / n));
  REQUIRE(std::abs(m4 / n - 3) < standard_errors * std::sqrt(96.0 / n));
}

TEST_CASE("normals follow the normal distribution", "[core][random]") {
  const std::vector<float> z = normals(base, 4, million);
  const auto phi = [](double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); };
  REQUIRE(kolmogorov_smirnov({z.begin(), z.end()}, phi) < kolmogorov_quantile);
  for (std::size_t lane = 0; lane < 4; ++lane) {  // each place in a block by itself
    std::vector<double> part;
    for (std::size_t i = lane; i < z.size(); i += 4) part.push_back(static_cast<double>(z[i]));
    REQUIRE(kolmogorov_smirnov(part, phi) < kolmogorov_quantile);
  }
}

TEST_CASE("the tails of the normals are there", "[core][random]") {
  constexpr int calls = 8;
  const double edges[] = {2.0, 3.0, 4.0, 4.5};
  double below[4] = {}, above[4] = {};
  float largest = 0;
  for (int sample = 0; sample < calls; ++sample)
    for (const float f : normals(base, 100 + sample, million)) {
      largest = std::max(largest, std::abs(f));
      for (int e = 0; e < 4; ++e) {
        above[e] += static_cast<double>(f) > edges[e];
        below[e] += static_cast<double>(f) < -edges[e];
      }
    }
  for (int e = 0; e < 4; ++e) {
    const double expected = static_cast<double>(calls) * million * 0.5 * std::erfc(edges[e] / std::numbers::sqrt2);
    CAPTURE(edges[e], expected, above[e], below[e]);
    REQUIRE(std::abs(above[e] - expected) < standard_errors * std::sqrt(expected));
    REQUIRE(std::abs(below[e] - expected) < standard_errors * std::sqrt(expected));
  }
  REQUIRE(largest > 4.7f);  // 8e6 draws stay below with probability 1e-9
  REQUIRE(largest < 6.67f);
}

TEST_CASE("neighbouring seeds, streams, steps, samples and elements do not correlate", "[core][random]") {
  constexpr int n = 1 << 18;
  const double bound = standard_errors / std::sqrt(static_cast<double>(n));
  const std::vector<float> z = normals(base, 7, n);
  std::vector<std::vector<float>> others;
  for (const std::uint64_t by :
       {std::uint64_t{1}, std::uint64_t{1} << 31, std::uint64_t{1} << 32, std::uint64_t{1} << 38}) {
    others.push_back(normals({base.seed + by, base.s, base.step}, 7, n));
    others.push_back(normals({base.seed, base.s, base.step + by}, 7, n));
    others.push_back(normals(base, 7 + static_cast<std::int64_t>(by), n));
  }
  for (const boot::stream s : {boot::stream::noise, boot::stream::dropout, boot::stream::user})
    others.push_back(normals({base.seed, s, base.step}, 7, n));
  for (const std::int64_t lag : {1, 2, 3, 4, 5, 64, 256}) {
    others.emplace_back(static_cast<std::size_t>(n), 0.0f);
    boot::fill_normal(others.back().data(), n, base, 7, lag);
  }
  const auto squared = [](std::vector<float> v) {  // magnitudes may depend on each other where signs hide it
    for (float& x : v) x = (x * x - 1.0f) / std::numbers::sqrt2_v<float>;
    return v;
  };
  for (std::size_t i = 0; i < others.size(); ++i) {
    CAPTURE(i);
    REQUIRE(std::abs(correlation(z, others[i])) < bound);
    REQUIRE(std::abs(correlation(squared(z), squared(others[i]))) < bound);
  }
}

TEST_CASE("a normal equals Box and Muller in long double", "[core][random]") {
  long double error = 0;
  for (std::uint64_t block = 0; block < 50000; ++block) {
    const boot::philox_words w = boot::random_block(base, 9, block);
    const boot::normal_block z = boot::normal4{}(base, 9, block);
    for (int pair = 0; pair < 4; pair += 2) {
      const long double u = (static_cast<long double>(w[pair] >> 1) + 0.5L) * 0x1p-31L;
      const long double angle =
          std::numbers::pi_v<long double> * static_cast<long double>(static_cast<std::int32_t>(w[pair + 1])) * 0x1p-31L;
      const long double radius = std::sqrt(-2 * std::log(u));
      // u is rounded to a float before the logarithm, which a radius near 0 magnifies: compare where it is not near.
      if (radius < 0.5L) continue;
      error = std::max({error, std::abs(static_cast<long double>(z.v[pair]) - radius * std::cos(angle)),
                        std::abs(static_cast<long double>(z.v[pair + 1]) - radius * std::sin(angle))});
    }
  }
  REQUIRE(static_cast<double>(error) < 2e-6);  // 2^-24 of u in log, 2^-24 of the half turn in the angle, |z| <= 6.7
}

TEST_CASE("the bulk fill equals the single number bit by bit, for every length and start", "[core][random]") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 engine(seed);
  const boot::counter_key key{engine(), static_cast<boot::stream>(engine() % (1u << 17)), engine() >> 24};
  const std::int64_t sample = static_cast<std::int64_t>(engine() >> 25);
  const std::uint32_t canary = 0x7fc0beefu;
  const std::int64_t starts[] = {0, 1, 2, 3, 4, 5, 255, 256, 257, (std::int64_t{1} << 34) - 2048};
  for (const std::int64_t length : {0, 1, 3, 4, 5, 7, 63, 64, 65, 255, 256, 257, 511, 1023, 1024, 1025})
    for (const std::int64_t start : starts) {
      std::vector<float> out(static_cast<std::size_t>(length) + 2, std::bit_cast<float>(canary));
      boot::fill_normal(out.data() + 1, length, key, sample, start);
      long wrong = 0;
      for (std::int64_t i = 0; i < length; ++i) {
        const std::uint64_t element = static_cast<std::uint64_t>(start + i);
        const float z = boot::normal(key, static_cast<std::uint64_t>(sample), element);
        wrong += std::bit_cast<std::uint32_t>(z) != std::bit_cast<std::uint32_t>(out[static_cast<std::size_t>(i + 1)]);
      }
      CAPTURE(length, start);
      REQUIRE(wrong == 0);
      REQUIRE(std::bit_cast<std::uint32_t>(out.front()) == canary);
      REQUIRE(std::bit_cast<std::uint32_t>(out.back()) == canary);
    }
}

TEST_CASE("a fill in pieces equals the fill in one call", "[core][random]") {
  const std::vector<float> whole = normals(base, 11, 10007);
  std::vector<float> pieces(whole.size(), 0.0f);
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 engine(seed);
  const std::int64_t n = static_cast<std::int64_t>(whole.size());
  for (std::int64_t at = 0; at < n;) {
    const std::int64_t length = std::min<std::int64_t>(n - at, 1 + static_cast<std::int64_t>(engine() % 700));
    boot::fill_normal(pieces.data() + at, length, base, 11, at);
    at += length;
  }
  REQUIRE(pieces == whole);
}

TEST_CASE("normals keep their values from release to release", "[core][random]") {
  // A change here changes every trained model that starts from a seed. Values from a separate double precision program.
  const float want[8] = {-1.85107804f,  0.833196162f,  1.08875523f,    -1.00201223f,
                         -0.814523448f, -0.442845185f, -0.0476874808f, 0.707865696f};
  const boot::counter_key key{0x123456789abcu, boot::stream::noise, (std::uint64_t{3} << 32) + 5};
  const std::vector<float> z = normals(key, (std::int64_t{2} << 32) + 1, 8);
  for (std::size_t i = 0; i < 8; ++i) REQUIRE(std::abs(z[i] - want[i]) <= 5e-7f * std::max(1.0f, std::abs(want[i])));
}
