// SPDX-License-Identifier: MIT
// Every host operation against plain float64 loops: forward, backward, accumulate, odd sizes, thread counts, bad shapes.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/operations.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(boot::normal(boot::counter_key{8, boot::stream::test, what}, 0, i));
  return v;
}
template <class T>
std::vector<T> poisoned(std::int64_t n) {
  return std::vector<T>(static_cast<std::size_t>(n), std::numeric_limits<T>::quiet_NaN());
}
template <class T>
boot::view<T, boot::cpu> view(std::vector<T>& v, boot::shape s) {
  return {v.data(), s};
}
template <class T>
boot::view<const T, boot::cpu> in(const std::vector<T>& v, boot::shape s) {
  return {v.data(), s};
}
// Relative to the largest wanted number, or to `scale` where terms of that size cancel.
template <class T>
void close(const std::vector<T>& got, const std::vector<double>& wanted, double factor = 8, double scale = 1e-30) {
  REQUIRE(got.size() == wanted.size());
  for (const double w : wanted) scale = std::max(scale, std::abs(w));
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i << ": " << got[i] << ", wanted " << wanted[i]);
    REQUIRE(std::abs(static_cast<double>(got[i]) - wanted[i]) <=
            factor * static_cast<double>(std::numeric_limits<T>::epsilon()) * scale);
  }
}
// What `accumulate` starts from: poison when it must not be read, numbers when it must be added to.
template <class T>
std::vector<T> start(std::int64_t n, bool accumulate) {
  return accumulate ? numbers<T>(n, 77) : poisoned<T>(n);
}
double before(std::int64_t i, bool accumulate, const std::vector<double>& numbers_of_start) {
  return accumulate ? numbers_of_start[static_cast<std::size_t>(i)] : 0;
}
template <class T>
std::vector<double> widened(const std::vector<T>& v) {
  return {v.begin(), v.end()};
}
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEMPLATE_TEST_CASE("SiLU and its derivative", "[nn][operations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const std::int64_t n : {1, 7, 16, 33, 70001}) {
    std::vector<T> x = numbers<T>(n, 1), dy = numbers<T>(n, 2), y = poisoned<T>(n), dx = start<T>(n, accumulate);
    const std::vector<double> old = widened(dx);
    x[0] = -50;
    const boot::cpu dev{n > 1000 ? 3 : 1};
    boot::silu_forward(dev, in(x, {n}), view(y, {n}));
    boot::silu_backward(dev, in(x, {n}), in(dy, {n}), view(dx, {n}), accumulate);
    std::vector<double> wanted, slope;
    for (std::int64_t i = 0; i < n; ++i) {
      const double v = static_cast<double>(x[static_cast<std::size_t>(i)]), s = sigmoid(v);
      wanted.push_back(v * s);
      slope.push_back(before(i, accumulate, old) +
                      static_cast<double>(dy[static_cast<std::size_t>(i)]) * (s + v * s * (1 - s)));
    }
    close(y, wanted);
    close(dx, slope);
  }
}

