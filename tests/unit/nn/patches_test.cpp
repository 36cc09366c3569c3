// SPDX-License-Identifier: MIT
// Patches, the way back, and positions: against plain loops, gradients, threads, shapes that do not fit.
#include "support/catch.hpp"

#include <boot/nn/cpu/patches.hpp>
#include <boot/nn/operations.hpp>
#include <boot/nn/patches.hpp>
#include <boot/testing/gradient_check.hpp>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;

template <class T>
using code_of = std::function<typename boot::graph<T, boot::cpu>::value(
    boot::graph<T, boot::cpu>&, const typename boot::graph<T, boot::cpu>::value&)>;

// Runs code on one input; the result's shape comes with it.
template <class T>
std::vector<T> run(const boot::cpu& on, const std::vector<T>& x, const boot::shape& extents, const code_of<T>& code,
                   boot::shape* result = nullptr) {
  using graph = boot::graph<T, boot::cpu>;
  const auto all = [&](graph& g) { return code(g, g.input({x.data(), extents})); };
  const boot::parameter_layout none;
  graph g;
  g.begin(on, graph{}.plan(on, false, none, all), none, {}, {});
  const auto y = all(g);
  if (result != nullptr) *result = y.extents();
  return boot::to_host(on, g.data(y));
}

std::vector<double> waves(std::int64_t n) {
  std::vector<double> x;
  for (std::int64_t i = 0; i < n; ++i) x.push_back(std::sin(1.3 * static_cast<double>(i)));
  return x;
}

struct holder {
  boot::parameter x;
  template <class V>
  void visit(V& v) {
    v("x", x);
  }
};
double gradient_error(const boot::shape& extents, const code_of<double>& code) {
  holder h{{extents, {}}};
  const std::function<boot::graph<double, boot::cpu>::value(boot::graph<double, boot::cpu>&)> all =
      [&](boot::graph<double, boot::cpu>& g) {
        const auto x = g(h.x);
        return add(g, code(g, x), code(g, x));  // twice: the second gradient is added to the first
      };
  return boot::testing::check_graph_gradient(dev, h, all, {.directions = 2}).worst;
}

}  // namespace

TEST_CASE("patches lie row by row, channels last, and go back", "[nn][patches]") {
  const std::int64_t size = GENERATE(1, 2, 3), channels = GENERATE(1, 3), batch = GENERATE(1, 2);
  const std::int64_t rows = 2, columns = 3, height = rows * size, width = columns * size;
  const boot::shape extents{batch, height, width, channels};
  const std::vector<double> x = waves(extents.size());
  boot::shape found;
  const auto y = run<double>(
      dev, x, extents, [&](auto& g, const auto& v) { return to_patches(g, v, size); }, &found);
  REQUIRE(found == boot::shape{batch, rows, columns, size * size * channels});
  std::size_t at = 0;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j)
        for (std::int64_t p = 0; p < size; ++p)
          for (std::int64_t q = 0; q < size; ++q)
            for (std::int64_t c = 0; c < channels; ++c)
              REQUIRE(y[at++] ==
                      x[static_cast<std::size_t>(((b * height + i * size + p) * width + j * size + q) * channels + c)]);
  CHECK(run<double>(dev, y, found, [&](auto& g, const auto& v) { return from_patches(g, v, size); }) == x);
}

TEST_CASE("positions: columns in the first half of the features, rows in the second", "[nn][patches]") {
  const boot::shape extents{2, 3, 5, 8};
  const std::vector<double> x = waves(extents.size());
  const double base = GENERATE(3.0, 7.5);
  const auto y = run<double>(dev, x, extents, [&](auto& g, const auto& v) { return add_positions(g, v, base); });
  const std::vector<float> narrow(x.begin(), x.end());
  const auto z = run<float>(dev, narrow, extents, [&](auto& g, const auto& v) { return add_positions(g, v, base); });
  std::size_t at = 0;
  for (int b = 0; b < 2; ++b)
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 5; ++j)
        for (int k = 0; k < 8; ++k, ++at) {
          const double place = k < 4 ? j * base / 5 : i * base / 3, angle = place * std::pow(10000, -(k % 2) / 2.0);
          const double wanted = x[at] + (k % 4 < 2 ? std::sin(angle) : std::cos(angle));
          REQUIRE(y[at] == Catch::Approx(wanted).epsilon(1e-14).margin(1e-15));
          REQUIRE(z[at] == Catch::Approx(wanted).epsilon(1e-6).margin(1e-6));
        }
}

TEST_CASE("positions of no sample write nothing", "[nn][patches]") {
  std::vector<float> nothing, guard(8, 7.0f);
  boot::add_positions(dev, boot::view<const float, boot::cpu>{nothing.data(), {0, 1, 2, 4}}, 1,
                      boot::view<float, boot::cpu>{guard.data(), {0, 1, 2, 4}});
  CHECK(guard == std::vector<float>(8, 7.0f));
}

TEST_CASE("gradients of patches and positions", "[nn][patches]") {
  CHECK(gradient_error({2, 4, 6, 1}, [](auto& g, const auto& x) { return to_patches(g, x, 2); }) < 1e-6);
  CHECK(gradient_error({1, 2, 1, 9}, [](auto& g, const auto& x) { return from_patches(g, x, 3); }) < 1e-6);
  CHECK(gradient_error({2, 1, 3, 4}, [](auto& g, const auto& x) { return add_positions(g, x, 2); }) < 1e-6);
}

TEST_CASE("patches and positions have the same bits for any number of threads", "[nn][patches]") {
  const boot::shape extents{3, 40, 36, 12};
  const std::vector<double> x = waves(extents.size());
  const code_of<double> code = [](auto& g, const auto& v) {
    return from_patches(g, add_positions(g, to_patches(g, v, 4), 10), 4);
  };
  const auto wanted = run(boot::cpu{1}, x, extents, code);
  for (const int threads : {2, 3}) CHECK(run(boot::cpu{threads}, x, extents, code) == wanted);
}

TEST_CASE("patches and positions tell what does not fit", "[nn][patches]") {
  const boot::to_patches_op to{2};
  const boot::from_patches_op from{2};
  CHECK_THROWS_WITH(to.result({1, 3, 4, 1}), ContainsSubstring("multiples of 2"));
  CHECK_THROWS_WITH(to.result({4, 4, 1}), ContainsSubstring("needs images"));
  CHECK_THROWS_WITH(to.result({1, 0, 4, 1}), ContainsSubstring("at least one pixel"));
  CHECK_THROWS_AS(boot::to_patches_op{0}.result({1, 4, 4, 1}), boot::error);
  CHECK_THROWS_WITH(from.result({1, 2, 2, 6}), ContainsSubstring("a multiple of 4"));
  CHECK_THROWS_AS(from.result({2, 4}), boot::error);
  CHECK_THROWS_WITH(boot::add_positions_op{4}.result({1, 2, 2, 6}), ContainsSubstring("width is a multiple of 4"));
  CHECK_THROWS_WITH(boot::add_positions_op{0}.result({1, 2, 2, 4}), ContainsSubstring("a positive length"));
}
