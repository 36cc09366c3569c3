// SPDX-License-Identifier: MIT
/// Every functor of kernel/op against float64 formulas, through the host loop and through the host team.
#include "kernel_cases.hpp"

#include <boot/kernel/op/bootstrap.hpp>
#include <boot/kernel/op/denoising.hpp>
#include <boot/kernel/op/fixed_point.hpp>
#include <boot/kernel/op/prediction.hpp>
#include <boot/kernel/op/signal_ode.hpp>

namespace {

using namespace kernel_test;
using boot::bootstrap_row;

constexpr float infinite = std::numeric_limits<float>::infinity();

double wide(float x) { return static_cast<double>(x); }

/// Rows at both ends of the step and between, with and without clipping and guidance.
std::vector<bootstrap_row<float>> bootstrap_rows() {
  return {{.7f, -.71f, 1.5f, .13f, -.4f, 5.f, .01f, .02f, -infinite, infinite},
          {0.f, -1.f, 0.f, 1.f, 0.f, 1.f, .01f, .02f, -infinite, infinite},     // t_max, boundary
          {1.f, -1e-3f, 3.f, 0.f, 0.f, 2.f, .01f, -.02f, -infinite, infinite},  // D = 0
          {.99f, -.1f, 1.f, 1e-6f, -5e-7f, 1e6f, .01f, .02f, -.5f, .75f},       // D near 0, clipped
          {1.3f, .4f, -2.f, .5f, .1f, 0.f, .01f, .02f, 0.f, infinite}};
}

/// clip(a x + b (n + w (c - n))).
traced clean(const bootstrap_row<float>& p, traced x, traced c, traced n) {
  const traced out = n + traced(wide(p.guidance)) * (c - n);
  return limited(traced(wide(p.a)) * x + traced(wide(p.b)) * out, wide(p.low), wide(p.high));
}

/// Gradient and loss term of residual r with rho = r^2.
expected<1> square(double gradient_scale, double loss_scale, double weight, traced r) {
  return {{traced(gradient_scale * weight) * (traced(2) * r)}, traced(loss_scale * weight) * (r * r)};
}
expected<1> square(const bootstrap_row<float>& p, traced r) {
  return square(wide(p.gradient_scale), wide(p.loss_scale), wide(p.weight), r);
}
/// The same with rho = 2 c (sqrt(r^2 + c^2) - c), through its stable form.
expected<1> huber(const bootstrap_row<float>& p, double c, traced r) {
  const traced k(wide(static_cast<float>(c))), s = root(r * r + k * k);
  const traced factor(wide(p.gradient_scale) * wide(p.weight)), share(wide(p.loss_scale) * wide(p.weight));
  return {{factor * (traced(2) * k * r / s)}, share * (traced(2) * k * r * r / (s + k))};
}

using f5 = types<float, float, float, float, float>;
using f6 = types<float, float, float, float, float, float>;
using b5 = types<float, float, bf16, bf16, bf16>;
using b6 = types<float, float, float, bf16, bf16, bf16>;

}  // namespace

TEST_CASE("bootstrap_euler_op is the residual against one Euler step", "[kernel]") {
  const auto residual = [](const bootstrap_row<float>& p, double ys, double yt, double x, double c, double n) {
    const traced f = clean(p, x, c, n), target = traced(yt) + traced(wide(p.step)) * (f - traced(yt));
    return traced(ys) - target;
  };
  check_everywhere(boot::bootstrap_euler_op<float>{}, bootstrap_rows(), f5{}, types<float>{}, b5{}, types<bf16>{},
                   [&](const auto& p, auto... x) { return square(p, residual(p, x...)); });
  check_everywhere(boot::bootstrap_euler_op<float, boot::pseudo_huber_distance>{{.03}}, bootstrap_rows(), f5{},
                   types<float>{}, b5{}, types<bf16>{},
                   [&](const auto& p, auto... x) { return huber(p, .03, residual(p, x...)); });
}

