// SPDX-License-Identifier: MIT
// Conditions: parts of a batch, null conditions, several at once, and what the concept asks for.
#include "support/catch.hpp"

#include <boot/device/cpu.hpp>
#include <boot/nn/condition.hpp>

#include <array>
#include <cstdint>

namespace {

using labels = boot::class_labels<boot::cpu>;
using scale = boot::guidance_scale<boot::cpu>;
using both = boot::conditions<labels, scale>;
static_assert(boot::Condition<boot::no_condition> && boot::Condition<labels> && boot::Condition<scale>);
static_assert(boot::Condition<both> && boot::Condition<boot::conditions<>>);
static_assert(boot::Condition<boot::conditions<both, boot::no_condition>>);

struct without_rows {
  without_rows null() const { return *this; }
};
struct rows_of_another_type {
  int rows(std::int64_t, std::int64_t) const { return 0; }
  rows_of_another_type null() const { return *this; }
};
static_assert(!boot::Condition<int> && !boot::Condition<without_rows> && !boot::Condition<rows_of_another_type>);

static_assert(boot::has_condition<labels, labels> && boot::has_condition<scale, both>);
static_assert(!boot::has_condition<scale, labels> && !boot::has_condition<labels, boot::no_condition>);

}  // namespace

TEST_CASE("class labels: rows and the null class", "[nn][condition]") {
  const std::array<std::int32_t, 4> ids{3, -1, 0, 2};
  const labels all{{ids.data(), {4}}};
  CHECK(all[0] == 3);
  CHECK(all[1] == -1);
  const labels last = all.rows(2, 2);
  CHECK(last.ids.batch() == 2);
  CHECK(last[1] == 2);
  CHECK(all.null()[0] == -1);
  CHECK(all.null().rows(2, 2)[0] == -1);
  CHECK(all.null().ids.batch() == 4);
  CHECK_THROWS_AS(all.rows(3, 2), boot::error);
}

TEST_CASE("several conditions are cut and nulled together; a scale has no null", "[nn][condition]") {
  const std::array<std::int32_t, 3> ids{1, 2, 3};
  const std::array<float, 3> w{1.5f, 2.5f, 3.5f};
  const both all{labels{{ids.data(), {3}}}, scale{{w.data(), {3}}}};
  const both part = all.rows(1, 2);
  CHECK(boot::condition_part<labels>(part)[0] == 2);
  CHECK(boot::condition_part<scale>(part).scale[1] == 3.5f);
  CHECK(boot::condition_part<labels>(all.null())[2] == -1);
  CHECK(boot::condition_part<scale>(all.null()).scale[2] == 3.5f);
  const labels alone{{ids.data(), {3}}};
  CHECK(&boot::condition_part<labels>(alone) == &alone);
}
