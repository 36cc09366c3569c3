// SPDX-License-Identifier: MIT
/// Group norm by teams of threads against boot::cpu's in float64: every form, every gradient.
#include "unit/nn/team_check.hpp"

#include <boot/nn/cpu/group_norm.hpp>
#include <boot/nn/team/group_norm.hpp>
#include <boot/nn/team/group_norm_parts.hpp>
#include <boot/nn/team/group_norm_slab.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace {

using boot_test::in_full;
using boot_test::reading;
using boot_test::team_operand;

struct norm_case {
  boot::shape x;
  std::int64_t groups;
};

// Arrays: x, weight, bias, scale_shift (or nothing), dy, result.
template <class V>
V part(const V& v, bool wanted) {
  return wanted ? v : V{};
}

}  // namespace

TEST_CASE("Teams: group norm with SiLU, with scale and shift, and far from zero", "[nn][team]") {
  const norm_case c =
      GENERATE(norm_case{{1, 1, 1, 1}, 1}, norm_case{{2, 3, 5, 6}, 3}, norm_case{{3, 8, 8, 4}, 4},
               norm_case{{2, 300}, 2}, norm_case{{1, 33, 1, 70}, 7}, norm_case{{2, 79, 80, 8}, 2},
               norm_case{{2, 10, 20, 24}, 8}, norm_case{{1, 5, 7, 80}, 8}, norm_case{{2, 16, 20, 48}, 3});
  const bool silu = GENERATE(false, true);
  const int scaled = GENERATE(0, 1, 2);  // without, one for all samples, one per sample
  const double offset = GENERATE(0.0, 1000.0);
  if (offset > 0 && scaled > 0) return;
  const std::int64_t channels = c.x[-1];
  const team_operand x{c.x, 1, offset}, w{{channels}, 0.2, 1}, y{c.x, 1, 0, true};
  const team_operand s{{scaled == 1 ? 1 : c.x.batch(), 2 * channels}, 0.3};
  const auto forward = [=](const auto& dev, const auto& v) {
    using T = typename std::remove_cvref_t<decltype(v[0])>::value_type;
    const auto weight = in_full(dev, v[1]), bias = in_full(dev, v[2]);
    boot::group_norm_forward(dev, reading(v[0]), weight.data(), bias.data(), part(reading(v[3]), scaled != 0), c.groups,
                             1e-5, silu, v[4], static_cast<boot::compute_type<T>*>(nullptr));
  };
  const std::array all{x, w, w, s, y};
  boot_test::check_team<double>(forward, all, 1e-11);
  // x itself is known to 6e-5 at 1000; the statistics must not make it worse.
  boot_test::check_team<float>(forward, all, offset > 0 ? 2e-4 : 2e-6);
  if (offset == 0) boot_test::check_team<boot::bf16>(forward, all, 0x1p-6);
}

TEST_CASE("Teams: slabs of group norm hold whole groups and all pixels", "[nn][team]") {
  for (const int width : {2, 4, 8})
    for (const std::int64_t pixels : {1, 2, 63, 64, 65, 196, 256, 257, 784, 1024, 1025, 1365, 1366, 4096, 4097})
      for (const std::int64_t channels : {8, 24, 40, 64, 96, 120, 128, 192, 320, 512, 1024, 1280})
        for (const std::int64_t groups : {1, 2, 4, 8, 32}) {
          if (channels % groups != 0) continue;
          const boot::detail::norm_slabs s(pixels, channels, channels / groups, width);
          INFO(pixels << " pixels, " << channels << " channels, " << groups << " groups, width " << width);
          if (s.threads == 0) continue;
          CHECK((s.threads == 128 || s.threads == 512));
          CHECK(s.groups * (channels / groups) == s.across.value * width);
          CHECK((s.count * s.groups >= groups && (s.count - 1) * s.groups < groups));
          CHECK(
              (s.lines * s.across.value <= 64 && s.lines * s.threads / 64 * boot::detail::norm_slabs::room >= pixels));
          for (int a = 0; a < 512; ++a) {
            if (a / s.across.value != s.across(a)) FAIL(a << " / " << s.across.value);
            if (a / s.span.value != s.span(a)) FAIL(a << " / " << s.span.value);
          }
        }
  const auto threads = [](std::int64_t side, std::int64_t channels, int width) {
    return boot::detail::norm_slabs(side * side, channels, channels / 32, width).threads;
  };
  for (const int width : {4, 8})
    for (const std::int64_t channels : {64, 128, 256, 512}) {
      CHECK(threads(32, channels, width) == 512);
      CHECK(threads(16, channels, width) == 128);
      CHECK(threads(8, channels, width) == 128);
      CHECK(threads(64, channels, width) == 0);
    }
}