TEST_CASE("bootstrap_heun_op is the residual against a Heun step", "[kernel]") {
  check_everywhere(boot::bootstrap_heun_op<float>{}, bootstrap_rows(), f6{}, types<float>{}, b6{}, types<float>{},
                   [](const auto& p, double ys, double yt, double f1, double x2, double c, double n) {
                     const traced f2 = clean(p, x2, c, n);
                     const traced euler = traced(yt) + traced(wide(p.step)) * (traced(f1) - traced(yt));
                     return square(p, traced(ys) - (euler + traced(wide(p.heun)) * (f2 - traced(f1))));
                   });
}

TEST_CASE("boundary_op is the residual against the clean signal", "[kernel]") {
  check_everywhere(
      boot::boundary_op<float>{}, bootstrap_rows(), types<float, float, float, float>{}, types<float>{},
      types<bf16, float, bf16, bf16>{}, types<bf16>{},
      [](const auto& p, double y, double x, double c, double n) { return square(p, traced(y) - clean(p, x, c, n)); });
}

TEST_CASE("regression_op is the residual against a target", "[kernel]") {
  check_everywhere(boot::regression_op<float>{}, bootstrap_rows(), types<float, float>{}, types<float>{},
                   types<bf16, bf16>{}, types<float>{},
                   [](const auto& p, double y, double target) { return square(p, traced(y) - traced(target)); });
}

TEST_CASE("fixed_point_op is the upwind residual of the continuous form", "[kernel]") {
  check_everywhere(boot::fixed_point_op<float>{}, bootstrap_rows(), f5{}, types<float>{}, b5{}, types<bf16>{},
                   [](const auto& p, double y, double next, double x, double c, double n) {
                     const traced slope = traced(wide(p.step)) * (traced(next) - traced(y));
                     return square(p, traced(y) - clean(p, x, c, n) - slope);
                   });
}

TEST_CASE("denoising_op is the residual of a network's raw output", "[kernel]") {
  const std::vector<boot::denoising_row<float>> rows = {{1.f, .6f, -.8f, 2.f, .01f, .02f},
                                                        {.25f, -1.f, 0.f, .5f, .01f, .005f}};
  check_everywhere(boot::denoising_op<float, boot::l2_distance>{}, rows, types<float, float, float>{}, types<float>{},
                   types<bf16, float, float>{}, types<bf16>{}, [](const auto& p, double out, double x0, double eps) {
                     const traced wanted = traced(wide(p.signal)) * x0 + traced(wide(p.noise)) * eps;
                     return square(wide(p.gradient_scale), wide(p.loss_scale), wide(p.weight),
                                   traced(wide(p.scale)) * out - wanted);
                   });
}

TEST_CASE("clean_signal_op, affine_op and threshold_op", "[kernel]") {
  const std::vector<boot::affine_row<float>> rows = {
      {.7f, -.71f, 1.5f, -infinite, infinite}, {0.f, -1.f, 0.f, -1.f, 1.f}, {1.f, 0.f, 4.f, -infinite, .25f}};
  const auto of = [](const boot::affine_row<float>& p) {
    return bootstrap_row<float>{p.a, p.b, p.guidance, 0, 0, 0, 0, 0, p.low, p.high};
  };
  check_everywhere(boot::clean_signal_op<float>{}, rows, types<float, float, float>{}, types<float>{},
                   types<float, bf16, bf16>{}, types<bf16>{}, [&](const auto& p, double x, double c, double n) {
                     return expected<1>{{clean(of(p), x, c, n)}, 0};
                   });
  check_everywhere(boot::affine_op<float>{}, rows, types<float, float>{}, types<float>{}, types<bf16, bf16>{},
                   types<bf16>{}, [](const auto& p, double x, double out) {
                     return expected<1>{{traced(wide(p.a)) * x + traced(wide(p.b)) * out}, 0};
                   });
  check_everywhere(boot::threshold_op<float>{}, std::vector<float>{1.f, 1.75f, 100.f}, types<float>{}, types<float>{},
                   types<bf16>{}, types<float>{}, [](float q, double f) {
                     return expected<1>{{limited(f, -wide(q), wide(q)) / traced(wide(q))}, 0};
                   });
}