TEMPLATE_TEST_CASE("addition, broadcast over the batch or not, and the sums back", "[nn][operations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const std::int64_t rows : {1, 2, 9})
    for (const std::int64_t n : {1, 5, 64, 131}) {
      const std::vector<T> a = numbers<T>(rows * n, 1), b = numbers<T>(n, 2), c = numbers<T>(rows * n, 3);
      std::vector<T> y = poisoned<T>(rows * n), same = poisoned<T>(rows * n), sums = start<T>(n, accumulate);
      const std::vector<double> old = widened(sums);
      const boot::cpu dev{2};
      boot::add_forward(dev, in(a, {rows, n}), in(b, {1, n}), view(y, {rows, n}));
      boot::add_forward(dev, in(a, {rows, n}), in(c, {rows, n}), view(same, {rows, n}));
      boot::column_sums(dev, in(a, {rows, n}), n, sums.data(), accumulate);
      std::vector<T> biased = poisoned<T>(rows * n), both = poisoned<T>(rows * n);
      boot::add_bias_forward(dev, in(a, {rows, n}), b.data(), view(biased, {rows, n}));
      boot::add_bias_forward(dev, in(a, {rows, n}), in(c, {rows, n}), b.data(), view(both, {rows, n}));
      std::vector<double> wide, plain, columns, of_two;
      for (std::int64_t i = 0; i < rows * n; ++i) {
        wide.push_back(static_cast<double>(a[static_cast<std::size_t>(i)]) +
                       static_cast<double>(b[static_cast<std::size_t>(i % n)]));
        plain.push_back(static_cast<double>(a[static_cast<std::size_t>(i)]) +
                        static_cast<double>(c[static_cast<std::size_t>(i)]));
        of_two.push_back(plain.back() + static_cast<double>(b[static_cast<std::size_t>(i % n)]));
      }
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = before(j, accumulate, old);
        for (std::int64_t r = 0; r < rows; ++r) sum += static_cast<double>(a[static_cast<std::size_t>(r * n + j)]);
        columns.push_back(sum);
      }
      close(y, wide, 1);
      close(same, plain, 1);
      close(biased, wide, 1);
      close(both, of_two, 4);
      close(sums, columns, 16);
      std::vector<T> to = start<T>(rows * n, accumulate);
      std::vector<double> added = widened(to);
      for (std::size_t i = 0; i < added.size(); ++i)
        added[i] = before(static_cast<std::int64_t>(i), accumulate, added) + static_cast<double>(a[i]);
      boot::add_to(dev, in(a, {rows, n}), view(to, {rows, n}), accumulate);
      close(to, added, 1);
    }
}

TEMPLATE_TEST_CASE("rows scaled and columns copied", "[nn][operations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const std::int64_t rows : {1, 3})
    for (const std::int64_t n : {1, 6, 40000}) {
      const std::vector<T> x = numbers<T>(rows * n, 1), scale = numbers<T>(rows, 2);
      std::vector<T> y = start<T>(rows * n, accumulate);
      std::vector<double> wanted = widened(y);
      for (std::int64_t i = 0; i < rows * n; ++i) {
        const auto k = static_cast<std::size_t>(i);
        wanted[k] = before(i, accumulate, wanted) +
                    static_cast<double>(x[k]) * static_cast<double>(scale[static_cast<std::size_t>(i / n)]);
      }
      boot::scale_rows(boot::cpu{2}, in(x, {rows, n}), scale.data(), view(y, {rows, n}), accumulate);
      close(y, wanted, 4);
    }
  const std::vector<T> from = numbers<T>(4 * 7, 3);
  std::vector<T> to = start<T>(4 * 5, true);
  std::vector<double> wanted = widened(to);
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t i = 0; i < 3; ++i)
      wanted[5 * r + 1 + i] = (accumulate ? wanted[5 * r + 1 + i] : 0) + static_cast<double>(from[7 * r + 2 + i]);
  boot::copy_columns(boot::cpu{2}, from.data() + 2, 7, to.data() + 1, 5, 4, 3, accumulate);
  close(to, wanted, 1);  // the columns beside are as they were
}