TEST_CASE("Teams: SiLU of group norm and its slope have the bits of boot::math", "[nn][team]") {
  int silu = 0, slope = 0;
  const auto compare = [&](float x) {
    const auto differ = [](float a, float b) {
      return std::isnan(a) ? !std::isnan(b) : std::bit_cast<std::uint32_t>(a) != std::bit_cast<std::uint32_t>(b);
    };
    silu += differ(boot::math::silu(x), boot::detail::norm_silu(x));
    slope += differ(boot::math::silu_derivative(x), boot::detail::norm_silu_slope(x));
  };
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += bits % 3 == 0 ? 4093 : 2039)
    compare(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  for (const float x : {0.0f, 1.0f, 87.0f, 103.9f, 104.5f, 1000.0f, 1000.5f, 3e38f, HUGE_VALF}) compare(x), compare(-x);
  CHECK(silu == 0);
  CHECK(slope == 0);
}

TEMPLATE_TEST_CASE("Teams: group norm gives the same bits wherever its arrays begin", "[nn][team]", float, boot::bf16) {
  using C = boot::compute_type<TestType>;
  const norm_case c =
      GENERATE(norm_case{{2, 12, 11, 24}, 4}, norm_case{{1, 9, 9, 64}, 16}, norm_case{{1, 32, 32, 16}, 2},
               norm_case{{1, 25, 24, 136}, 17}, norm_case{{1, 65, 64, 16}, 4});
  const boot::team_device dev;
  const std::int64_t n = c.x.size(), channels = c.x[-1], batch = c.x.batch(), group = n / batch / c.groups;
  const auto numbers = boot::testing::normal_numbers<float>(n, 7, 0, 1, 3);
  const std::vector<C> ones(static_cast<std::size_t>(channels), 1), zeros(static_cast<std::size_t>(channels), 0);
  const auto weight = boot::tensor_of<C>(dev, std::span<const C>(ones), {channels});
  const auto bias = boot::tensor_of<C>(dev, std::span<const C>(zeros), {channels});
  std::vector<TestType> results[2];
  std::vector<C> statistics[2];
  for (const std::int64_t shift : {0, 1}) {
    std::vector<TestType> host(static_cast<std::size_t>(n + shift));
    for (std::int64_t i = 0; i < n; ++i)
      boot::store(host[static_cast<std::size_t>(i + shift)], numbers[static_cast<std::size_t>(i)]);
    const auto x = boot::tensor_of<TestType>(dev, std::span<const TestType>(host), {n + shift});
    boot::tensor<TestType, boot::team_device> y(dev, {n + shift});
    boot::tensor<C, boot::team_device> saved(dev, {batch, c.groups, 2});
    using V = boot::view<const TestType, boot::team_device>;
    boot::group_norm_forward(dev, V(x.data() + shift, c.x), weight.data(), bias.data(), V{}, c.groups, 1e-5, true,
                             boot::view<TestType, boot::team_device>(y.data() + shift, c.x), saved.data());
    results[shift] = boot::to_host(dev, V(y.data() + shift, c.x));
    statistics[shift] = boot::to_host(dev, boot::view<const C, boot::team_device>(saved.data(), {batch, c.groups, 2}));
    for (std::int64_t k = 0; k < batch * c.groups; ++k) {
      double sum = 0, square = 0;
      const std::int64_t width = channels / c.groups, first = k / c.groups * (n / batch) + k % c.groups * width;
      const auto at = [&](std::int64_t i) {
        return static_cast<double>(
            static_cast<C>(host[static_cast<std::size_t>(shift + first + i / width * channels + i % width)]));
      };
      for (std::int64_t i = 0; i < group; ++i) sum += at(i);
      const double mean = sum / static_cast<double>(group);
      for (std::int64_t i = 0; i < group; ++i) square += (at(i) - mean) * (at(i) - mean);
      const double reciprocal = 1 / std::sqrt(square / static_cast<double>(group) + 1e-5);
      const auto* const own = statistics[shift].data() + 2 * k;
      CHECK(std::abs(static_cast<double>(own[0]) - mean) < 3e-7 * std::abs(mean));
      CHECK(std::abs(static_cast<double>(own[1]) - reciprocal) < 5e-7 * reciprocal);
    }
  }
  CHECK(std::memcmp(results[0].data(), results[1].data(), results[0].size() * sizeof(TestType)) == 0);
  CHECK(std::memcmp(statistics[0].data(), statistics[1].data(), statistics[0].size() * sizeof(C)) == 0);
}

