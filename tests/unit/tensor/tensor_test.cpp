// SPDX-License-Identifier: MIT
// tensor and view: ownership by move and clone only, shapes checked, devices kept apart by the type.
#include "support/catch.hpp"

#include <boot/core/math.hpp>
#include <boot/core/scalar.hpp>
#include <boot/device/cpu.hpp>
#include <boot/tensor/tensor.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using tensor = boot::tensor<float, boot::cpu>;
using view = boot::view<float, boot::cpu>;
using const_view = boot::view<const float, boot::cpu>;

struct other_device {
  using device_category = other_device;
  void* allocate(std::size_t) const { return nullptr; }
  void deallocate(void*, std::size_t) const {}
};
static_assert(boot::Device<other_device>);

static_assert(!std::is_copy_constructible_v<tensor> && !std::is_copy_assignable_v<tensor>);
static_assert(std::is_nothrow_move_constructible_v<tensor> && std::is_nothrow_move_assignable_v<tensor>);
static_assert(std::is_trivially_copyable_v<view>);
static_assert(std::is_convertible_v<view, const_view> && !std::is_convertible_v<const_view, view>);
static_assert(std::is_convertible_v<tensor&, view> && std::is_convertible_v<const tensor&, const_view>);
static_assert(!std::is_convertible_v<const tensor&, view>);
// Another device, another element type: no conversion.
static_assert(!std::is_convertible_v<boot::view<float, other_device>, const_view>);
static_assert(!std::is_constructible_v<view, boot::view<float, other_device>>);
static_assert(!std::is_convertible_v<boot::tensor<float, other_device>&, view>);
static_assert(!std::is_convertible_v<boot::view<double, boot::cpu>, const_view>);

const boot::cpu dev;

tensor counting(const boot::shape& s) {
  std::vector<float> v(static_cast<std::size_t>(s.size()));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i);
  return boot::tensor_of<float>(dev, std::span<const float>(v), s);
}

}  // namespace

TEST_CASE("shapes: rank, extents from either end, sizes, errors", "[tensor][shape]") {
  const boot::shape s{4, 3, 2};
  CHECK(s.rank() == 3);
  CHECK(s[0] == 4);
  CHECK(s[-1] == 2);
  CHECK(s.size() == 24);
  CHECK(s.batch() == 4);
  CHECK(s.sample_size() == 6);
  CHECK(s.with_batch(7) == boot::shape{7, 3, 2});
  CHECK(s.batched(5) == boot::shape{5, 4, 3, 2});
  CHECK(boot::shape{}.size() == 1);
  CHECK(boot::shape{}.batch() == 1);
  CHECK(boot::shape{}.with_batch(3) == boot::shape{3});
  CHECK(boot::shape{3, 0}.size() == 0);
  CHECK_FALSE(boot::shape{2, 3} == boot::shape{3, 2});
  CHECK_FALSE(boot::shape{2} == boot::shape{2, 1});
  CHECK(boot::to_string(s) == "[4, 3, 2]");
  CHECK_THROWS_WITH((boot::shape{1, 1, 1, 1, 1, 1, 1}), ContainsSubstring("at most 6 dimensions"));
  CHECK_THROWS_WITH((boot::shape{2, -1}), ContainsSubstring("negative"));
}

TEST_CASE("fresh elements are poisoned where the tests ask for it", "[tensor]") {
  const tensor t(dev, {3, 5});
  CHECK(t.size() == 15);
#if BOOT_POISON
  for (const float v : boot::to_host(dev, t.get())) REQUIRE(std::isnan(v));
  const boot::tensor<boot::bf16, boot::cpu> half(dev, {9});
  for (const boot::bf16 v : boot::to_host(dev, half.get())) REQUIRE(std::isnan(static_cast<float>(v)));
#endif
}

TEST_CASE("clone copies, move takes over, an empty tensor is empty", "[tensor]") {
  tensor a = counting({2, 3});
  tensor b = a.clone();
  CHECK(b.extents() == a.extents());
  CHECK(b.data() != a.data());
  b.data()[0] = 77;
  CHECK(a.data()[0] == 0);
  const float* const memory = a.data();
  const tensor c = std::move(a);
  CHECK(c.data() == memory);
  CHECK(a.size() == 0);  // NOLINT(bugprone-use-after-move): a moved-from tensor is empty
  CHECK(a.data() == nullptr);
  const tensor none;
  CHECK(none.size() == 0);
  CHECK(none.get().empty());
  CHECK(none.clone().size() == 0);
  CHECK(boot::zeros<float>(dev, {0, 4}).size() == 0);
}

TEST_CASE("values go in and out unchanged; counts must agree", "[tensor]") {
  const std::array<double, 4> values{1, -2, 3.5, 1e300};
  const auto t = boot::tensor_of<double>(dev, std::span<const double>(values), {2, 2});
  CHECK(boot::to_host(dev, t.get()) == std::vector<double>(values.begin(), values.end()));
  CHECK_THROWS_WITH(boot::tensor_of<double>(dev, std::span<const double>(values), {3, 2}),
                    ContainsSubstring("4 values given for shape [3, 2], needs 6"));
  CHECK(boot::to_host(dev, boot::zeros<float>(dev, {7}).get()) == std::vector<float>(7, 0.0f));
}

TEST_CASE("copy and fill_zero", "[tensor]") {
  const tensor a = counting({2, 3});
  tensor b(dev, {6});
  boot::copy(dev, a.get(), b.get());
  CHECK(boot::to_host(dev, b.get()) == std::vector<float>{0, 1, 2, 3, 4, 5});
  boot::fill_zero(dev, b.get().rows(1, 2));
  CHECK(boot::to_host(dev, b.get()) == std::vector<float>{0, 0, 0, 3, 4, 5});
  tensor c(dev, {5});
  CHECK_THROWS_WITH(boot::copy(dev, a.get(), c.get()), ContainsSubstring("number of elements must be equal"));
}

TEST_CASE("views: rows, reshape and their errors", "[tensor][view]") {
  tensor t = counting({4, 3});
  const view all = t;
  CHECK(all.batch() == 4);
  CHECK(all.sample_size() == 3);
  const view middle = all.rows(1, 2);
  CHECK(middle.extents() == boot::shape{2, 3});
  CHECK(middle[0] == 3);
  CHECK(all.rows(4, 0).size() == 0);
  CHECK_THROWS_WITH(all.rows(3, 2), ContainsSubstring("the batch has 4 rows"));
  CHECK_THROWS_AS(all.rows(-1, 1), boot::error);
  const const_view flat = all.reshape({12});
  CHECK(flat[11] == 11);
  CHECK_THROWS_WITH(all.reshape({5, 2}), ContainsSubstring("has 10 elements"));
  CHECK(view{}.empty());
  CHECK(view(t.data(), {0, 3}).empty());
  CHECK_NOTHROW(boot::require_shape("test", "x", all, {4, 3}));
  CHECK_THROWS_WITH(boot::require_shape("the test", "x", all, {3, 4}),
                    ContainsSubstring("the test got x of shape [4, 3], needs [3, 4]"));
}
