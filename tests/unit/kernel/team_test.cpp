// SPDX-License-Identifier: MIT
/// The host team itself, and what all bodies promise: the same bits for aligned and unaligned arrays; noise.
#include "kernel_cases.hpp"

#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/op/bootstrap.hpp>

namespace {
using namespace kernel_test;
}

TEST_CASE("team_sum adds over the block, for every size of block", "[kernel]") {
  const auto of = [](auto size) {
    constexpr int threads = decltype(size)::value;
    std::vector<double> sums(6, -1);
    std::vector<float> again(6, -1);
    boot::launch_on_host<threads>(3, 2, [&](const auto& team) {
      const std::int64_t k = team.sample() * team.blocks() + team.block();
      const double mine = static_cast<double>(team.rank() + 1) * static_cast<double>(k + 1);
      const double sum = boot::team_sum(team, mine);
      const float second = boot::team_sum(team, static_cast<float>(mine));  // at once: the scratch is used again
      if (team.rank() == 0) {
        sums[static_cast<std::size_t>(k)] = sum;
        again[static_cast<std::size_t>(k)] = second;
      }
    });
    for (int k = 0; k < 6; ++k) {
      const double want = threads * (threads + 1) / 2.0 * (k + 1);
      CHECK(sums[static_cast<std::size_t>(k)] == want);
      CHECK(static_cast<double>(again[static_cast<std::size_t>(k)]) == want);
    }
  };
  of(std::integral_constant<int, 32>{});
  of(std::integral_constant<int, 64>{});
  of(std::integral_constant<int, 256>{});
}

TEST_CASE("A body gives the same bits whether its arrays are aligned or not", "[kernel]") {
  using five = boot::inputs<float, float, bf16, bf16, bf16>;
  const std::int64_t n = GENERATE(1, 7, 511, 512, 513, 5003);
  const std::vector<boot::bootstrap_row<float>> rows(
      2, {.7f, -.7f, 1.5f, .1f, 0, 1.f, 1e-3f, 2e-3f, -HUGE_VALF, HUGE_VALF});
  const auto once = [&](std::int64_t shift) {
    const auto in = random_inputs<float, float, bf16, bf16, bf16>(2 * n, shift, 8);
    guarded<bf16> out(2 * n, shift);
    auto sums = std::apply(
        [&](const auto&... x) {
          return run({.team = true, .blocks = 2}, boot::bootstrap_euler_op<float>{}, rows, n, five(x.data()...),
                     boot::outputs<bf16>(out.data()));
        },
        in);
    return std::pair{std::move(out), std::move(sums)};
  };
  const auto aligned = once(0), shifted = once(1);
  CHECK(aligned.first.same_bits(shifted.first));
  CHECK(aligned.second == shifted.second);
}

TEST_CASE("Noise is that of random.hpp in every bit, by the loop and by the team", "[kernel]") {
  const std::int64_t n = GENERATE(1, 3, 4, 255, 256, 257, 511, 512, 515, 516, 1027, 4097, 100'003);
  const std::int64_t shift = GENERATE(0, 1);
  const std::vector<std::int64_t> samples = {5, 0, std::int64_t{1} << 33};
  const boot::counter_key key{0x123456789abcdefULL, boot::stream::noise, 17};
  const auto count = static_cast<std::int64_t>(samples.size()) * n;
  const guarded<float> loop(count, shift), team(count, shift);
  boot::fill_noise(cpu{.threads = 2}, key, std::span<const std::int64_t>(samples),
                   boot::view<float, cpu>(loop.data(), {3, n}));
  boot::launch_on_host<team_size>(n > 1000 ? 5 : 2, 3,
                                  [&](const auto& t) { boot::noise_body(t, &key, samples.data(), n, team.data()); });
  CHECK(loop.same_bits(team));
  CHECK(loop.intact());
  CHECK(team.intact());
  std::int64_t wrong = 0;
  for (std::size_t s = 0; s < samples.size(); ++s)
    for (std::int64_t i = 0; i < n; ++i) {
      const float want = boot::normal(key, static_cast<std::uint64_t>(samples[s]), static_cast<std::uint64_t>(i));
      wrong += std::memcmp(&want, loop.data() + static_cast<std::int64_t>(s) * n + i, sizeof want) != 0;
    }
  CHECK(wrong == 0);
}

TEST_CASE("fill_noise needs as many samples as rows", "[kernel]") {
  const std::vector<std::int64_t> samples = {1, 2};
  const guarded<float> out(12, 0);
  CHECK_THROWS_WITH(
      boot::fill_noise(cpu{}, {}, std::span<const std::int64_t>(samples), boot::view<float, cpu>(out.data(), {3, 4})),
      Catch::Matchers::ContainsSubstring("2 samples for noise of shape"));
}
