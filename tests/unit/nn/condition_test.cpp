// SPDX-License-Identifier: MIT
// Conditions: parts of a batch, null conditions, several at once, and what the concept asks for.
#include "support/catch.hpp"

#include <boot/device/cpu.hpp>
#include <boot/nn/condition.hpp>

#include <array>
#include <cstdint>
#include <string>

namespace {

using Catch::Matchers::ContainsSubstring;
using labels = boot::class_labels<boot::cpu>;
using scale = boot::guidance_scale<boot::cpu>;
using prompts = boot::prompt_embeddings<boot::cpu>;
using low = boot::low_resolution<boot::cpu>;
using both = boot::conditions<labels, scale>;
static_assert(boot::Condition<boot::no_condition> && boot::Condition<labels> && boot::Condition<scale>);
static_assert(boot::Condition<prompts> && boot::Condition<boot::prompt_embeddings<boot::cpu, double>>);
static_assert(boot::Condition<both> && boot::Condition<boot::conditions<>>);
static_assert(boot::Condition<low> && boot::Condition<boot::conditions<labels, low>>);
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
static_assert(boot::has_condition<prompts, boot::conditions<scale, prompts>>);
static_assert(!boot::has_condition<prompts, boot::conditions<scale, boot::prompt_embeddings<boot::cpu, double>>>);
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

TEST_CASE("prompt embeddings: rows, with and without a mask", "[nn][condition]") {
  const std::array<float, 12> tokens{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};  // three samples, two tokens, width two
  const std::array<std::uint8_t, 6> mask{1, 0, 1, 1, 0, 1};
  const prompts open{.tokens = {tokens.data(), {3, 2, 2}}};
  const prompts last = open.rows(1, 2);
  CHECK(last.tokens.extents() == boot::shape{2, 2, 2});
  CHECK(last.tokens[0] == 4);
  CHECK(last.mask.empty());
  CHECK_THROWS_WITH(open.rows(2, 2), ContainsSubstring("3 rows"));
  const prompts masked{.tokens = {tokens.data(), {3, 2, 2}}, .mask = {mask.data(), {3, 2}}};
  CHECK(masked.rows(2, 1).mask.extents() == boot::shape{1, 2});
  CHECK(masked.rows(2, 1).mask[0] == 0);
  const prompts planned{.tokens = {nullptr, {3, 2, 2}}, .mask = {nullptr, {3, 2}}};  // shapes alone, for a plan
  CHECK(planned.rows(0, 2).mask.extents() == boot::shape{2, 2});
}

TEST_CASE("prompt embeddings: the negative prompt is the null condition", "[nn][condition]") {
  const std::array<float, 12> tokens{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const std::array<float, 3> empty_prompt{20, 21, 22};
  const std::array<std::uint8_t, 3> mask{1, 0, 0};
  const prompts all{.tokens = {tokens.data(), {4, 3, 1}},
                    .negative = {empty_prompt.data(), {1, 3, 1}},
                    .negative_mask = {mask.data(), {1, 3}}};
  const prompts part = all.rows(2, 2);
  CHECK(part.tokens[0] == 6);
  CHECK(part.negative.batch() == 1);  // one negative prompt serves all samples
  const prompts null = part.null();
  CHECK(null.tokens.data() == empty_prompt.data());
  CHECK(null.mask.data() == mask.data());
  CHECK(null.rows(1, 1).tokens.data() == empty_prompt.data());
  CHECK(null.null().tokens.data() == empty_prompt.data());
  const prompts each{.tokens = {tokens.data(), {2, 3, 1}}, .negative = {tokens.data() + 6, {2, 3, 1}}};
  CHECK(each.rows(1, 1).null().tokens[0] == 9);
  const prompts without{.tokens = {tokens.data(), {4, 3, 1}}};
  CHECK_THROWS_WITH(without.null(), ContainsSubstring("[4, 3, 1]") && ContainsSubstring("prompt_embeddings::negative"));
  const std::array<float, 4> w{1, 2, 3, 4};
  const boot::conditions<scale, prompts> two{scale{{w.data(), {4}}}, all};
  CHECK(boot::condition_part<prompts>(two.rows(1, 2)).tokens[0] == 3);
  CHECK(boot::condition_part<prompts>(two.null()).tokens.data() == empty_prompt.data());
}

TEST_CASE("a low-resolution image: rows with their levels, and no null of its own", "[nn][condition]") {
  const std::array<float, 6> pixels{0, 1, 2, 3, 4, 5};
  const std::array<float, 3> levels{0.1f, 0.2f, 0.3f};
  const std::array<std::int32_t, 3> ids{4, 5, 6};
  const low all{{pixels.data(), {3, 2, 1, 1}}, {levels.data(), {3}}};
  const low part = all.rows(1, 2);
  CHECK(part.image.extents() == boot::shape{2, 2, 1, 1});
  CHECK(part.image[0] == 2);
  CHECK(part.level.extents() == boot::shape{2});
  CHECK(part.level[1] == 0.3f);
  CHECK_THROWS_AS(all.rows(2, 2), boot::error);
  const boot::conditions<labels, low> two{labels{{ids.data(), {3}}}, all};
  CHECK(boot::condition_part<labels>(two.null())[0] == -1);  // guidance takes the label away, not the image
  CHECK(boot::condition_part<low>(two.null()).image.data() == pixels.data());
  CHECK(boot::condition_part<low>(two.null()).level[2] == 0.3f);
}
