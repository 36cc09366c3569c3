// SPDX-License-Identifier: MIT
/// Group norm by teams of threads against boot::cpu's in float64: every form, every gradient.
#include "unit/nn/team_check.hpp"

#include <boot/nn/cpu/group_norm.hpp>
#include <boot/nn/team/group_norm.hpp>

#include <array>
#include <type_traits>

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
  const norm_case c = GENERATE(norm_case{{1, 1, 1, 1}, 1}, norm_case{{2, 3, 5, 6}, 3}, norm_case{{3, 8, 8, 4}, 4},
                               norm_case{{2, 300}, 2}, norm_case{{1, 33, 1, 70}, 7}, norm_case{{2, 79, 80, 8}, 2});
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

TEST_CASE("Teams: gradients of group norm", "[nn][team]") {
  const norm_case c = GENERATE(norm_case{{3, 8, 8, 4}, 2}, norm_case{{1, 300}, 2}, norm_case{{1, 33, 1, 70}, 7},
                               norm_case{{2, 79, 80, 8}, 2}, norm_case{{67, 2, 6}, 3});
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
