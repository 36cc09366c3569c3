// SPDX-License-Identifier: MIT
/// abs_quantile by teams of threads: the order statistics of boot::cpu, exactly.
#include "support/catch.hpp"

#include <boot/core/random.hpp>
#include <boot/kernel/cpu/quantile.hpp>
#include <boot/kernel/team/quantile.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot/testing/team_device.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace {
constexpr boot::testing::team_device dev{};

template <class T>
void check(const std::vector<T>& numbers, std::int64_t batch, std::int64_t shift = 0) {
  const auto n = static_cast<std::int64_t>(numbers.size()) / batch;
  boot::tensor<T, boot::team_device> moved(dev, {shift + batch * n}), found(dev, {batch});
  boot::copy_from_host(dev, numbers.data(), moved.data() + shift, numbers.size() * sizeof(T));
  for (const double share : {0.0, 0.3, 0.995, 1.0})
    for (const T least : {T{0}, T{1}}) {
      boot::abs_quantile(dev, share, least, boot::view<const T, boot::team_device>(moved.data() + shift, {batch, n}),
                         found.data());
      const std::vector<T> have = boot::to_host(dev, found.get());
      std::vector<T> want(have.size(), T(NAN));
      boot::abs_quantile(boot::cpu{1}, share, least, boot::view<const T, boot::cpu>(numbers.data(), {batch, n}),
                         want.data());
      for (std::size_t i = 0; i < have.size(); ++i) {
        CAPTURE(n, share, least, i);
        // The order statistics are the same; the product between them may be fused with the sum.
        const bool alike = have[i] == want[i];
        CHECK((alike || std::abs(have[i] - want[i]) <= std::numeric_limits<T>::epsilon() * want[i]));
        const double position = share * static_cast<double>(n - 1);
        if (position == std::floor(position)) CHECK(alike);
      }
    }
}
}  // namespace

TEMPLATE_TEST_CASE("Team kernels find the quantiles of |f|", "[kernel][team]", float, double) {
  for (const std::int64_t n : {1, 2, 63, 64, 65, 257, 1000}) {
    std::vector<TestType> f(static_cast<std::size_t>(3 * n));
    for (std::size_t i = 0; i < f.size(); ++i)
      f[i] = static_cast<TestType>(boot::normal(boot::counter_key{3, boot::stream::test, 1}, 0, i));
    check(f, 3, n % 2);
  }
}

TEMPLATE_TEST_CASE("quantiles by team kernels of ties, zeros, subnormals and infinities", "[kernel][team]", float,
                   double) {
  using limits = std::numeric_limits<TestType>;
  std::vector<TestType> f;
  for (int i = 0; i < 50; ++i) f.push_back(static_cast<TestType>(i % 3 - 1));
  check(f, 1);
  check(f, 2);
  check(std::vector<TestType>(70, TestType{-2}), 1);
  check(std::vector<TestType>(70, TestType{0}), 1);
  check<TestType>({limits::denorm_min(), -limits::min(), TestType{0}, -TestType{0}, limits::max(), -limits::lowest()},
                  1);
  f.assign(100, TestType{1});
  f[3] = -limits::infinity();
  check(f, 1);
}

TEST_CASE("quantiles by team kernels: a share outside [0, 1] is refused", "[kernel][team]") {
  const std::vector<float> numbers{-3};
  const auto x = boot::tensor_of<float>(dev, std::span<const float>(numbers), {1, 1});
  boot::tensor<float, boot::team_device> q(dev, {1});
  for (const double share : {-0.1, 1.1, std::nan("")})
    CHECK_THROWS_AS(boot::abs_quantile(dev, share, 0, x.get(), q.data()), boot::error);
  boot::abs_quantile(dev, 0.5, 1, x.get(), q.data());
  CHECK(boot::to_host(dev, q.get())[0] == 3);
  boot::abs_quantile(dev, 0.5, 1, {x.data(), {0, 1}}, q.data());
  boot::abs_quantile(dev, 0.5, 1, {x.data(), {1, 0}}, q.data());
  CHECK(boot::to_host(dev, q.get())[0] == 3);
}
