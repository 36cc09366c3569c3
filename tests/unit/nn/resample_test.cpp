// SPDX-License-Identifier: MIT
// Upsampling and average pooling against plain loops, their gradients, thread counts and errors.
#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/nn/cpu/resample.hpp>
#include <boot/nn/operations.hpp>
#include <boot/nn/resample.hpp>
#include <boot/testing/gradient_check.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace {

using boot::shape;
using boot::testing::in;
using boot::testing::out;
using Catch::Matchers::ContainsSubstring;
using graph = boot::graph<double, boot::cpu>;

template <class T>
std::vector<T> numbers(const shape& s, std::uint64_t what) {
  return boot::testing::normal_numbers<T>(s.size(), 8, what);
}
template <class T>
std::vector<T> start(const shape& s, bool accumulate) {
  return accumulate ? numbers<T>(s, 77) : boot::testing::poisoned<T>(s.size());
}

// `fine` holds as many numbers as the larger image; each belongs to one number of the smaller.
template <class F>
void for_each_pixel(const shape& fine, const F& f) {
  for (std::int64_t at = 0; at < fine.size(); ++at) {
    const std::int64_t c = at % fine[3], x = at / fine[3] % fine[2], y = at / fine[3] / fine[2] % fine[1];
    const std::int64_t b = at / fine.sample_size();
    f(static_cast<std::size_t>(at),
      static_cast<std::size_t>(((b * (fine[1] / 2) + y / 2) * (fine[2] / 2) + x / 2) * fine[3] + c));
  }
}
template <class T>
void close(const std::vector<T>& got, const std::vector<double>& wanted) {
  REQUIRE(got.size() == wanted.size());
  double most = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - wanted[i]);
    if (!(d <= most)) most = d;
  }
  CHECK(most <= 16 * static_cast<double>(std::numeric_limits<T>::epsilon()));
}

const shape smalls[] = {{1, 1, 1, 1}, {2, 3, 5, 7}, {3, 2, 1, 16}, {1, 40, 30, 33}};

struct network {
  boot::parameter x;
  template <class V>
  void visit(V& v) {
    v("x", x);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("upsampling copies every pixel to four, and sums them back", "[nn][resample]", float, double) {
  using T = TestType;
  for (const shape& s : smalls)
    for (const bool accumulate : {false, true}) {
      const shape large{s[0], 2 * s[1], 2 * s[2], s[3]};
      const auto x = numbers<T>(s, 1), dy = numbers<T>(large, 2);
      auto y = start<T>(large, false), dx = start<T>(s, accumulate);
      std::vector<double> wy(y.size()), wx(dx.size());
      if (accumulate) wx.assign(dx.begin(), dx.end());
      for_each_pixel(large, [&](std::size_t fine, std::size_t coarse) {
        wy[fine] = static_cast<double>(x[coarse]);
        wx[coarse] += static_cast<double>(dy[fine]);
      });
      const boot::cpu dev{1};
      boot::upsample_forward(dev, in(x, s), out(y, large));
      boot::upsample_backward(dev, in(dy, large), out(dx, s), accumulate);
      close(y, wy);
      close(dx, wx);
    }
}

TEMPLATE_TEST_CASE("pooling averages four pixels, and gives each a quarter back", "[nn][resample]", float, double) {
  using T = TestType;
  for (const shape& s : smalls)
    for (const bool accumulate : {false, true}) {
      const shape large{s[0], 2 * s[1], 2 * s[2], s[3]};
      const auto x = numbers<T>(large, 1), dy = numbers<T>(s, 2);
      auto y = start<T>(s, false), dx = start<T>(large, accumulate);
      std::vector<double> wy(y.size()), wx(dx.size());
      if (accumulate) wx.assign(dx.begin(), dx.end());
      for_each_pixel(large, [&](std::size_t fine, std::size_t coarse) {
        wy[coarse] += static_cast<double>(x[fine]) / 4;
        wx[fine] += static_cast<double>(dy[coarse]) / 4;
      });
      const boot::cpu dev{1};
      boot::average_pool_forward(dev, in(x, large), out(y, s));
      boot::average_pool_backward(dev, in(dy, s), out(dx, large), accumulate);
      close(y, wy);
      close(dx, wx);
    }
}

TEST_CASE("resampling has the same bits for 1, 2 and 3 threads", "[nn][resample]") {
  const shape s{3, 40, 30, 33}, large{3, 80, 60, 33};
  const auto x = numbers<float>(s, 1), z = numbers<float>(large, 2);
  std::vector<std::vector<float>> all;
  for (const int threads : {1, 2, 3}) {
    const boot::cpu dev{threads};
    auto up = start<float>(large, false), back = start<float>(large, true);
    auto down = start<float>(s, false), sums = start<float>(s, true);
    boot::upsample_forward(dev, in(x, s), out(up, large));
    boot::upsample_backward(dev, in(z, large), out(sums, s), true);
    boot::average_pool_forward(dev, in(z, large), out(down, s));
    boot::average_pool_backward(dev, in(x, s), out(back, large), true);
    for (const auto* part : {&back, &down, &sums}) up.insert(up.end(), part->begin(), part->end());
    all.push_back(std::move(up));
  }
  CHECK(all[0] == all[1]);
  CHECK(all[0] == all[2]);
}

TEST_CASE("resampling on a graph: shapes, gradients, errors", "[nn][resample]") {
  const boot::cpu dev{1};
  network n{{{2, 2, 4, 3}, {}}};
  // x and its double size are used twice, so that gradients are added as well as written.
  const auto both = [&n](graph& g) {
    const auto x = g(n.x);
    const auto up = boot::upsample_nearest(g, x);
    const auto sum = boot::add(g, boot::average_pool(g, up), x);
    return boot::add(g, boot::upsample_nearest(g, sum), up);
  };
  CHECK(boot::testing::check_graph_gradient(dev, n, both, {.directions = 2}).worst <= 1e-6);
  CHECK(boot::upsample_nearest_op{}.result(shape{2, 3, 5, 7}) == shape{2, 6, 10, 7});
  CHECK(boot::average_pool_op{}.result(shape{2, 6, 10, 7}) == shape{2, 3, 5, 7});
  CHECK_THROWS_WITH(boot::average_pool_op{}.result(shape{2, 3, 4, 7}),
                    ContainsSubstring("[2, 3, 4, 7]") && ContainsSubstring("even height and width"));
  CHECK_THROWS_AS(boot::average_pool_op{}.result(shape{2, 4, 3, 7}), boot::error);
  CHECK_THROWS_AS(boot::average_pool_op{}.result(shape{2, 4, 0, 7}), boot::error);
  CHECK_THROWS_AS(boot::average_pool_op{}.result(shape{2, 4, 4}), boot::error);
  CHECK_THROWS_WITH(boot::upsample_nearest_op{}.result(shape{4, 3}), ContainsSubstring("got shape [4, 3]"));
  CHECK_THROWS_AS(boot::upsample_nearest_op{}.result(shape{1, 0, 3, 2}), boot::error);
  CHECK_THROWS_AS(boot::upsample_nearest_op{}.result(shape{1, 3, 3, 0}), boot::error);
}