TEMPLATE_TEST_CASE("linear: forward and both gradients", "[nn][operations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const std::int64_t rows : {1, 6})
    for (const std::int64_t n : {1, 9})
      for (const std::int64_t m : {1, 17}) {
        const std::vector<T> x = numbers<T>(rows * n, 1), w = numbers<T>(m * n, 2), b = numbers<T>(m, 3),
                             dy = numbers<T>(rows * m, 4);
        std::vector<T> y = poisoned<T>(rows * m), dx = start<T>(rows * n, accumulate), dw = start<T>(m * n, accumulate);
        std::vector<double> wy(y.size()), wx = widened(dx), ww = widened(dw);
        if (!accumulate) wx.assign(wx.size(), 0), ww.assign(ww.size(), 0);
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t o = 0; o < m; ++o) {
            double sum = static_cast<double>(b[static_cast<std::size_t>(o)]);
            const double g = static_cast<double>(dy[static_cast<std::size_t>(r * m + o)]);
            for (std::int64_t i = 0; i < n; ++i) {
              const auto xi = static_cast<std::size_t>(r * n + i), wi = static_cast<std::size_t>(o * n + i);
              sum += static_cast<double>(x[xi]) * static_cast<double>(w[wi]);
              wx[xi] += g * static_cast<double>(w[wi]);
              ww[wi] += g * static_cast<double>(x[xi]);
            }
            wy[static_cast<std::size_t>(r * m + o)] = sum;
          }
        const boot::cpu dev{2};
        boot::linear_forward(dev, in(x, {rows, n}), in(w, {m, n}), b.data(), view(y, {rows, m}));
        boot::linear_input_gradient(dev, in(dy, {rows, m}), in(w, {m, n}), view(dx, {rows, n}), accumulate);
        boot::linear_weight_gradient(dev, in(dy, {rows, m}), in(x, {rows, n}), view(dw, {m, n}), accumulate);
        close(y, wy, 30);
        close(dx, wx, 30);
        close(dw, ww, 30);
      }
}

TEMPLATE_TEST_CASE("layer norm: forward, what it saves, and three gradients", "[nn][operations]", float, double) {
  using T = TestType;
  const bool accumulate = GENERATE(false, true);
  for (const std::int64_t rows : {1, 5})
    for (const std::int64_t n : {1, 2, 7, 64, 200}) {
      const std::vector<T> x = numbers<T>(rows * n, 1), w = numbers<T>(n, 2), b = numbers<T>(n, 3),
                           dy = numbers<T>(rows * n, 4);
      std::vector<T> y = poisoned<T>(rows * n), saved = poisoned<T>(2 * rows), dx = start<T>(rows * n, accumulate);
      std::vector<T> dw = numbers<T>(n, 5), db = numbers<T>(n, 6);  // parameters' gradients are always added to
      std::vector<double> wy(y.size()), wx = widened(dx), ww = widened(dw), wb = widened(db);
      if (!accumulate) wx.assign(wx.size(), 0);
      const double eps = 1e-3;
      const double count = static_cast<double>(n);
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto at = [&](const std::vector<T>& v, std::int64_t i) {
          return static_cast<double>(v[static_cast<std::size_t>(r * n + i)]);
        };
        double mean = 0, square = 0, g_sum = 0, g_along = 0;
        for (std::int64_t i = 0; i < n; ++i) mean += at(x, i) / count;
        for (std::int64_t i = 0; i < n; ++i) square += (at(x, i) - mean) * (at(x, i) - mean) / count;
        const double inverse = 1 / std::sqrt(square + eps);
        for (std::int64_t i = 0; i < n; ++i) {
          const auto k = static_cast<std::size_t>(i);
          const double z = (at(x, i) - mean) * inverse, g = at(dy, i) * static_cast<double>(w[k]);
          wy[static_cast<std::size_t>(r * n + i)] = z * static_cast<double>(w[k]) + static_cast<double>(b[k]);
          g_sum += g / count;
          g_along += g * z / count;
          ww[k] += at(dy, i) * z;
          wb[k] += at(dy, i);
        }
        for (std::int64_t i = 0; i < n; ++i)
          wx[static_cast<std::size_t>(r * n + i)] +=
              inverse * (at(dy, i) * static_cast<double>(w[static_cast<std::size_t>(i)]) - g_sum -
                         (at(x, i) - mean) * inverse * g_along);
      }
      const boot::cpu dev{2};
      boot::layer_norm_forward(dev, in(x, {rows, n}), w.data(), b.data(), eps, view(y, {rows, n}), saved.data(), n);
      boot::layer_norm_backward(dev, in(x, {rows, n}), w.data(), saved.data(), in(dy, {rows, n}), view(dx, {rows, n}),
                                accumulate, dw.data(), db.data(), n);
      close(y, wy, 60);
      close(dx, wx, 300, 0.1);
      close(dw, ww, 60);
      close(db, wb, 60);
      std::vector<T> again = poisoned<T>(rows * n);
      T* const none = nullptr;  // nothing to save; frozen weights, an input without gradient
      boot::layer_norm_forward(dev, in(x, {rows, n}), w.data(), b.data(), eps, view(again, {rows, n}), none, n);
      CHECK(again == y);
      CHECK_NOTHROW(boot::layer_norm_backward(dev, in(x, {rows, n}), w.data(), saved.data(), in(dy, {rows, n}),
                                              boot::view<T, boot::cpu>(), false, none, none, n));
    }
}

