// SPDX-License-Identifier: MIT
// Convolution against plain float64 loops: kernels, strides, paddings, odd sizes, edges of tiles, bands and slices,
// thread counts, gradients through a graph, and the errors.
#include "support/catch.hpp"
#include "unit/nn/arrays.hpp"

#include <boot/nn/convolution.hpp>
#include <boot/nn/cpu/convolution.hpp>
#include <boot/testing/gradient_check.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace {

using boot::conv_padding;
using boot::shape;
using boot::testing::in;
using boot::testing::out;
using Catch::Matchers::ContainsSubstring;

struct problem {
  std::int64_t batch, height, width, in, out, kernel = 3, stride = 1;
  conv_padding padding = conv_padding::same;

  [[nodiscard]] shape x() const { return {batch, height, width, in}; }
  [[nodiscard]] shape weight() const { return {out, kernel, kernel, in}; }
  [[nodiscard]] boot::conv2d_op<true> op() const { return {stride, padding}; }
  [[nodiscard]] shape y() const { return op().result(x(), weight(), shape{out}); }
  [[nodiscard]] std::int64_t before() const { return padding == conv_padding::same ? kernel / 2 : 0; }
};

template <class T>
std::vector<T> numbers(const shape& s, std::uint64_t what) {
  return boot::testing::normal_numbers<T>(s.size(), 8, what);
}
// What a result starts from: poison when it must not be read, numbers when it must be added to.
template <class T>
std::vector<T> start(const shape& s, bool accumulate) {
  return accumulate ? numbers<T>(s, 77) : boot::testing::poisoned<T>(s.size());
}
template <class T>
std::vector<double> wide(const std::vector<T>& v, bool zero = false) {
  return zero ? std::vector<double>(v.size()) : std::vector<double>(v.begin(), v.end());
}
// Largest difference in units of the largest number's rounding error.
template <class T>
double off(const std::vector<T>& got, const std::vector<double>& wanted) {
  double most = 0, scale = 1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - wanted[i]);
    if (!(d <= most)) most = d;
    scale = std::max(scale, std::abs(wanted[i]));
  }
  return most / scale / static_cast<double>(std::numeric_limits<T>::epsilon());
}

struct results {
  std::vector<double> y, dx, dw;
};
// Adds to what the three results start from.
void reference(const problem& p, const std::vector<double>& x, const std::vector<double>& w,
               const std::vector<double>& bias, const std::vector<double>& dy, results& r) {
  const shape to = p.y();
  const std::int64_t k = p.kernel;
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t i = 0; i < to[1]; ++i)
      for (std::int64_t j = 0; j < to[2]; ++j)
        for (std::int64_t o = 0; o < p.out; ++o) {
          const auto at = static_cast<std::size_t>(((b * to[1] + i) * to[2] + j) * p.out + o);
          double sum = bias[static_cast<std::size_t>(o)];
          for (std::int64_t m = 0; m < k; ++m)
            for (std::int64_t n = 0; n < k; ++n) {
              const std::int64_t row = i * p.stride - p.before() + m, column = j * p.stride - p.before() + n;
              if (row < 0 || row >= p.height || column < 0 || column >= p.width) continue;
              auto xi = static_cast<std::size_t>(((b * p.height + row) * p.width + column) * p.in);
              auto wi = static_cast<std::size_t>(((o * k + m) * k + n) * p.in);
              for (std::int64_t c = 0; c < p.in; ++c, ++xi, ++wi) {
                sum += x[xi] * w[wi];
                r.dx[xi] += dy[at] * w[wi];
                r.dw[wi] += dy[at] * x[xi];
              }
            }
          r.y[at] = sum;
        }
}

