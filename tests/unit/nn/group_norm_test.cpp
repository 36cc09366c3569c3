// SPDX-License-Identifier: MIT
// Group norm, alone and fused with SiLU, scale and shift: plain float64 loops, gradients, odd sizes, threads, errors.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/cpu/group_norm.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/group_norm.hpp>
#include <boot/nn/operations.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using boot::shape;
using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;

enum class fused { nothing, silu, scale_shift };

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what, double mean = 0) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] =
        static_cast<T>(mean + static_cast<double>(boot::normal(boot::counter_key{9, boot::stream::test, what}, 0, i)));
  return v;
}
template <class T>
std::vector<T> poisoned(std::int64_t n) {
  return std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN());
}

struct network {
  boot::parameter x, scale_shift;
  boot::group_norm norm;
  template <class V>
  void visit(V& v) {
    v("x", x);
    v("norm", norm);
    v("scale_shift", scale_shift);
  }
};
// The layer on operands that are parameters, or on intermediate values where the gradients are written, not added to.
template <class G>
typename G::value apply(G& g, const network& n, fused what) {
  const auto x = g(n.x);
  if (what == fused::nothing) return n.norm(g, x);
  if (what == fused::silu) return n.norm.silu(g, x);
  return n.norm.silu(g, x, g(n.scale_shift));
}
network make(const shape& x, std::int64_t groups, std::int64_t rows, double eps = 1e-5) {
  return {{x, {}}, {{rows, 2 * x[-1]}, {}}, boot::group_norm(groups, x[-1], eps)};
}

struct case_of {
  shape x;
  std::int64_t groups, rows;  // rows of scale and shift
};

// y and the statistics by the book.
template <class T>
std::vector<double> reference(const case_of& k, double eps, fused what, const std::vector<T>& x,
                              const std::vector<T>& weight, const std::vector<T>& bias, const std::vector<T>& s) {
  const std::int64_t channels = k.x[-1], positions = k.x.sample_size() / channels, width = channels / k.groups;
  const auto at = [](const std::vector<T>& v, std::int64_t i) {
    return static_cast<double>(v[static_cast<std::size_t>(i)]);
  };
  std::vector<double> y(x.size());
  for (std::int64_t b = 0; b < k.x[0]; ++b)
    for (std::int64_t g = 0; g < k.groups; ++g) {
      double mean = 0, square = 0;
      const double count = static_cast<double>(positions * width);
      const auto each = [&](const auto& f) {
        for (std::int64_t p = 0; p < positions; ++p)
          for (std::int64_t c = g * width; c < (g + 1) * width; ++c) f((b * positions + p) * channels + c, c);
      };
      each([&](std::int64_t i, std::int64_t) { mean += at(x, i) / count; });
      each([&](std::int64_t i, std::int64_t) { square += (at(x, i) - mean) * (at(x, i) - mean) / count; });
      each([&](std::int64_t i, std::int64_t c) {
        double z = (at(x, i) - mean) / std::sqrt(square + eps) * at(weight, c) + at(bias, c);
        const std::int64_t row = (k.rows == 1 ? 0 : b) * 2 * channels;
        if (what == fused::scale_shift) z = z * (1 + at(s, row + c)) + at(s, row + channels + c);
        y[static_cast<std::size_t>(i)] = what == fused::nothing ? z : z / (1 + std::exp(-z));
      });
    }
  return y;
}

template <class T>
double worst(const std::vector<T>& got, const std::vector<double>& wanted) {
  double off = got.size() == wanted.size() ? 0 : std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < std::min(got.size(), wanted.size()); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - wanted[i]);
    off = d <= off ? off : d;  // NaN is not <=
  }
  return off;
}