TEST_CASE("Teams: gradients of group norm", "[nn][team]") {
  const norm_case c = GENERATE(norm_case{{3, 8, 8, 4}, 2}, norm_case{{1, 300}, 2}, norm_case{{1, 33, 1, 70}, 7},
                               norm_case{{2, 79, 80, 8}, 2}, norm_case{{67, 2, 6}, 3}, norm_case{{2, 12, 11, 24}, 4});
  const bool silu = GENERATE(false, true);
  const int scaled = GENERATE(0, 1, 2);
  const bool accumulate = silu;
  const std::int64_t channels = c.x[-1];
  const team_operand w{{channels}, 0.2, 1}, s{{scaled == 1 ? 1 : c.x.batch(), 2 * channels}, 0.3};
  for (std::size_t which = 0; which < (scaled == 0 ? 3u : 4u); ++which) {
    const auto backward = [=](const auto& dev, const auto& v) {
      using V = std::remove_cvref_t<decltype(v[0])>;
      using T = typename V::value_type;
      using C = boot::compute_type<T>;
      boot::tensor<T, typename V::device_type> y(dev, c.x);
      boot::tensor<C, typename V::device_type> saved(dev, {c.x.batch(), c.groups, 2});
      const auto weight = in_full(dev, v[1]), bias = in_full(dev, v[2]);
      const auto scale_shift = part(reading(v[3]), scaled != 0);
      boot::group_norm_forward(dev, reading(v[0]), weight.data(), bias.data(), scale_shift, c.groups, 1e-5, silu,
                               y.get(), saved.data());
      auto wide = in_full(dev, v[5]);
      std::array<bool, 4> add{};
      add[which] = accumulate;
      boot::group_norm_backward(dev, reading(v[0]), weight.data(), bias.data(), scale_shift, c.groups, silu,
                                std::as_const(saved).data(), reading(v[4]), which == 0 ? v[5] : V{},
                                which == 1 ? wide.data() : nullptr, which == 2 ? wide.data() : nullptr,
                                which == 3 ? v[5] : V{}, add);
      if (which == 1 || which == 2)
        for (std::int64_t i = 0; i < wide.get().size(); ++i) boot::store(v[5].data()[i], wide.data()[i]);
    };
    const boot::shape to = which == 0 ? c.x : which == 3 ? s.extents : boot::shape{channels};
    const std::array all{team_operand{c.x}, w, w, s, team_operand{c.x}, team_operand{to, 1, 0, !accumulate}};
    INFO("gradient of operand " << which);
    boot_test::check_team<double>(backward, all, 1e-11);
    boot_test::check_team<float>(backward, all, 4e-6);
    boot_test::check_team<boot::bf16>(backward, all, 0x1p-6);
  }
}

TEST_CASE("Teams: group norm of nothing does nothing", "[nn][team]") {
  const boot::team_device dev;
  const boot::view<const float, boot::team_device> none{nullptr, {0, 4, 4, 8}}, no_pixels{nullptr, {2, 0, 8}};
  const float weight[8] = {};
  for (const auto& x : {none, no_pixels})
    CHECK_NOTHROW(boot::group_norm_forward(dev, x, weight, weight, boot::view<const float, boot::team_device>{}, 4,
                                           1e-5, true, boot::view<float, boot::team_device>{nullptr, x.extents()},
                                           static_cast<float*>(nullptr)));
}
