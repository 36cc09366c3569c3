// SPDX-License-Identifier: MIT
/// Sample grids: the picture on disk is the grid of the samples, named by the step.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/train/sample_grid.hpp>

#include <cstring>

using boot_test::message_of;
using Catch::Matchers::ContainsSubstring;

namespace {
boot::tensor<float, boot::cpu> samples(const boot::shape& s) {
  boot::tensor<float, boot::cpu> t(boot::cpu{1}, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(i % 17) / 8 - 1;
  return t;
}
}  // namespace

TEST_CASE("a grid is written for each call") {
  const boot_test::temporary_folder folder;
  boot::sample_grids flat(folder.path("made"),
                          [](const boot::step_info&) {
                            return samples({6, 16});
                          },
                          {.columns = 3}, {4, 4, 1});
  boot::sample_grids images(folder.path("made"),
                            [](const boot::step_info&) {
                              return samples({6, 4, 4, 1});
                            },
                            {.columns = 3});
  flat({.step = 41});
  images({.step = 99});
  const auto a = boot::read_png(flat.path_of(42)), b = boot::read_png(images.path_of(100));
  const auto expected = boot::sample_grid(samples({6, 4, 4, 1}).get(), {.columns = 3});
  CHECK(flat.path_of(42) == folder.path("made/samples-0000000042.png"));
  REQUIRE(a.extents() == expected.extents());
  REQUIRE(b.extents() == expected.extents());
  CHECK(std::memcmp(a.data(), expected.data(), static_cast<std::size_t>(expected.size())) == 0);
  CHECK(std::memcmp(b.data(), expected.data(), static_cast<std::size_t>(expected.size())) == 0);
}

TEST_CASE("wrong uses of sample grids are named") {
  const boot_test::temporary_folder folder;
  const auto make = [](const boot::step_info&) { return samples({6, 15}); };
  CHECK_THAT(message_of([&] { boot::sample_grids g("", make); }), ContainsSubstring("need a folder"));
  CHECK_THAT(message_of([&] {
               boot::sample_grids g(folder.root(), make, {}, {4, 4});
             }),
             ContainsSubstring("{height, width, channels}"));
  boot::sample_grids wrong(folder.root(), make, {}, {4, 4, 1});
  CHECK_THAT(message_of([&] { wrong({}); }), ContainsSubstring("96 elements"));
  CHECK(folder.names().empty());
}
