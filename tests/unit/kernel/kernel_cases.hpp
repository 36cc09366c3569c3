// SPDX-License-Identifier: MIT
/// What the kernel tests share: shifted arrays with guards, numbers that carry an error scale, runs by loop and team.
#pragma once

#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/core/random.hpp>
#include <boot/device/memory.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/team/body.hpp>
#include <boot/kernel/team/host_team.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

namespace kernel_test {

using boot::bf16;
using boot::cpu;

inline constexpr double unit = 0x1p-24;  // half an ulp of float

/// A float64 number and the size of what went into it: |error of a float computation| <= a few `unit` * scale.
struct traced {
  double v = 0, scale = 0;
  traced() = default;
  traced(double x) : v(x), scale(std::abs(x)) {}  // NOLINT(google-explicit-constructor)
  traced(double x, double s) : v(x), scale(s) {}
};
inline traced operator+(traced a, traced b) { return {a.v + b.v, a.scale + b.scale}; }
inline traced operator-(traced a, traced b) { return {a.v - b.v, a.scale + b.scale}; }
inline traced operator*(traced a, traced b) { return {a.v * b.v, a.scale * b.scale}; }
inline traced operator/(traced a, traced b) {
  return {a.v / b.v, b.v == 0 ? 0 : a.scale / std::abs(b.v) * (b.scale / std::abs(b.v))};
}
inline traced root(traced a) { return {std::sqrt(a.v), a.v > 0 ? a.scale / std::sqrt(a.v) : 0}; }
inline traced limited(traced a, double low, double high) {
  return {a.v < low ? low : a.v > high ? high : a.v, a.scale};
}

/// What a reference gives for one element.
template <std::size_t M>
struct expected {
  std::array<traced, M> out;
  traced sum;
};

/// n elements that begin `shift` elements behind an aligned address, with guards on both sides; all bytes are 0xff.
template <class T>
class guarded {
 public:
  guarded(std::int64_t n, std::int64_t shift)
      : n_(n), shift_(shift), memory_(cpu{}, static_cast<std::size_t>(n + 2 * margin) * sizeof(T)) {
    std::memset(memory_.data(), 0xff, memory_.bytes());
  }
  [[nodiscard]] T* data() const { return static_cast<T*>(memory_.data()) + margin + shift_; }
  [[nodiscard]] double operator[](std::int64_t i) const { return static_cast<double>(static_cast<float>(data()[i])); }
  /// Nothing outside the n elements was written.
  [[nodiscard]] bool intact() const {
    const auto* p = static_cast<const unsigned char*>(memory_.data());
    const std::size_t begin = static_cast<std::size_t>(margin + shift_) * sizeof(T);
    const std::size_t end = begin + static_cast<std::size_t>(n_) * sizeof(T);
    for (std::size_t i = 0; i < memory_.bytes(); ++i)
      if ((i < begin || i >= end) && p[i] != 0xff) return false;
    return true;
  }
  [[nodiscard]] bool same_bits(const guarded& other) const {
    return std::memcmp(data(), other.data(), static_cast<std::size_t>(n_) * sizeof(T)) == 0;
  }

