// SPDX-License-Identifier: MIT
/// io/image.hpp: PNG files come back as they were, grids have every pixel in its place.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/io/image.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

using boot_test::message_of;
using boot_test::temporary_folder;
using Catch::Matchers::ContainsSubstring;
using bytes_view = boot::view<const std::uint8_t, boot::cpu>;

TEST_CASE("a PNG file comes back as it was written", "[io][image]") {
  const temporary_folder folder;
  std::mt19937_64 random(std::random_device{}());
  for (const std::int64_t channels : {1, 3, 4})
    for (const std::int64_t height : {1, 2, 33})
      for (const std::int64_t width : {1, 7, 64}) {
        boot::tensor<std::uint8_t, boot::cpu> image(boot::cpu{}, {height, width, channels});
        for (std::int64_t i = 0; i < image.size(); ++i) image.data()[i] = static_cast<std::uint8_t>(random());
        boot::write_png(folder.path("i.png"), image);
        const auto back = boot::read_png(folder.path("i.png"));
        REQUIRE(back.extents() == image.extents());
        CHECK(std::memcmp(back.data(), image.data(), static_cast<std::size_t>(image.size())) == 0);
      }
  CHECK(folder.names().size() == 1);
  CHECK(boot::read_file(folder.path("i.png")).substr(0, 8) == "\x89PNG\r\n\x1a\n");
}

TEST_CASE("shapes that are no image and files that are no PNG are refused", "[io][image]") {
  const temporary_folder folder;
  const std::vector<std::uint8_t> some(64, 1);
  const auto refused = [&](const boot::shape& s) {
    return message_of([&] { boot::write_png(folder.path("i.png"), bytes_view(some.data(), s)); });
  };
  CHECK_THAT(refused({8, 8}), ContainsSubstring("shape [8, 8] was given") && ContainsSubstring("1, 3 or 4 channels"));
  CHECK_THAT(refused({4, 4, 2}), ContainsSubstring("shape [4, 4, 2]"));
  CHECK_THAT(refused({0, 4, 3}), ContainsSubstring("at least one pixel"));
  CHECK_THAT(refused({1LL << 40, 1LL << 40, 1}), ContainsSubstring("write several images"));
  CHECK(folder.names().empty());
  CHECK_THAT(message_of([&] {
               boot::write_png(folder.path("no/i.png"), bytes_view(some.data(), {4, 4, 1}));
             }),
             ContainsSubstring("create it first"));
  CHECK_THAT(message_of([&] {
               boot::write_png("/dev/full", bytes_view(some.data(), {4, 4, 1}));
             }),
             ContainsSubstring("No space left"));

  boot::atomic_write_file(folder.path("text"), std::string_view("this is no picture at all"));
  CHECK_THAT(message_of([&] { static_cast<void>(boot::read_png(folder.path("text"))); }),
             ContainsSubstring("libpng says"));
  CHECK_THAT(message_of([&] { static_cast<void>(boot::read_png(folder.path("none"))); }),
             ContainsSubstring("cannot read"));
  boot::write_png(folder.path("whole"), bytes_view(some.data(), {8, 8, 1}));
  const std::string whole = boot::read_file(folder.path("whole"));
  for (const std::size_t n : {std::size_t{0}, std::size_t{8}, std::size_t{20}, std::size_t{40}, whole.size() - 20}) {
    boot::atomic_write_file(folder.path("cut"), std::string_view(whole).substr(0, n));
    CHECK_THAT(message_of([&] { static_cast<void>(boot::read_png(folder.path("cut"))); }),
               ContainsSubstring("libpng says"));
  }
}

TEST_CASE("a grid puts every value where it belongs", "[io][image]") {
  std::mt19937_64 random(std::random_device{}());
  std::uniform_real_distribution<float> uniform(-3.0f, 3.0f);
  for (const std::int64_t c : {1, 3})
    for (const std::int64_t scale : {1, 3}) {
      const std::int64_t n = 7, h = 4, w = 5, columns = 3, gap = 2;
      std::vector<float> samples(static_cast<std::size_t>(n * h * w * c));
      for (float& v : samples) v = uniform(random);
      const auto grid =
          boot::sample_grid({samples.data(), {n, h, w, c}},
                            {.columns = columns, .lo = -1, .hi = 2, .scale = scale, .gap = gap, .gap_value = 77});
      const std::int64_t height = 3 * h * scale + 2 * gap, width = 3 * w * scale + 2 * gap;
      REQUIRE(grid.extents() == boot::shape{height, width, c});
      int wrong = 0;
      for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
          for (std::int64_t j = 0; j < c; ++j) {
            const std::int64_t row = y / (h * scale + gap), column = x / (w * scale + gap);
            const std::int64_t iy = y % (h * scale + gap) / scale, ix = x % (w * scale + gap) / scale,
                               i = row * columns + column;
            double want = 77;
            if (iy < h && ix < w && i < n) {
              const double v = static_cast<double>(samples[static_cast<std::size_t>(((i * h + iy) * w + ix) * c + j)]);
              want = std::min(255.0, std::max(0.0, std::floor((v + 1) / 3 * 255 + 0.5)));
            }
            wrong += grid.data()[(y * width + x) * c + j] != static_cast<int>(want);
          }
      CHECK(wrong == 0);
    }
}

TEST_CASE("a grid draws the ends of its range, infinities and NaN, and refuses nonsense", "[io][image]") {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> v{-1, 1, -inf, inf, std::nanf(""), 0, -1.5f, 1e30f, std::nanf("")};
  const auto grey = boot::sample_grid({v.data(), {1, 1, 9, 1}});
  CHECK(std::vector<int>(grey.data(), grey.data() + 9) == std::vector<int>{0, 255, 0, 255, 255, 128, 0, 255, 255});
  const auto colour = boot::sample_grid({v.data() + 4, {1, 1, 1, 3}});
  CHECK(std::vector<int>(colour.data(), colour.data() + 3) == std::vector<int>{255, 128, 0});
  const std::vector<float> nan(3, std::nanf(""));
  const auto red = boot::sample_grid({nan.data(), {1, 1, 1, 3}});
  CHECK(std::vector<int>(red.data(), red.data() + 3) == std::vector<int>{255, 0, 0});
  const auto refused = [&](const boot::shape& s, const boot::grid_options& o) {
    return message_of([&] { static_cast<void>(boot::sample_grid({v.data(), s}, o)); });
  };
  CHECK_THAT(refused({9}, {}), ContainsSubstring("shape [9] was given"));
  CHECK_THAT(refused({0, 3, 3, 1}, {}), ContainsSubstring("[N, height, width, channels]"));
  CHECK_THAT(refused({1, 1, 4, 2}, {}), ContainsSubstring("1 or 3 channels"));
  CHECK_THAT(refused({1, 3, 3, 1}, {.columns = 0}), ContainsSubstring("columns 0"));
  CHECK_THAT(refused({1, 3, 3, 1}, {.lo = 1, .hi = 1}), ContainsSubstring("lo < hi"));
  CHECK_THAT(refused({1, 3, 3, 1}, {.scale = 0}), ContainsSubstring("scale 0"));
  CHECK_THAT(refused({1, 3, 3, 1}, {.lo = std::nan("")}), ContainsSubstring("lo < hi"));
  CHECK_THAT(refused({1, 3, 3, 1}, {.scale = 1 << 20}), ContainsSubstring("too large a picture"));
}
