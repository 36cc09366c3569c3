// SPDX-License-Identifier: MIT
/// The host loop itself: the same bits for any number of threads, batch split, alignment and kind of store.
#include "kernel_cases.hpp"

#include <boot/kernel/op/bootstrap.hpp>

namespace {

using namespace kernel_test;
using five = boot::inputs<float, float, float, float, float>;

boot::bootstrap_row<float> row_of(std::int64_t b) {
  const float t = static_cast<float>(b % 7) / 7;
  return {1 - t, -t, 1.5f, .04f + .1f * t, 0, 1.f, 1e-3f, 2e-3f, -HUGE_VALF, HUGE_VALF};
}

struct outcome {
  guarded<float> gradient;
  std::vector<float> sums;
};

outcome loss(const engine& how, std::int64_t batch, std::int64_t n, std::int64_t shift) {
  const auto in = random_inputs<float, float, float, float, float>(batch * n, shift, 5);
  std::vector<boot::bootstrap_row<float>> rows;
  for (std::int64_t b = 0; b < batch; ++b) rows.push_back(row_of(b));
  guarded<float> gradient(batch * n, shift);
  auto sums = std::apply(
      [&](const auto&... x) {
        return run(how, boot::bootstrap_euler_op<float>{}, rows, n, five(x.data()...),
                   boot::outputs<float>(gradient.data()));
      },
      in);
  return {std::move(gradient), std::move(sums)};
}

bool equal(const outcome& a, const outcome& b) {
  return a.gradient.same_bits(b.gradient) &&
         std::memcmp(a.sums.data(), b.sums.data(), a.sums.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("for_each_element gives the same bits on 1, 2 and 3 threads", "[kernel]") {
  const auto [batch, n] =
      GENERATE(std::pair<std::int64_t, std::int64_t>{1, 1}, std::pair<std::int64_t, std::int64_t>{37, 64},
               std::pair<std::int64_t, std::int64_t>{513, 3}, std::pair<std::int64_t, std::int64_t>{3, 100'003});
  const outcome one = loss({.threads = 1}, batch, n, 0);
  CHECK(equal(one, loss({.threads = 2}, batch, n, 0)));
  CHECK(equal(one, loss({.threads = 3}, batch, n, 0)));
  CHECK(equal(one, loss({.threads = 2}, batch, n, 1)));  // wherever the arrays begin
}

TEST_CASE("for_each_element gives a sample the same bits alone and in a batch", "[kernel]") {
  const std::int64_t batch = 5, n = 20'011, which = 3;
  const auto in = random_inputs<float, float, float, float, float>(batch * n, 0, 9);
  std::vector<boot::bootstrap_row<float>> rows;
  for (std::int64_t b = 0; b < batch; ++b) rows.push_back(row_of(b));
  const guarded<float> together(batch * n, 0), alone(n, 0);
  const auto sums = std::apply(
      [&](const auto&... x) {
        return std::pair{run({.threads = 2}, boot::bootstrap_euler_op<float>{}, rows, n, five(x.data()...),
                             boot::outputs<float>(together.data())),
                         run({.threads = 1}, boot::bootstrap_euler_op<float>{}, std::vector{rows[which]}, n,
                             five((x.data() + which * n)...), boot::outputs<float>(alone.data()))};
      },
      in);
  CHECK(std::memcmp(&sums.first[which], sums.second.data(), sizeof(float)) == 0);
  CHECK(std::memcmp(together.data() + which * n, alone.data(), static_cast<std::size_t>(n) * sizeof(float)) == 0);
}

TEST_CASE("Stores past the caches change no bit", "[kernel]") {
  const std::int64_t n = GENERATE(1, 63, 64, 65, 257, 16'000);
  const auto in = random_inputs<float, float, float, float, float>(n, 0, 3);
  const guarded<float> usual(n, 0), streamed(n, 0);
  const auto loop = [&](const guarded<float>& to, bool streaming) {
    return std::apply(
        [&](const auto&... x) {
          return boot::detail::element_loop<float>(boot::bootstrap_euler_op<float>{}, row_of(2), 0, n,
                                                   five(x.data()...), boot::outputs<float>(to.data()), streaming,
                                                   std::make_index_sequence<5>{}, std::make_index_sequence<1>{});
        },
        in);
  };
  const float a = loop(usual, false), b = loop(streamed, true);
  CHECK(std::memcmp(&a, &b, sizeof a) == 0);
  CHECK(usual.same_bits(streamed));
  CHECK(streamed.intact());
}

TEST_CASE("for_each_element computes in float64 where it is asked to", "[kernel]") {
  const std::int64_t n = 1000;
  std::vector<double> y(n), target(n), gradient(n, std::nan(""));
  for (std::int64_t i = 0; i < n; ++i) {
    y[static_cast<std::size_t>(i)] = 1 + 1e-12 * static_cast<double>(i);
    target[static_cast<std::size_t>(i)] = 1;
  }
  const boot::bootstrap_row<double> row{0, 0, 0, 0, 0, 1, 1, 1, 0, 0};
  double sum = std::nan("");
  boot::for_each_element<double>(cpu{}, boot::regression_op<double>{}, &row, 1, n,
                                 boot::inputs<double, double>(y.data(), target.data()),
                                 boot::outputs<double>(gradient.data()), &sum, nullptr);
  double want = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double r = y[static_cast<std::size_t>(i)] - 1;
    want += r * r;
    CHECK(gradient[static_cast<std::size_t>(i)] == 2 * r);
  }
  CHECK(std::abs(sum - want) <= 1e-12 * want);
}

TEST_CASE("Nothing happens for an empty batch", "[kernel]") {
  const outcome none = loss({.threads = 2}, 0, 5, 0);
  CHECK(none.sums.empty());
  CHECK(none.gradient.intact());
}