TEST_CASE("Steps along the trajectory", "[kernel]") {
  using row = boot::ode_row<float>;
  const std::vector<row> rows = {
      {.8f, .6f, .2f, -.1f, .9f, .15f}, {0.f, 1.f, 1.f, 0.f, 1.f, 0.f}, {1.f, 0.f, 0.f, 0.f, 0.f, 1.f}};
  const auto x_of = [](const row& p, traced y, double eps) {
    return traced(wide(p.alpha)) * y + traced(wide(p.sigma)) * eps;
  };
  check_everywhere(boot::perturb_op<float>{}, rows, types<float, float>{}, types<float>{}, types<bf16, float>{},
                   types<bf16>{}, [&](const row& p, double y, double eps) {
                     return expected<1>{{x_of(p, y, eps)}, 0};
                   });
  check_everywhere(boot::start_op<float>{}, rows, types<float>{}, types<float>{}, types<float>{}, types<bf16>{},
                   [](const row& p, double eps) {
                     return expected<1>{{traced(wide(p.sigma)) * eps}, 0};
                   });
  check_everywhere(boot::signal_euler_op<float>{}, rows, types<float, float, float>{}, types<float, float>{},
                   types<float, bf16, float>{}, types<float, bf16>{},
                   [&](const row& p, double y, double f, double eps) {
                     const traced next = traced(y) + traced(wide(p.step)) * (traced(f) - traced(y));
                     return expected<2>{{next, x_of(p, next, eps)}, 0};
                   });
  check_everywhere(boot::signal_heun_op<float>{}, rows, types<float, float, float, float>{}, types<float, float>{},
                   types<float, bf16, bf16, float>{}, types<bf16, float>{},
                   [&](const row& p, double y, double f1, double f2, double eps) {
                     const traced next = traced(y) + traced(wide(p.heun)) * (traced(f2) - traced(f1));
                     return expected<2>{{next, x_of(p, next, eps)}, 0};
                   });
  check_everywhere(boot::ddim_op<float>{}, rows, types<float, float>{}, types<float>{}, types<float, bf16>{},
                   types<float>{}, [](const row& p, double x, double f) {
                     return expected<1>{{traced(wide(p.x_factor)) * x + traced(wide(p.f_factor)) * f}, 0};
                   });
}

TEST_CASE("NaN in any input reaches the output, and only that element's", "[kernel]") {
  const std::int64_t n = 600, where = 301;
  const std::size_t broken = GENERATE(std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4});
  const bool team = GENERATE(false, true);
  for (const bootstrap_row<float>& row : bootstrap_rows()) {
    auto in = random_inputs<float, float, float, float, float>(n, 0, 77);
    std::apply(
        [&](auto&... x) {
          std::size_t k = 0;
          ((k++ == broken ? void(x.data()[where] = std::nanf("")) : void()), ...);
        },
        in);
    const guarded<float> out(n, 0);
    const auto sums = std::apply(
        [&](const auto&... x) {
          return run({.threads = 1, .team = team}, boot::bootstrap_euler_op<float>{}, std::vector{row}, n,
                     boot::inputs<float, float, float, float, float>(x.data()...), boot::outputs<float>(out.data()));
        },
        in);
    CHECK(std::isnan(sums[0]));
    for (std::int64_t i = 0; i < n; ++i)
      if (std::isnan(out[i]) != (i == where)) FAIL("element " << i << " is " << out[i]);
  }
  CHECK(std::isnan(boot::clip(std::nanf(""), -1.f, 1.f)));
}
