// SPDX-License-Identifier: MIT
/// Sample grids while training: a function for distiller::on_sample() that writes one PNG per call. Needs libpng.
#pragma once

#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/io/image.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot/train/progress.hpp>
#include <boot/train/state_list.hpp>

#include <fmt/core.h>

#include <string>
#include <utility>

namespace boot::inline v0 {

/// Writes `<folder>/samples-NNNNNNNNNN.png`, N being the steps finished:
///   trainer.on_sample(boot::sample_grids("runs/first", [&](const boot::step_info&) { return samples(); }));
/// `make(info)` returns the samples as tensor<float, cpu> [N, height, width, channels], or [N, features] when `image`
/// gives the shape of one, {height, width, channels}. Use the same noise every time: then the pictures can be compared.
template <class Make>
class sample_grids {
 public:
  /// Makes the folder if it is not there; throws boot::error when it cannot.
  sample_grids(std::string folder, Make make, grid_options grid = {}, const shape& image = {})
      : folder_(std::move(folder)), make_(std::move(make)), grid_(grid), image_(image) {
    require(!folder_.empty(), "boot: sample grids need a folder; give its name, '.' for the current one");
    require(image_.rank() == 0 || image_.rank() == 3,
            "boot: sample grids got the image shape {}; needs {{height, width, channels}}", to_string(image_));
    detail::make_folders(folder_);
  }
  /// Draws; throws boot::error for samples of other shapes and for what the disk refuses.
  void operator()(const step_info& info) {
    const tensor<float, cpu> samples = make_(info);
    view<const float, cpu> drawn = samples.get();
    if (image_.rank() == 3) drawn = drawn.reshape(image_.batched(drawn.batch()));
    write_png(path_of(info.done()), boot::sample_grid(drawn, grid_).get());
  }
  /// Where the picture after `done` steps lies.
  [[nodiscard]] std::string path_of(std::int64_t done) const {
    return fmt::format("{}/samples-{:010}.png", folder_, done);
  }

 private:
  std::string folder_;
  Make make_;
  grid_options grid_;
  shape image_;
};

}  // namespace boot::inline v0
