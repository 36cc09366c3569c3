// SPDX-License-Identifier: MIT
/// AdamW with its averages and the square sum, on the host loop and on the host team, against float64 formulas.
#include "kernel_cases.hpp"

#include <boot/kernel/cpu/optimizer.hpp>

namespace {

using namespace kernel_test;

/// The six to eight flat arrays of one update.
struct state {
  std::vector<guarded<float>> array;  // value, gradient, first, second, averages

  state(std::int64_t n, int averages, std::int64_t shift, std::uint64_t seed) {
    for (int k = 0; k < 4 + averages; ++k) {
      array.emplace_back(n, shift);
      for (std::int64_t i = 0; i < n; ++i) {
        const float z =
            boot::normal({seed, boot::stream::test, 0}, static_cast<std::uint64_t>(k), static_cast<std::uint64_t>(i));
        array.back().data()[i] = k == 3 ? z * z : z;
      }
    }
  }
  [[nodiscard]] float* at(std::size_t k) const { return k < array.size() ? array[k].data() : nullptr; }
  [[nodiscard]] bool same_bits(const state& other) const {
    for (std::size_t k = 0; k < array.size(); ++k)
      if (!array[k].same_bits(other.array[k])) return false;
    return true;
  }
};

boot::adamw_row<float> row_of() {
  return {.5f, 2e-3f, .01f, .9f, .999f, 1.25f, 1.5f, 1e-8f, {1e-3f, .1f, .25f, 1.f}, 0};
}

const std::vector<boot::group_row<float>> factors = {{1, 1}, {.5f, 0}, {0, 1}};

template <int Averages>
void by_team(const state& s, const boot::adamw_row<float>& row, const std::vector<boot::parameter_range>& ranges,
             int blocks) {
  float* const average[boot::max_averages] = {s.at(4), s.at(5), s.at(6), s.at(7)};
  boot::launch_on_host<team_size>(blocks, 1, [&](const auto& team) {
    boot::adamw_body<Averages>(team, &row, factors.data(), ranges.data(), static_cast<std::int64_t>(ranges.size()),
                               s.at(0), static_cast<const float*>(s.at(1)), s.at(2), s.at(3), average);
  });
}

void update(const engine& how, const state& s, int averages, const boot::adamw_row<float>& row,
            const std::vector<boot::parameter_range>& ranges) {
  if (!how.team) {
    boot::adamw_ema(cpu{.threads = how.threads}, &row, factors.data(), ranges.data(),
                    static_cast<std::int64_t>(ranges.size()), s.at(0), static_cast<const float*>(s.at(1)), s.at(2),
                    s.at(3), {s.at(4), s.at(5), s.at(6), s.at(7)}, averages);
    return;
  }
  switch (averages) {
    case 0:
      return by_team<0>(s, row, ranges, how.blocks);
    case 1:
      return by_team<1>(s, row, ranges, how.blocks);
    case 2:
      return by_team<2>(s, row, ranges, how.blocks);
    case 3:
      return by_team<3>(s, row, ranges, how.blocks);
    default:
      return by_team<4>(s, row, ranges, how.blocks);
  }
}

/// PyTorch's AdamW on one element, in float64.
struct element {
  traced value, first, second;
};
element adamw(const boot::adamw_row<float>& p, const boot::group_row<float>& g, double value, double gradient,
              double first, double second) {
  const auto w = [](float x) { return traced(static_cast<double>(x)); };
  const traced d = w(p.gradient_scale) * gradient, rate = w(p.rate) * w(g.rate);
  element e;
  e.first = w(p.beta1) * first + (traced(1) - w(p.beta1)) * d;
  e.second = w(p.beta2) * second + (traced(1) - w(p.beta2)) * (d * d);
  e.value = traced(value) - rate * w(p.decay) * w(g.decay) * value -
            rate * w(p.correction1) * e.first / (root(e.second) * w(p.correction2) + w(p.epsilon));
  return e;
}

void check_update(const engine& how, std::int64_t n, int averages, std::int64_t shift,
                  const std::vector<boot::parameter_range>& ranges) {
  const state before(n, averages, shift, 11), after(n, averages, shift, 11);
  const auto row = row_of();
  update(how, after, averages, row, ranges);
  std::int64_t wrong = 0;
  std::string first;
  const auto compare = [&](const char* what, std::int64_t i, double got, traced want) {
    if (std::abs(got - want.v) <= 16 * unit * want.scale + 1e-38 || ++wrong > 1) return;
    first = fmt::format("{} of element {}: {} instead of {}", what, i, got, want.v);
  };
  std::vector<int> group(static_cast<std::size_t>(n), -1);
  for (const auto& r : ranges)
    for (std::int64_t i = r.begin; i < r.end; ++i) group[static_cast<std::size_t>(i)] = r.group;
  for (std::int64_t i = 0; i < n; ++i) {
    const int g = group[static_cast<std::size_t>(i)];
    const auto old = [&](std::size_t k) { return before.array[k][i]; };
    if (g < 0) {  // in no range: untouched
      for (std::size_t k = 0; k < before.array.size(); ++k) compare("rest", i, after.array[k][i], traced(old(k), 0));
      continue;
    }
    const element e = adamw(row, factors[static_cast<std::size_t>(g)], old(0), old(1), old(2), old(3));
    compare("value", i, after.array[0][i], e.value);
    compare("gradient", i, after.array[1][i], traced(old(1), 0));
    compare("first moment", i, after.array[2][i], e.first);
    compare("second moment", i, after.array[3][i], e.second);
    for (int a = 0; a < averages; ++a) {
      const auto k = static_cast<std::size_t>(4 + a);
      const traced share(static_cast<double>(row.average[a]));
      compare("average", i, after.array[k][i], traced(old(k)) + share * (e.value - traced(old(k))));
    }
  }
  INFO(first);
  CHECK(wrong == 0);
  for (const auto& a : after.array) CHECK(a.intact());
}

std::vector<boot::parameter_range> whole(std::int64_t n) { return {{0, n, 0}}; }

}  // namespace