template <class T>
struct outcome {
  std::vector<T> y, saved, dx, dweight, dbias, dscale;
  bool operator==(const outcome&) const = default;
};
// Forward and backward through the host functions; `accumulate` starts the gradients from 1 instead of poison.
template <class T>
outcome<T> run(const boot::cpu& on, const case_of& k, fused what, bool accumulate, double mean = 0) {
  using V = boot::view<T, boot::cpu>;
  using R = boot::view<const T, boot::cpu>;
  const std::int64_t n = k.x.size(), channels = k.x[-1];
  const auto x = numbers<T>(n, 1, mean), w = numbers<T>(channels, 2), b = numbers<T>(channels, 3),
             s = numbers<T>(k.rows * 2 * channels, 4), dy = numbers<T>(n, 5);
  const auto start = [&](std::int64_t m) {
    return accumulate ? std::vector<T>(static_cast<std::size_t>(m), T{1}) : poisoned<T>(m);
  };
  outcome<T> r{poisoned<T>(n),  poisoned<T>(2 * k.x[0] * k.groups), start(n), start(channels),
               start(channels), start(k.rows * 2 * channels)};
  const R scale = what == fused::scale_shift ? R(s.data(), {k.rows, 2 * channels}) : R();
  boot::group_norm_forward(on, R(x.data(), k.x), w.data(), b.data(), scale, k.groups, 1e-3, what != fused::nothing,
                           V(r.y.data(), k.x), r.saved.data());
  const std::array<bool, 4> add{accumulate, accumulate, accumulate, accumulate};
  boot::group_norm_backward(on, R(x.data(), k.x), w.data(), what == fused::nothing ? nullptr : b.data(), scale,
                            k.groups, what != fused::nothing, static_cast<const T*>(r.saved.data()), R(dy.data(), k.x),
                            V(r.dx.data(), k.x), r.dweight.data(), r.dbias.data(),
                            what == fused::scale_shift ? V(r.dscale.data(), {k.rows, 2 * channels}) : V(), add);
  if (what != fused::scale_shift) r.dscale.clear();
  return r;
}

