// SPDX-License-Identifier: MIT
/// The launchers on a TeamDevice: element-wise maps, per-element functors with sums, noise and the optimiser.
#include "kernel_cases.hpp"

#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/op/bootstrap.hpp>
#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/map.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/kernel/team/optimizer.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot/testing/team_device.hpp>

#include <span>

namespace {

using namespace kernel_test;
using boot::team_device;

struct product {
  template <class T>
  T operator()(T a, T b) const noexcept {
    return a * b;
  }
};

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t what) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(boot::normal({9, boot::stream::test, what}, 0, i));
  return v;
}

}  // namespace

TEST_CASE("map_elements writes every element once, aligned or not", "[kernel][team]") {
  const std::int64_t n = GENERATE(1, 7, 255, 256, 257, 70'001), shift = GENERATE(0, 1);
  const bool accumulate = GENERATE(false, true);
  const auto in = random_inputs<float, bf16>(n, shift, 4);
  const guarded<float> out(n, shift);
  if (accumulate)
    for (std::int64_t i = 0; i < n; ++i) out.data()[i] = static_cast<float>(i);
  const float* const a = std::get<0>(in).data();
  const bf16* const b = std::get<1>(in).data();
  boot::map_elements(team_device{}, n, product{}, accumulate, out.data(), a, b);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double want = static_cast<double>(a[i]) * static_cast<double>(static_cast<float>(b[i])) +
                        (accumulate ? static_cast<double>(i) : 0);
    wrong += std::abs(out[i] - want) <= 2 * unit * (std::abs(want) + static_cast<double>(i)) ? 0 : 1;
  }
  CHECK(wrong == 0);
  CHECK(out.intact());
}