template <class T>
struct outcome {
  std::vector<T> y, dx, dw;
};
template <class T>
outcome<T> run(const problem& p, const boot::cpu& dev, bool accumulate) {
  const auto x = numbers<T>(p.x(), 1), w = numbers<T>(p.weight(), 2), b = numbers<T>({p.out}, 3),
             dy = numbers<T>(p.y(), 4);
  outcome<T> r{start<T>(p.y(), false), start<T>(p.x(), accumulate), start<T>(p.weight(), accumulate)};
  boot::conv2d_forward(dev, in(x, p.x()), in(w, p.weight()), b.data(), p.stride, p.before(), out(r.y, p.y()));
  boot::conv2d_input_gradient(dev, in(dy, p.y()), in(w, p.weight()), p.stride, p.before(), out(r.dx, p.x()),
                              accumulate);
  boot::conv2d_weight_gradient(dev, in(dy, p.y()), in(x, p.x()), p.stride, p.before(), out(r.dw, p.weight()),
                               accumulate);
  return r;
}
template <class T>
void check(const problem& p, bool accumulate) {
  const outcome<T> got = run<T>(p, boot::cpu{1}, accumulate);
  results wanted{wide(got.y, true), wide(start<T>(p.x(), accumulate), !accumulate),
                 wide(start<T>(p.weight(), accumulate), !accumulate)};
  reference(p, wide(numbers<T>(p.x(), 1)), wide(numbers<T>(p.weight(), 2)), wide(numbers<T>({p.out}, 3)),
            wide(numbers<T>(p.y(), 4)), wanted);
  INFO("x " << to_string(p.x()) << ", weight " << to_string(p.weight()) << ", stride " << p.stride << ", padding "
            << static_cast<int>(p.padding) << ", accumulate " << accumulate);
  CHECK(off(got.y, wanted.y) <= 60);
  CHECK(off(got.dx, wanted.dx) <= 60);
  CHECK(off(got.dw, wanted.dw) <= 60);
}

constexpr auto end = conv_padding::end;
const std::vector<problem>& edges() {
  static const std::vector<problem> all{
      {1, 1, 1, 1, 1, 1},           // the smallest
      {1, 1, 1, 1, 1, 3},           // only the middle of the kernel sees anything
      {2, 5, 7, 3, 17},             // odd, not square, a narrow and a wide tile
      {3, 10, 10, 33, 40},          // several samples in a band, the last one alone; two panels
      {1, 2, 3, 170, 33, 5},        // panels visited one by one
      {2, 40, 20, 2, 5, 3},         // bands of rows, the last one shorter; more than 64 tiles
      {3, 6, 4, 16, 49, 1},         // a plain product
      {2, 7, 6, 5, 9, 1, 2},        // some pixels are never seen
      {2, 7, 6, 5, 9, 1, 1, end},   // no padding to speak of
      {2, 9, 6, 4, 31, 3, 2},       // the four kinds of pixels of stride 2
      {2, 8, 6, 4, 12, 3, 2, end},  // diffusers' downsampling
      {1, 7, 5, 2, 3, 3, 1, end},   // shrinks by one
      {2, 9, 8, 3, 4, 5, 2, end},   // three zeros at the end
      {1, 11, 12, 3, 2, 3, 4},      // pixels between the kernels
      {2, 64, 5, 3, 2, 7, 3},       // a large kernel, several bands
      {20, 16, 16, 1, 2},           // more bands than slices of a weight gradient
      {1, 33, 31, 97, 145, 1, 2},   // one slice of several bands
      {4, 16, 16, 32, 16, 3, 2, end}};
  return all;
}

struct network {
  boot::parameter x;
  boot::conv2d conv;
  template <class V>
  void visit(V& v) {
    v("x", x);
    v("conv", conv);
  }
};
using graph = boot::graph<double, boot::cpu>;

}  // namespace

TEMPLATE_TEST_CASE("convolution and its gradients equal plain loops", "[nn][convolution]", float, double) {
  for (const problem& p : edges())
    for (const bool accumulate : {false, true}) check<TestType>(p, accumulate);
}

TEST_CASE("a convolution has the same bits for 1, 2 and 3 threads", "[nn][convolution]") {
  const problem sizes[] = {{8, 8, 8, 40, 70}, {4, 33, 17, 3, 64, 3, 2}, {2, 16, 16, 64, 3}, {4, 16, 16, 64, 33, 1}};
  for (const problem& p : sizes) {
    const auto one = run<float>(p, boot::cpu{1}, true);
    for (const int threads : {2, 3}) {
      const auto more = run<float>(p, boot::cpu{threads}, true);
      CHECK(more.y == one.y);
      CHECK(more.dx == one.dx);
      CHECK(more.dw == one.dw);
    }
  }
}

