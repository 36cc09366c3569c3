// SPDX-License-Identifier: MIT
// Parameters: names and places in the flat arrays, groups, initial values, copying between networks.
#include "support/catch.hpp"

#include <boot/device/cpu.hpp>
#include <boot/tensor/parameter.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Catch::Matchers::ContainsSubstring;
using arena = boot::parameter_arena<float, boot::cpu>;
const boot::cpu dev;

struct layer {
  boot::parameter weight, bias;
  explicit layer(std::int64_t n) : weight{{n, n}, {boot::initializer::rule::normal, 2}}, bias{{n}, {}} {}
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

struct network {
  layer in{3};
  std::vector<layer> layers{layer{8}, layer{9}};
  std::optional<layer> maybe;
  std::array<boot::parameter, 2> pair{
      {{{5}, {boot::initializer::rule::constant, 1.5}}, {{}, {boot::initializer::rule::uniform, 0.25}}}};
  const char* last_name = "last";
  boot::parameter last{{130}, {boot::initializer::rule::uniform, 0.25}};
  template <class V>
  void visit(V& v) {
    v("in", in);
    v("layers", layers);
    v("maybe", maybe);
    v("pair", pair);
    v(last_name, last);
  }
};

std::vector<std::string> names(const boot::parameter_layout& layout) {
  std::vector<std::string> all;
  for (const auto& e : layout.entries()) all.push_back(e.name);
  return all;
}

}  // namespace

TEST_CASE("names are dotted paths in the order of visit(); an absent part has none", "[parameter]") {
  network n;
  CHECK(names(boot::parameter_layout(n)) == std::vector<std::string>{"in.weight", "in.bias", "layers.0.weight",
                                                                     "layers.0.bias", "layers.1.weight",
                                                                     "layers.1.bias", "pair.0", "pair.1", "last"});
  n.maybe.emplace(2);
  const auto with = names(boot::parameter_layout(n));
  CHECK(with[6] == "maybe.weight");
  CHECK(with[7] == "maybe.bias");
  int visited = 0;
  boot::for_each_parameter(n, [&](const std::string&, boot::parameter&) { ++visited; });
  CHECK(visited == 11);
}

TEST_CASE("offsets are multiples of 64 elements, in order, without overlap; handles know their place", "[parameter]") {
  network n;
  const boot::parameter_layout layout(n);
  std::int64_t end = 0, count = 0;
  for (const auto& e : layout.entries()) {
    CHECK(e.offset % boot::parameter_layout::alignment == 0);
    CHECK(e.offset >= end);
    CHECK(e.offset < end + 64);
    end = e.offset + e.extents.size();
    count += e.extents.size();
  }
  CHECK(layout.size() >= end);
  CHECK(layout.size() % 64 == 0);
  CHECK(layout.count() == count);
  CHECK(n.last.index == 8);
  CHECK(n.last.offset == layout.entries()[8].offset);
  CHECK(layout.find("layers.1.bias") == 5);
  CHECK(layout.find("layers.2.bias") == -1);
  arena a(dev, layout);
  CHECK(reinterpret_cast<std::uintptr_t>(a.value(4).data()) % 128 == 0);
  CHECK(a.value(4).extents() == boot::shape{9, 9});
}

TEST_CASE("two parameters of one name are refused, by name", "[parameter]") {
  network n;
  n.last_name = "pair.0";
  CHECK_THROWS_WITH(boot::parameter_layout(n), ContainsSubstring("two parameters are called 'pair.0'"));
}