const std::vector<case_of>& cases() {
  static const std::vector<case_of> all{
      {{1, 1}, 1, 1},            // one number: normalised to zero
      {{2, 5, 3, 1}, 1, 2},      // one channel, not square
      {{3, 7, 6}, 2, 1},         // tokens
      {{1, 3, 5, 35}, 5, 1},     // odd everything
      {{2, 19, 21, 12}, 3, 2},   // more than one line, and a rest
      {{33, 2, 2, 32}, 32, 33},  // a group per channel, the path of many samples
      {{2, 3, 300}, 4, 1},       // a line longer than a block
      {{1, 130, 9, 260}, 2, 1}   // several slices in a sample
  };
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("group norm: forward against plain loops, saved or not", "[nn][group_norm]", float, double) {
  using T = TestType;
  const double most = std::max(1e-12, 100 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  for (const case_of& k : cases())
    for (const fused what : {fused::nothing, fused::silu, fused::scale_shift}) {
      INFO(boot::to_string(k.x) << ", fused " << static_cast<int>(what));
      const std::int64_t channels = k.x[-1];
      const auto x = numbers<T>(k.x.size(), 1), w = numbers<T>(channels, 2), b = numbers<T>(channels, 3),
                 s = numbers<T>(k.rows * 2 * channels, 4);
      const outcome<T> got = run<T>(boot::cpu{2}, k, what, false);
      CHECK(worst(got.y, reference(k, 1e-3, what, x, w, b, s)) <= most);
      using R = boot::view<const T, boot::cpu>;
      std::vector<T> again = poisoned<T>(k.x.size());
      boot::group_norm_forward(dev, R(x.data(), k.x), w.data(), b.data(),
                               what == fused::scale_shift ? R(s.data(), {k.rows, 2 * channels}) : R(), k.groups, 1e-3,
                               what != fused::nothing, boot::view<T, boot::cpu>(again.data(), k.x),
                               static_cast<T*>(nullptr));
      CHECK(again == got.y);
    }
}

TEST_CASE("group norm: float gradients are the float64 ones, written or added", "[nn][group_norm]") {
  for (const case_of& k : cases())
    for (const fused what : {fused::nothing, fused::silu, fused::scale_shift}) {
      INFO(boot::to_string(k.x) << ", fused " << static_cast<int>(what));
      const auto narrow = run<float>(boot::cpu{2}, k, what, false);
      const auto wide = run<double>(boot::cpu{1}, k, what, false), added = run<double>(boot::cpu{2}, k, what, true);
      const double sum = static_cast<double>(k.x.size() / k.x[-1]);  // terms of a parameter's gradient
      CHECK(worst(narrow.dx, wide.dx) <= 2e-4);                      // rstd of up to 30 multiplies the rounding
      CHECK(worst(narrow.dweight, wide.dweight) <= 2e-5 * sum);
      CHECK(worst(narrow.dbias, wide.dbias) <= 2e-6 * sum);
      CHECK(worst(narrow.dscale, wide.dscale) <= 2e-5 * sum);
      const auto plus_one = [](std::vector<double> v) {
        for (double& e : v) e += 1;
        return v;
      };
      CHECK(worst(added.dx, plus_one(wide.dx)) <= 1e-12);
      CHECK(worst(added.dweight, plus_one(wide.dweight)) <= 1e-12);
      CHECK(worst(added.dbias, plus_one(wide.dbias)) <= 1e-12);
      CHECK(worst(added.dscale, plus_one(wide.dscale)) <= 1e-12);
    }
}

TEST_CASE("group norm: gradients of all operands by finite differences", "[nn][group_norm]") {
  const auto check = [](const case_of& k, fused what) {
    INFO(boot::to_string(k.x) << ", rows " << k.rows << ", fused " << static_cast<int>(what));
    network n = make(k.x, k.groups, k.rows, 0.1);
    const auto report =
        boot::testing::check_graph_gradient(dev, n, [&](auto& g) { return apply(g, n, what); }, {.directions = 2});
    INFO(report.worst_name);
    CHECK(report.worst <= 1e-6);
    CHECK(report.elements == k.x.size() + 2 * k.x[-1] + 2 * k.rows * k.x[-1]);
  };
  for (const fused what : {fused::nothing, fused::silu, fused::scale_shift}) {
    check({{2, 3, 2, 6}, 3, 2}, what);
    check({{3, 5, 4}, 2, 1}, what);  // one scale and shift for the batch: their gradient is summed over it
  }
  check({{33, 1, 2}, 1, 33}, fused::scale_shift);
}

TEST_CASE("group norm: operands that are results of other operations get their gradients written", "[nn][group_norm]") {
  network n = make({2, 3, 4}, 2, 1, 0.1);
  const auto code = [&](auto& g) {
    const auto x = boot::silu(g, g(n.x)), s = boot::silu(g, g(n.scale_shift));
    const auto w = boot::silu(g, g(n.norm.weight)), b = boot::silu(g, g(n.norm.bias));
    const auto y = g.apply(boot::group_norm_op<true, true>{2, 0.1}, x, w, b, s);
    return boot::add(g, y, x);  // x's gradient is there before the norm adds to it
  };
  const auto report = boot::testing::check_graph_gradient(dev, n, code);
  INFO(report.worst_name);
  CHECK(report.worst <= 1e-6);
}

TEST_CASE("group norm: gradients nobody wants are left out, the others stay", "[nn][group_norm]") {
  using V = boot::view<double, boot::cpu>;
  const case_of k{{2, 5, 6}, 3, 2};
  const auto all = run<double>(dev, k, fused::silu, false);
  const auto x = numbers<double>(60, 1), w = numbers<double>(6, 2), b = numbers<double>(6, 3),
             dy = numbers<double>(60, 5);
  const boot::view<const double, boot::cpu> from(x.data(), k.x), slope(dy.data(), k.x), none;
  std::vector<double> dx = poisoned<double>(60), dbias = poisoned<double>(6);
  const std::array<bool, 4> write{};
  double* const nothing = nullptr;
  boot::group_norm_backward(dev, from, w.data(), b.data(), none, 3, true, all.saved.data(), slope, V(dx.data(), k.x),
                            nothing, nothing, V(), write);
  boot::group_norm_backward(dev, from, w.data(), b.data(), none, 3, true, all.saved.data(), slope, V(), nothing,
                            dbias.data(), V(), write);
  CHECK(dx == all.dx);
  CHECK(dbias == all.dbias);
}

TEST_CASE("group norm: a large mean, constant groups and an outlier in front keep their accuracy", "[nn][group_norm]") {
  using R = boot::view<const float, boot::cpu>;
  const case_of k{{1, 64, 64, 2}, 2, 1};
  const std::vector<float> one(2, 1.0f), zero(2, 0.0f);
  const auto of = [&](const std::vector<float>& x) {
    std::vector<float> y = poisoned<float>(k.x.size());
    boot::group_norm_forward(dev, R(x.data(), k.x), one.data(), zero.data(), R(), 2, 1e-6, false,
                             boot::view<float, boot::cpu>(y.data(), k.x), static_cast<float*>(nullptr));
    return worst(y, reference(k, 1e-6, fused::nothing, x, one, zero, one));
  };
  CHECK(of(numbers<float>(k.x.size(), 1, 1000)) <= 1e-4);  // the mean is rounded to float
  CHECK(of(std::vector<float>(static_cast<std::size_t>(k.x.size()), 1e6f)) == 0);
  std::vector<float> x = numbers<float>(k.x.size(), 1);
  x[0] = 1e6f;
  CHECK(of(x) <= 1e-5);
}

TEST_CASE("group norm: the same bits for 1, 2 and 3 threads", "[nn][group_norm]") {
  for (const case_of& k : {case_of{{33, 20, 20, 24}, 4, 1}, case_of{{2, 90, 40, 24}, 3, 2}})
    for (const fused what : {fused::nothing, fused::scale_shift}) {
      const auto first = run<float>(boot::cpu{1}, k, what, false);
      CHECK(run<float>(boot::cpu{2}, k, what, false) == first);
      CHECK(run<float>(boot::cpu{3}, k, what, false) == first);
    }
}

TEST_CASE("group norm: names, initial values and errors", "[nn][group_norm]") {
  network n = make({2, 3, 4}, 2, 1);
  boot::parameter_arena<double, boot::cpu> a(dev, boot::parameter_layout(n));
  a.initialize(dev, 1);
  CHECK(a.layout().entries()[1].name == "norm.weight");
  CHECK(a.layout().entries()[2].name == "norm.bias");
  CHECK(boot::to_host(dev, a.value(1)) == std::vector<double>(4, 1.0));
  CHECK(boot::to_host(dev, a.value(2)) == std::vector<double>(4, 0.0));
  CHECK_THROWS_WITH(boot::group_norm(3, 4), ContainsSubstring("3 groups over 4 channels"));
  CHECK_THROWS_AS(boot::group_norm(0, 4), boot::error);
  CHECK_THROWS_AS(boot::group_norm(1, 0), boot::error);
  CHECK_THROWS_WITH(boot::group_norm(2, 4, 0), ContainsSubstring("epsilon 0"));

  const boot::group_norm_op<true, true> op{2};
  const shape w{4};
  CHECK(op.result(shape{3, 5, 4}, w, w, shape{1, 8}) == shape{3, 5, 4});
  CHECK(op.saved_size(shape{3, 5, 4}, w, w, shape{1, 8}) == 12);
  CHECK_THROWS_WITH(op.result(shape{3, 5, 6}, w, w, shape{1, 8}),
                    ContainsSubstring("over 4 channels got shape [3, 5, 6]"));
  CHECK_THROWS_AS(op.result(shape{4}, w, w, shape{1, 8}), boot::error);
  CHECK_THROWS_WITH(op.result(shape{3, 0, 4}, w, w, shape{1, 8}), ContainsSubstring("without zero extents"));
  CHECK_THROWS_AS(op.result(shape{0, 4}, w, w, shape{1, 8}), boot::error);
  CHECK_THROWS_WITH(op.result(shape{3, 4}, w, w, shape{2, 8}), ContainsSubstring("needs [3, 8], or a batch of one"));
  CHECK_THROWS_AS(op.result(shape{3, 4}, w, w, shape{3, 4}), boot::error);
  CHECK_THROWS_WITH((boot::group_norm_op<false, false>{3}.result(shape{3, 4}, w, w)), ContainsSubstring("3 groups"));
  CHECK_THROWS_AS((boot::group_norm_op<false, false>{2}.result(shape{3, 4}, w, shape{5})), boot::error);
}