TEST_CASE("a convolution without a bias, and of an empty batch", "[nn][convolution]") {
  const problem p{1, 3, 3, 2, 3};
  const auto x = numbers<double>(p.x(), 1), w = numbers<double>(p.weight(), 2);
  auto y = start<double>(p.y(), false), plain = y;
  const std::vector<double> zero(3);
  const boot::cpu dev{1};
  const double* const none = nullptr;
  boot::conv2d_forward(dev, in(x, p.x()), in(w, p.weight()), zero.data(), 1, 1, out(y, p.y()));
  boot::conv2d_forward(dev, in(x, p.x()), in(w, p.weight()), none, 1, 1, out(plain, p.y()));
  CHECK(plain == y);
  for (const std::int64_t k : {1, 3}) {
    const problem empty{0, 3, 3, 2, 3, k};
    const auto nothing = numbers<double>(empty.y(), 1);
    for (const bool accumulate : {false, true}) {
      auto dw = start<double>(empty.weight(), accumulate);
      boot::conv2d_weight_gradient(dev, in(nothing, empty.y()), in(nothing, empty.x()), 1, empty.before(),
                                   out(dw, empty.weight()), accumulate);
      CHECK(off(dw, accumulate ? wide(numbers<double>(empty.weight(), 77)) : wide(dw, true)) == 0);
    }
  }
}

TEST_CASE("a convolution layer: names, first values, gradients and FLOP", "[nn][convolution]") {
  const boot::cpu dev{1};
  const boot::conv2d_options all[] = {{.in = 3, .out = 4},
                                      {.in = 3, .out = 2, .kernel = 1},
                                      {.in = 2, .out = 3, .stride = 2},
                                      {.in = 2, .out = 3, .stride = 2, .padding = end},
                                      {.in = 1, .out = 1, .kernel = 5}};
  for (const boot::conv2d_options& o : all) {
    network n{{{2, 5, 4, o.in}, {}}, boot::conv2d(o)};
    const auto report =
        boot::testing::check_graph_gradient(dev, n, [&n](graph& g) { return n.conv(g, g(n.x)); }, {.directions = 2});
    INFO(report.worst_name);
    CHECK(report.worst <= 1e-6);
    CHECK(report.elements == 40 * o.in + o.out * (o.kernel * o.kernel * o.in + 1));
  }
  // The same value twice and twice the same layer: gradients are added.
  network n{{{1, 3, 3, 2}, {}}, boot::conv2d({.in = 2, .out = 2})};
  const auto twice = [&n](graph& g) { return n.conv(g, n.conv(g, g(n.x))); };
  CHECK(boot::testing::check_graph_gradient(dev, n, twice, {.directions = 2}).worst <= 1e-6);

  boot::parameter_arena<double, boot::cpu> a(dev, boot::parameter_layout(n));
  CHECK(a.layout().entries()[1].name == "conv.weight");
  CHECK(a.layout().entries()[1].extents == shape{2, 3, 3, 2});
  CHECK(a.layout().entries()[1].order == boot::file_order::ohwi_as_oihw);
  CHECK(a.layout().entries()[2].name == "conv.bias");
  CHECK(a.layout().entries()[2].order == boot::file_order::as_is);
  a.initialize(dev, 1);
  double most = 0;
  for (std::int64_t i = 0; i < 36; ++i) most = std::max(most, std::abs(a.value(1)[i]));
  CHECK(most <= 1 / std::sqrt(18.0));
  CHECK(most > 0.8 / std::sqrt(18.0));
  n.conv.zero();
  CHECK(n.conv.weight.init.value == 0);
  CHECK(n.conv.bias.init.value == 0);

  const auto plan = graph{}.plan(dev, true, a.layout(), [&n](graph& g) { return n.conv(g, g(n.x)); });
  CHECK(plan.forward_flop == 2 * 9 * 2 * 9 * 2);
  CHECK(plan.backward_flop == 2 * plan.forward_flop);
  const problem down{2, 8, 6, 4, 12, 3, 2, end};
  CHECK(down.op().flop(down.x(), down.weight()) == 2.0 * 2 * 4 * 3 * 12 * 9 * 4);
}