TEST_CASE("for_each_element on teams gives the outputs of the host loop, and its sums", "[kernel][team]") {
  const std::int64_t n = GENERATE(1, 255, 257, 5003, 12'289), batch = 3;
  const std::vector<boot::bootstrap_row<float>> rows(
      static_cast<std::size_t>(batch), {.7f, -.7f, 1.5f, .1f, 0, 1.f, 1e-3f, 2e-3f, -HUGE_VALF, HUGE_VALF});
  const auto in = random_inputs<float, float, float, float, float>(batch * n, 0, 12);
  const boot::inputs<float, float, float, float, float> x(std::get<0>(in).data(), std::get<1>(in).data(),
                                                          std::get<2>(in).data(), std::get<3>(in).data(),
                                                          std::get<4>(in).data());
  const guarded<float> loop(batch * n, 0), team(batch * n, 0);
  const auto loop_sums = run({}, boot::bootstrap_euler_op<float>{}, rows, n, x, boot::outputs<float>(loop.data()));
  const team_device dev;
  const auto partials = boot::element_partials(dev, batch, n);
  const guarded<float> sums(batch, 0), scratch(partials, 0);
  boot::for_each_element<float>(dev, boot::bootstrap_euler_op<float>{}, rows.data(), batch, n, x,
                                boot::outputs<float>(team.data()), sums.data(), scratch.data());
  for (std::int64_t i = 0; i < batch * n; ++i)
    REQUIRE(std::abs(team[i] - loop[i]) <= 8 * unit * std::abs(loop[i]) + 1e-9);  // the loop may contract to fma
  for (std::int64_t b = 0; b < batch; ++b)
    CHECK(std::abs(sums[b] - static_cast<double>(loop_sums[static_cast<std::size_t>(b)])) <= 1e-5 * std::abs(sums[b]));
  CHECK(team.intact());
  CHECK(sums.intact());
  CHECK(scratch.intact());
}

TEST_CASE("fill_noise on teams is boot::cpu's in every bit", "[kernel][team]") {
  const std::int64_t n = GENERATE(1, 3, 256, 4099, 40'003);
  const std::vector<std::int64_t> samples = {5, 0, std::int64_t{1} << 33};
  const boot::counter_key key{0x123456789abcdefULL, boot::stream::noise, 17};
  const guarded<float> loop(3 * n, 0), team(3 * n, 0);
  boot::fill_noise(cpu{1}, key, std::span<const std::int64_t>(samples), boot::view<float, cpu>(loop.data(), {3, n}));
  boot::fill_noise(team_device{}, key, std::span<const std::int64_t>(samples),
                   boot::view<float, team_device>(team.data(), {3, n}));
  CHECK(loop.same_bits(team));
  CHECK(team.intact());
  CHECK_THROWS_WITH(boot::fill_noise(team_device{}, key, std::span<const std::int64_t>(samples),
                                     boot::view<float, team_device>(team.data(), {1, n})),
                    Catch::Matchers::ContainsSubstring("3 samples for noise of shape"));
}

TEST_CASE("fill_noise of a captured step takes each replay's key and samples, in one piece", "[kernel][team]") {
  const std::int64_t n = 21;
  const team_device dev;
  using capture = boot::capture_support<team_device>;
  std::vector<std::byte> row(256);
  const guarded<float> loop(2 * n, 0), team(2 * n, 0);
  const boot::counter_key keys[2] = {{7, boot::stream::noise, 1}, {7, boot::stream::noise, 2}};
  const std::vector<std::int64_t> samples[2] = {{4, 9}, {3, std::int64_t{1} << 34}};
  std::uint64_t signature[2];
  const auto step = [&](std::size_t k) {
    boot::detail::step_recording r;
    r.captured = k == 0;
    r.device_sent = r.sent = row.data();
    r.sent_room = row.size();
    const boot::detail::recording_scope scope(&r);
    boot::fill_noise(dev, keys[k], std::span<const std::int64_t>(samples[k]),
                     boot::view<float, team_device>(team.data(), {2, n}));
    CHECK(r.sent_bytes == boot::detail::step_recording::alignment);
    signature[k] = r.signature;
  };
  capture::begin(dev);
  step(0);
  const auto graph = capture::end(dev);
  for (std::size_t k = 0; k < 2; ++k) {
    if (k == 1) step(1);  // rehearsed: only the row changes
    graph.replay(dev);
    boot::fill_noise(cpu{1}, keys[k], std::span<const std::int64_t>(samples[k]),
                     boot::view<float, cpu>(loop.data(), {2, n}));
    CHECK(loop.same_bits(team));
  }
  CHECK(signature[0] == signature[1]);
}

TEST_CASE("decide_update finds the norm and skips what is not finite", "[kernel][team]") {
  const std::int64_t n = GENERATE(1, 257, 40'003);
  auto x = numbers<float>(n, 1);
  double square = 0;
  for (const float v : x) square += static_cast<double>(v) * static_cast<double>(v);
  const double want = std::sqrt(square);
  boot::adamw_row<float> row{}, decided{};
  row.rate = 0.5f;
  float norm = -1;
  const auto decide = [&](double clip) {
    boot::decide_update(team_device{}, boot::view<const float, team_device>(x.data(), {n}), &row, clip, &decided,
                        &norm);
  };
  decide(0);
  CHECK(std::abs(norm - want) <= 1e-6 * want);
  CHECK((decided.gradient_scale == 1 && decided.skip == 0 && decided.rate == 0.5f));
  decide(want / 4);
  CHECK(std::abs(decided.gradient_scale - 0.25) < 1e-5);
  decide(want * 4);
  CHECK(decided.gradient_scale == 1);
  x[static_cast<std::size_t>(n - 1)] = std::nanf("");
  decide(1);
  CHECK(decided.skip == 1);
}

TEST_CASE("adamw_ema on teams is the host's update for up to four averages", "[kernel][team]") {
  const int averages = GENERATE(0, 1, 4);
  const std::int64_t n = 1000;
  const boot::adamw_row<float> row{.5f, 1e-2f, .1f, .9f, .99f, 10.f, 10.f, 1e-8f, {.1f, .2f, .3f, .4f}, 0};
  const std::array<boot::group_row<float>, 2> groups{{{1.f, 1.f}, {.5f, 0.f}}};
  const std::array<boot::parameter_range, 2> ranges{{{0, 499, 0}, {500, n, 1}}};  // element 499 is frozen
  const auto run_on = [&](const auto& dev, std::vector<std::vector<float>>& state) {
    std::array<float*, boot::max_averages> average{};
    for (std::size_t a = 0; a < static_cast<std::size_t>(averages); ++a) average[a] = state[4 + a].data();
    boot::adamw_ema(dev, &row, groups.data(), ranges.data(), 2, state[0].data(), std::as_const(state[1]).data(),
                    state[2].data(), state[3].data(), average, averages);
  };
  std::vector<std::vector<float>> loop;
  for (std::uint64_t k = 0; k < 8; ++k) loop.push_back(numbers<float>(n, k));
  for (float& v : loop[3]) v = std::abs(v);
  auto team = loop;
  const auto before = loop;
  run_on(cpu{1}, loop);
  run_on(team_device{}, team);
  std::int64_t wrong = 0;
  for (std::size_t k = 0; k < loop.size(); ++k)
    for (std::size_t i = 0; i < loop[k].size(); ++i)
      wrong += std::abs(team[k][i] - loop[k][i]) <= 1e-6f * (std::abs(loop[k][i]) + 1) ? 0 : 1;
  CHECK(wrong == 0);
  CHECK(team[0][0] != before[0][0]);
  CHECK(team[0][499] == before[0][499]);
  CHECK(team[0][500] != before[0][500]);
}

TEST_CASE("adamw_body deals the groups of many short ranges on from block to block", "[kernel][team]") {
  constexpr int threads = 64;
  const boot::adamw_row<float> row{.5f, 1e-2f, .1f, .9f, .99f, 10.f, 10.f, 1e-8f, {.1f, .2f, .3f, .4f}, 0};
  const std::array<boot::group_row<float>, 2> groups{{{1.f, 1.f}, {.5f, 0.f}}};
  std::vector<boot::parameter_range> ranges;
  std::int64_t n = 0, dealt = 0;
  std::vector<std::int64_t> number;  // of each element's group
  for (int r = 0; r < 300; ++r) {
    const std::int64_t length = r % 50 == 7 ? 1500 : r % 9, gap = r % 4 == 0 ? r % 3 : 0;
    ranges.push_back({n, n + length, r % 2});
    for (std::int64_t i = 0; i < length; ++i) number.push_back(dealt + i / 4);
    dealt += (length + 3) / 4;
    for (std::int64_t i = 0; i < gap; ++i) number.push_back(-1);
    n += length + gap;
  }
  std::vector<std::vector<float>> begin;
  for (std::uint64_t k = 0; k < 5; ++k) begin.push_back(numbers<float>(n, k));
  for (float& v : begin[3]) v = std::abs(v);
  // The state after the given block of `blocks` has run, -1: after all of them.
  const auto after = [&](std::int64_t blocks, std::int64_t only) {
    auto s = begin;
    float* const average[boot::max_averages] = {s[4].data(), nullptr, nullptr, nullptr};
    boot::launch_on_host<threads>(blocks, 1, [&](const auto& team) {
      if (only >= 0 && team.block() != only) return;
      boot::adamw_body<1>(team, &row, groups.data(), ranges.data(), std::ssize(ranges), s[0].data(),
                          std::as_const(s[1]).data(), s[2].data(), s[3].data(), average);
    });
    return s;
  };
  const auto all = after(1, -1);
  for (const std::int64_t blocks : {2, 3, 7}) CHECK(after(blocks, -1) == all);
  for (std::int64_t block = 0; block < 3; ++block) {
    const auto s = after(3, block);
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < number.size(); ++i) {
      const bool mine = number[i] >= 0 && number[i] / threads % 3 == block;
      for (std::size_t k = 0; k < 5; ++k) wrong += s[k][i] != (mine ? all : begin)[k][i];
    }
    CHECK(wrong == 0);
  }
}