TEST_CASE("groups are chosen by name", "[parameter]") {
  network n;
  boot::parameter_layout layout(n);
  REQUIRE(layout.groups().size() == 1);
  layout.assign_group({"biases", true, 0, 2}, [](std::string_view name) { return name.ends_with("bias"); });
  layout.assign_group({"frozen", false, 1, 1}, [](std::string_view name) { return name.starts_with("pair"); });
  CHECK(layout.group_of(0).name == "weights");
  CHECK(layout.group_of(1).name == "biases");
  CHECK(layout.group_of(1).weight_decay == 0);
  CHECK(layout.group_of(1).rate == 2);
  CHECK(layout.group_of(layout.find("pair.1")).trainable == false);
  CHECK_THROWS_WITH(layout.assign_group({"none"}, [](std::string_view) { return false; }),
                    ContainsSubstring("no parameter belongs to group 'none'") && ContainsSubstring("in.weight"));
}

TEST_CASE("initial values follow their rules, depend on the seed alone, and gaps are zero", "[parameter]") {
  network n;
  arena a(dev, boot::parameter_layout(n)), b(dev, boot::parameter_layout(n)), c(dev, boot::parameter_layout(n));
  a.initialize(dev, 5);
  b.initialize(dev, 5);
  c.initialize(dev, 6);
  const auto va = boot::to_host(dev, a.values());
  CHECK(va == boot::to_host(dev, b.values()));
  CHECK_FALSE(va == boot::to_host(dev, c.values()));
  for (int i = 0; i < 5; ++i) CHECK(a.value(6)[i] == 1.5f);
  for (int i = 0; i < 9; ++i) CHECK(a.value(5)[i] == 0.0f);
  float low = 1, high = -1;
  for (int i = 0; i < 130; ++i) low = std::min(low, a.value(8)[i]), high = std::max(high, a.value(8)[i]);
  CHECK(low >= -0.25f);
  CHECK(low < -0.2f);
  CHECK(high <= 0.25f);
  CHECK(high > 0.2f);
  double square = 0;
  for (int i = 0; i < 81; ++i) square += std::pow(static_cast<double>(a.value(4)[i]), 2) / 81;
  CHECK(std::sqrt(square) > 1.5);
  CHECK(std::sqrt(square) < 2.5);
  std::vector<bool> used(va.size(), false);
  for (const auto& e : a.layout().entries())
    for (std::int64_t i = 0; i < e.extents.size(); ++i) used[static_cast<std::size_t>(e.offset + i)] = true;
  for (std::size_t i = 0; i < va.size(); ++i)
    if (!used[i]) REQUIRE(va[i] == 0.0f);
}

TEST_CASE("the gradient comes with the first call, zero", "[parameter]") {
  network n;
  const auto before = boot::memory_use<boot::cpu>();
  arena a(dev, boot::parameter_layout(n));
  CHECK(boot::memory_use<boot::cpu>().allocations == before.allocations + 1);
  for (const float g : boot::to_host(dev, a.gradient())) REQUIRE(g == 0.0f);
  CHECK(boot::memory_use<boot::cpu>().allocations == before.allocations + 2);
  a.gradient(1)[2] = 4;
  CHECK(a.gradient()[a.layout().entries()[1].offset + 2] == 4);
}

TEST_CASE("copy_parameters copies by name, keeps what is new, and refuses another shape", "[parameter]") {
  network small, large;
  large.maybe.emplace(4);
  arena from(dev, boot::parameter_layout(small)), to(dev, boot::parameter_layout(large));
  from.initialize(dev, 1);
  to.initialize(dev, 2);
  const auto kept = boot::to_host(dev, to.value(to.layout().find("maybe.weight")));
  CHECK(boot::copy_parameters(dev, from.layout(), std::as_const(from).values(), to) == 9);
  for (const auto& e : from.layout().entries())
    REQUIRE(boot::to_host(dev, to.value(to.layout().find(e.name))) ==
            boot::to_host(dev, from.value(from.layout().find(e.name))));
  CHECK(boot::to_host(dev, to.value(to.layout().find("maybe.weight"))) == kept);
  network other;
  other.last.extents = {131};
  arena unequal(dev, boot::parameter_layout(other));
  CHECK_THROWS_WITH(boot::copy_parameters(dev, from.layout(), std::as_const(from).values(), unequal),
                    ContainsSubstring("'last'") && ContainsSubstring("[131]"));
}