TEMPLATE_TEST_CASE("sinusoids in both orders, with shift, even and odd widths", "[nn][operations]", float, double) {
  using T = TestType;
  const bool cosine_first = GENERATE(false, true);
  const double factor = GENERATE(1.0, 0.25, 3.0);
  for (const double shift : {0.0, 1.0})
    for (const std::int64_t features : {1, 4, 7, 128}) {
      if (shift >= static_cast<double>(features) / 2) continue;
      const std::vector<T> t{T{0}, T{1}, static_cast<T>(0.37), T{999}};
      std::vector<T> out = poisoned<T>(4 * features);
      boot::sinusoids<T>(boot::cpu{2}, t.data(), 4, features, cosine_first, shift, 1e4, factor, out.data());
      const std::int64_t half = features / 2;
      for (std::int64_t r = 0; r < 4; ++r)
        for (std::int64_t i = 0; i < features; ++i) {
          const double got = static_cast<double>(out[static_cast<std::size_t>(r * features + i)]);
          if (i == 2 * half) {
            REQUIRE(got == 0);
            continue;
          }
          const double frequency =
              factor * std::pow(1e4, -static_cast<double>(i % half) / (static_cast<double>(half) - shift));
          // The frequency and the angle are rounded to T once each: up to |angle| epsilon.
          const double angle = static_cast<double>(t[static_cast<std::size_t>(r)]) * frequency;
          const bool cosine = (i < half) == cosine_first;
          REQUIRE(std::abs(got - (cosine ? std::cos(angle) : std::sin(angle))) <=
                  (1 + angle) * 2 * static_cast<double>(std::numeric_limits<T>::epsilon()) + 1e-12);
        }
    }
}

TEST_CASE("embedding rows by class, the null class last, gradients in order", "[nn][operations]") {
  const std::vector<double> table = numbers<double>(4 * 3, 1), dy = numbers<double>(5 * 3, 2);
  const std::array<std::int32_t, 5> ids{2, -1, 0, 2, 2};
  const boot::class_labels<boot::cpu> labels{{ids.data(), {5}}};
  std::vector<double> y = poisoned<double>(15), gradient = numbers<double>(12, 3), wanted = gradient;
  const boot::cpu dev{2};
  boot::embedding_forward(dev, in(table, {4, 3}), labels, view(y, {5, 3}));
  boot::embedding_backward(dev, in(dy, {5, 3}), labels, view(gradient, {4, 3}));
  for (std::size_t r = 0; r < 5; ++r) {
    const std::size_t row = ids[r] < 0 ? 3 : static_cast<std::size_t>(ids[r]);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(y[3 * r + i] == table[3 * row + i]);
      wanted[3 * row + i] += dy[3 * r + i];
    }
  }
  close(gradient, wanted);
  boot::embedding_forward(dev, in(table, {4, 3}), labels.null(), view(y, {5, 3}));
  for (std::size_t i = 0; i < 15; ++i) CHECK(y[i] == table[9 + i % 3]);
  const std::array<std::int32_t, 1> beyond{3};  // the null row has no class number of its own
  const boot::class_labels<boot::cpu> wrong{{beyond.data(), {1}}};
  CHECK_THROWS_WITH(boot::embedding_forward(dev, in(table, {4, 3}), wrong, view(y, {1, 3})),
                    ContainsSubstring("class 3") && ContainsSubstring("classes 0 .. 2"));
}