TEST_CASE("adamw_ema is AdamW and up to four averages", "[kernel]") {
  const int averages = GENERATE(0, 1, 2, 3, 4);
  for (const std::int64_t n : {1, 3, 63, 255, 256, 257, 16'385, 100'003})
    for (const std::int64_t shift : {0, 1}) {
      INFO("n = " << n << ", shift = " << shift);
      check_update({.threads = 2}, n, averages, shift, whole(n));
      if (n < 16'385) check_update({.team = true, .blocks = 2}, n, averages, shift, whole(n));
    }
  check_update({.team = true, .blocks = 5}, 100'003, averages, 0, whole(100'003));
  check_update({.threads = 2}, 1'000'003, averages, 0, whole(1'000'003));
}

TEST_CASE("adamw_ema keeps to its ranges and gives each group its factors", "[kernel]") {
  const std::int64_t n = 40'000;
  const std::vector<boot::parameter_range> ranges = {
      {0, 64, 1}, {128, 20'001, 0}, {20'001, 20'003, 2}, {30'000, 40'000, 1}};
  for (const std::int64_t shift : {0, 3}) {
    check_update({.threads = 3}, n, 1, shift, ranges);
    check_update({.team = true, .blocks = 3}, n, 2, shift, ranges);
  }
}

TEST_CASE("adamw_ema with the skip flag changes nothing", "[kernel]") {
  const bool team = GENERATE(false, true);
  const state before(1000, 2, 0, 3), after(1000, 2, 0, 3);
  auto row = row_of();
  row.skip = 1;
  after.array[1].data()[7] = before.array[1].data()[7] = std::nanf("");
  update({.threads = 2, .team = team}, after, 2, row, whole(1000));
  CHECK(after.same_bits(before));
  row.skip = 0;
  update({.threads = 2, .team = team}, after, 2, row, whole(1000));
  CHECK_FALSE(after.same_bits(before));
  CHECK(std::isnan(after.array[0][7]));  // whoever does not skip sees it
}

TEST_CASE("The optimiser gives the same bits on 1, 2 and 3 threads", "[kernel]") {
  const std::int64_t n = 100'003;
  std::vector<state> all;
  std::vector<double> norms;
  for (const int threads : {1, 2, 3}) {
    all.emplace_back(n, 2, 0, 21);
    update({.threads = threads}, all.back(), 2, row_of(), whole(n));
    std::vector<double> partials;
    norms.push_back(
        boot::square_sum(cpu{.threads = threads}, boot::view<const float, cpu>(all.back().at(0), {n}), partials));
  }
  CHECK(all[1].same_bits(all[0]));
  CHECK(all[2].same_bits(all[0]));
  CHECK(std::memcmp(&norms[0], &norms[1], sizeof(double)) == 0);
  CHECK(std::memcmp(&norms[0], &norms[2], sizeof(double)) == 0);
}

TEST_CASE("square_sum adds squares in float64", "[kernel]") {
  for (const std::int64_t n : {1, 255, 256, 257, 16'383, 16'384, 16'385, 100'003, 1'000'003})
    for (const std::int64_t shift : {0, 1}) {
      const guarded<float> x(n, shift);
      long double want = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        x.data()[i] = boot::normal({4, boot::stream::test, 0}, 0, static_cast<std::uint64_t>(i));
        want += static_cast<long double>(x.data()[i]) * static_cast<long double>(x.data()[i]);
      }
      const auto near = [&](double got) {
        return std::abs(static_cast<long double>(got) - want) <= static_cast<long double>(n) * 0x1p-53L * want;
      };
      INFO("n = " << n << ", shift = " << shift);
      std::vector<double> partials;
      CHECK(near(boot::square_sum(cpu{.threads = 2}, boot::view<const float, cpu>(x.data(), {n}), partials)));
      if (n > 200'000) continue;
      const int blocks = 3;
      std::vector<float> partial(blocks, std::nanf(""));
      float got = std::nanf("");
      boot::launch_on_host<team_size>(blocks, 1, [&](const auto& team) {
        boot::square_sum_body(team, static_cast<const float*>(x.data()), n, partial.data());
      });
      boot::launch_on_host<team_size>(1, 1, [&](const auto& team) {
        boot::finish_sum_body(team, static_cast<const float*>(partial.data()), blocks, &got);
      });
      CHECK(std::abs(static_cast<long double>(got) - want) <= 2e-6L * want);
    }
}