 private:
  static constexpr std::int64_t margin = 64;
  std::int64_t n_, shift_;
  boot::buffer<cpu> memory_;
};

template <class... T>
struct types {};

/// How a kernel is run.
struct engine {
  int threads = 1;    ///< of the loop
  bool team = false;  ///< by the host team instead
  int blocks = 3;     ///< of the team, per sample
};

inline constexpr int team_size = 64;

template <class Op, class Row, class... In, class... Out>
std::vector<float> run(const engine& how, const Op& op, const std::vector<Row>& rows, std::int64_t n,
                       const boot::inputs<In...>& in, const boot::outputs<Out...>& out) {
  const auto batch = static_cast<std::int64_t>(rows.size());
  std::vector<float> sums(rows.size(), std::nanf(""));
  if (how.team) {
    std::vector<float> partial(rows.size() * static_cast<std::size_t>(how.blocks), std::nanf(""));
    boot::launch_on_host<team_size>(how.blocks, batch, [&](const auto& team) {
      boot::element_body<float>(team, op, rows.data(), n, in, out, partial.data());
    });
    boot::launch_on_host<team_size>(1, batch, [&](const auto& team) {
      boot::finish_sum_body(team, static_cast<const float*>(partial.data()), how.blocks, sums.data());
    });
  } else {
    const cpu dev{.threads = how.threads};
    std::vector<float> scratch(static_cast<std::size_t>(boot::element_partials(dev, batch, n)), std::nanf(""));
    boot::for_each_element<float>(dev, op, rows.data(), batch, n, in, out, sums.data(), scratch.data());
  }
  return sums;
}

/// Fresh inputs of one case.
template <class... In>
std::tuple<guarded<In>...> random_inputs(std::int64_t count, std::int64_t shift, std::uint64_t seed) {
  std::tuple<guarded<In>...> in{guarded<In>(count, shift == 0 || sizeof(In) > 2 ? shift : shift + 2)...};
  std::uint64_t which = 0;
  std::apply(
      [&](auto&... a) {
        const auto fill = [&](auto& array) {
          for (std::int64_t i = 0; i < count; ++i)
            boot::store(array.data()[i],
                        boot::normal({seed, boot::stream::test, 0}, which, static_cast<std::uint64_t>(i)));
          ++which;
        };
        (fill(a), ...);
      },
      in);
  return in;
}

/// Runs `op` over fresh numbers by `how` and compares every element and every sum with `reference(row, inputs)`.
template <class Op, class Row, class Reference, class... In, class... Out>
void check(const engine& how, const Op& op, const std::vector<Row>& rows, std::int64_t n, std::int64_t shift,
           std::uint64_t seed, types<In...>, types<Out...>, const Reference& reference) {
  const std::int64_t count = static_cast<std::int64_t>(rows.size()) * n;
  const auto in = random_inputs<In...>(count, shift, seed);
  const std::tuple<guarded<Out>...> out{guarded<Out>(count, shift)...};
  const auto sums = std::apply(
      [&](const auto&... x) {
        return std::apply(
            [&](const auto&... y) {
              return run(how, op, rows, n, boot::inputs<In...>(x.data()...), boot::outputs<Out...>(y.data()...));
            },
            out);
      },
      in);
  const auto element = [&](std::int64_t i) {
    return std::apply([&](const auto&... x) { return reference(rows[static_cast<std::size_t>(i / n)], x[i]...); }, in);
  };
  std::int64_t wrong = 0;
  std::string first;
  for (std::size_t b = 0; b < rows.size(); ++b) {
    traced sum(0, 0);
    for (std::int64_t i = static_cast<std::int64_t>(b) * n; i < static_cast<std::int64_t>(b + 1) * n; ++i) {
      const auto want = element(i);
      sum = sum + want.sum;
      std::size_t m = 0;
      const auto compare = [&]<class T>(const guarded<T>& y) {
        const traced w = want.out[m++];
        const double rounding = std::same_as<T, bf16> ? 0x1p-8 * std::abs(w.v) : 0;
        if (std::abs(y[i] - w.v) <= 16 * unit * w.scale + rounding + 1e-38) return;  // NaN is not <=
        if (++wrong == 1)
          first = fmt::format("element {}: {} instead of {} +- {}", i, y[i], w.v, 16 * unit * w.scale + rounding);
      };
      std::apply([&](const auto&... y) { (compare(y), ...); }, out);
    }
    // Longest chain of additions: 64 in a block, 256 blocks in a piece (or a thread's share), the pieces.
    const double chain = 16 + 64 + 256 + static_cast<double>(n) / 16384 +
                         (how.team ? static_cast<double>(n) / (how.blocks * team_size) : 0);
    const double error = std::abs(static_cast<double>(sums[b]) - sum.v);
    if (!(error <= chain * unit * sum.scale + 1e-38) && ++wrong == 1)
      first = fmt::format("sum {}: {} instead of {} +- {}", b, sums[b], sum.v, chain * unit * sum.scale);
  }
  INFO(first);
  CHECK(wrong == 0);
  std::apply([&](const auto&... x) { CHECK((x.intact() && ...)); }, in);
  std::apply([&](const auto&... y) { CHECK((y.intact() && ...)); }, out);
}

/// All sizes, alignments and both engines for one functor; `narrow` is a second mix of storage types.
template <class Op, class Row, class Reference, class... In, class... Out, class... NarrowIn, class... NarrowOut>
void check_everywhere(const Op& op, const std::vector<Row>& rows, types<In...> in, types<Out...> out,
                      types<NarrowIn...> narrow_in, types<NarrowOut...> narrow_out, const Reference& reference) {
  std::uint64_t seed = 1;
  for (const std::int64_t n : {1, 3, 63, 64, 65, 257, 16384, 16385})
    for (const std::int64_t shift : {0, 1, 3}) {
      INFO("loop, n = " << n << ", shift = " << shift);
      check({.threads = 1 + static_cast<int>(seed % 3)}, op, rows, n, shift, seed, in, out, reference);
      check({.threads = 2}, op, rows, n, shift, seed + 1, narrow_in, narrow_out, reference);
      seed += 2;
    }
  const std::vector<Row> one(1, rows.front());
  check({.threads = 2}, op, one, 1'000'003, 1, seed++, in, out, reference);
  check({.threads = 3}, op, one, 100'003, 0, seed++, narrow_in, narrow_out, reference);
  // A block of the team takes 64 groups of 4 or 8 elements at a time.
  for (const std::int64_t n : {1, 255, 256, 257, 511, 512, 513})
    for (const std::int64_t shift : {0, 1}) {
      INFO("team, n = " << n << ", shift = " << shift);
      check({.team = true, .blocks = 1 + static_cast<int>(seed % 3)}, op, one, n, shift, seed, in, out, reference);
      check({.team = true}, op, one, n, shift, seed + 1, narrow_in, narrow_out, reference);
      seed += 2;
    }
  check({.team = true, .blocks = 2}, op, rows, 259, 0, seed++, in, out, reference);
  check({.team = true, .blocks = 7}, op, one, 100'003, 0, seed++, in, out, reference);
  check({.team = true, .blocks = 7}, op, one, 100'003, 1, seed++, narrow_in, narrow_out, reference);
}

}  // namespace kernel_test