TEST_CASE("the same bits for 1, 2 and 3 threads", "[nn][operations]") {
  const std::int64_t rows = 70, n = 1000;
  const auto x = numbers<float>(rows * n, 1), w = numbers<float>(n, 2), dy = numbers<float>(rows * n, 3);
  std::vector<std::vector<float>> all;
  for (const int threads : {1, 2, 3}) {
    const boot::cpu dev{threads};
    std::vector<float> y = poisoned<float>(rows * n), saved = poisoned<float>(2 * rows), dx = y, silu = y;
    std::vector<float> dw(static_cast<std::size_t>(n)), db = dw, sums = dw;
    boot::layer_norm_forward(dev, in(x, {rows, n}), w.data(), w.data(), 1e-5, view(y, {rows, n}), saved.data(), n);
    boot::layer_norm_backward(dev, in(x, {rows, n}), w.data(), saved.data(), in(dy, {rows, n}), view(dx, {rows, n}),
                              false, dw.data(), db.data(), n);
    boot::column_sums(dev, in(x, {rows, n}), n, sums.data(), false);
    boot::silu_forward(dev, in(x, {rows, n}), view(silu, {rows, n}));
    for (const auto* part : {&saved, &dx, &silu, &dw, &db, &sums}) y.insert(y.end(), part->begin(), part->end());
    all.push_back(std::move(y));
  }
  CHECK(all[0] == all[1]);
  CHECK(all[0] == all[2]);
}

TEST_CASE("operations refuse shapes that do not fit, and say which", "[nn][operations]") {
  using boot::shape;
  CHECK(boot::linear_op<true>{}.result(shape{2, 5, 4}, shape{3, 4}, shape{3}) == shape{2, 5, 3});
  CHECK_THROWS_WITH((boot::linear_op<true>{}.result(shape{2, 5}, shape{3, 4}, shape{3})),
                    ContainsSubstring("for 4 inputs") && ContainsSubstring("[2, 5]"));
  CHECK(boot::add_op{}.result(shape{4, 2}, shape{1, 2}) == shape{4, 2});
  CHECK_THROWS_WITH((boot::add_op{}.result(shape{4, 2}, shape{2, 2})),
                    ContainsSubstring("cannot add shapes [4, 2] and [2, 2]"));
  CHECK(boot::add_bias_op<false>{}.result(shape{4, 3, 2}, shape{2}) == shape{4, 3, 2});
  CHECK(boot::add_bias_op<true>{}.result(shape{4, 2}, shape{4, 2}, shape{2}) == shape{4, 2});
  CHECK_THROWS_WITH((boot::add_bias_op<false>{}.result(shape{4, 2}, shape{4})),
                    ContainsSubstring("cannot add a bias of shape [4] to shape [4, 2]; needs [2]"));
  CHECK_THROWS_WITH((boot::add_bias_op<true>{}.result(shape{4, 2}, shape{1, 2}, shape{2})),
                    ContainsSubstring("cannot add shapes [4, 2] and [1, 2] and a bias"));
  CHECK(boot::concat_op{}.result(shape{4, 2}, shape{4, 5}) == shape{4, 7});
  CHECK_THROWS_WITH((boot::concat_op{}.result(shape{4, 2}, shape{3, 2})), ContainsSubstring("cannot join"));
  CHECK_THROWS_AS((boot::concat_op{}.result(shape{4, 2}, shape{4})), boot::error);
  CHECK_THROWS_WITH((boot::layer_norm_op{}.result(shape{4, 2}, shape{3}, shape{3})),
                    ContainsSubstring("over 3 elements got shape [4, 2]"));
  CHECK((boot::layer_norm_op{}.saved_size(shape{4, 5, 3}, shape{3}, shape{3})) == 40);
  CHECK((boot::linear_op<true>{}.flop(shape{4, 5}, shape{3, 5}, shape{3})) == 120);
}