TEST_CASE("frozen weights and an input that wants no gradient are left alone", "[nn][convolution]") {
  const boot::cpu dev{1};
  network n{{{1, 4, 4, 2}, {}}, boot::conv2d({.in = 2, .out = 3})};
  boot::parameter_layout layout(n);
  layout.assign_group({.name = "frozen", .trainable = false},
                      [](std::string_view name) { return name != "conv.bias"; });
  boot::parameter_arena<double, boot::cpu> a(dev, layout);
  a.initialize(dev, 1);
  graph g;
  const auto code = [&n](graph& q) { return n.conv(q, q(n.x)); };
  g.begin(dev, graph{}.plan(dev, true, a.layout(), code), a.layout(), a.values(), a.gradient());
  const auto y = code(g);
  const std::vector<double> ones(48, 1.0);
  g.backward(y, in(ones, y.extents()));
  for (const int frozen : {0, 1})
    for (const double v : boot::to_host(dev, a.gradient(frozen))) REQUIRE(v == 0);
  CHECK(boot::to_host(dev, a.gradient(2)) == std::vector<double>(3, 16.0));
}

TEST_CASE("convolutions that make no sense are refused, with the reason", "[nn][convolution]") {
  const auto said = [](const problem& p) {
    try {
      static_cast<void>(p.y());
    } catch (const boot::error& e) {
      return std::string(e.what());
    }
    return std::string("(no error)");
  };
  CHECK_THAT(said({1, 0, 4, 2, 3}), ContainsSubstring("[1, 0, 4, 2]") && ContainsSubstring("must be at least 1"));
  CHECK_THAT(said({1, 4, 0, 2, 3}), ContainsSubstring("[1, 4, 0, 2]"));
  CHECK_THAT(said({1, 4, 1, 2, 3, 3, 1, end}), ContainsSubstring("at least 2"));
  CHECK_THAT(said({1, 4, 4, 0, 3}), ContainsSubstring("no extent of zero"));
  CHECK_THAT(said({1, 4, 4, 2, 0}), ContainsSubstring("no extent of zero"));
  CHECK_THAT(said({1, 4, 4, 2, 2, 2}), ContainsSubstring("odd k"));
  CHECK_THAT(said({1, 4, 4, 2, 2, 3, 0}), ContainsSubstring("stride 0"));
  const boot::conv2d_op<false> op;
  CHECK_THROWS_WITH(op.result(shape{1, 4, 4, 3}, shape{5, 3, 3, 2}),
                    ContainsSubstring("of 2 channels got an activation of shape [1, 4, 4, 3]"));
  CHECK_THROWS_AS(op.result(shape{4, 2}, shape{5, 3, 3, 2}), boot::error);
  CHECK_THROWS_AS(op.result(shape{1, 4, 4, 2}, shape{5, 2}), boot::error);
  CHECK_THROWS_AS(op.result(shape{1, 4, 4, 2}, shape{5, 3, 1, 2}), boot::error);
  CHECK(op.result(shape{2, 4, 6, 2}, shape{5, 3, 3, 2}) == shape{2, 4, 6, 5});
  CHECK_THROWS_WITH(boot::conv2d({.in = 0, .out = 3}), ContainsSubstring("from 0 to 3 channels"));
  CHECK_THROWS_WITH(boot::conv2d({.in = 1, .out = 3, .kernel = 4}), ContainsSubstring("the kernel odd"));
  CHECK_THROWS_AS(boot::conv2d({.in = 1, .out = 3, .stride = 0}), boot::error);
  CHECK_THROWS_AS(boot::conv2d({.in = 1, .out = -1}), boot::error);
}
