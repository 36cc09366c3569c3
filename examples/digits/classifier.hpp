// SPDX-License-Identifier: MIT
/// A small classifier of digits: its last hidden layer gives the features of the Frechet distance.
#pragma once

#include "digits/data.hpp"

#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/graph.hpp>
#include <boot/nn/layers.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/optim/learning_rate.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace digits {

/// 64 - 256 - 64 - 10 with SiLU.
struct classifier_network {
  boot::linear first{pixels, 256}, second{256, 64}, last{64, classes};

  template <class G>
  [[nodiscard]] typename G::value features(G& g, const typename G::value& x) const {
    return boot::silu(g, second(g, boot::silu(g, first(g, x))));
  }
  template <class V>
  void visit(V& v) {
    v("first", first);
    v("second", second);
    v("last", last);
  }
};

/// Trained once with a fixed seed: 2,000 steps of 128 images, AdamW, label smoothing 0.05.
class classifier {
 public:
  explicit classifier(const boot::cpu& dev, std::uint64_t seed = 0) : arena_(dev, boot::parameter_layout(network_)) {
    arena_.initialize(dev, seed);
  }

  void train(const boot::cpu& dev, const image_set& data, std::int64_t steps = 2000, std::uint64_t seed = 0) {
    constexpr std::int64_t batch = 128;
    constexpr float smoothing = 0.05f;
    boot::adamw<float, boot::cpu> optimizer(dev, arena_, {.clip_norm = 0, .averages = {}});
    boot::tensor<float, boot::cpu> x(dev, {batch, pixels}), slope(dev, {batch, classes});
    std::vector<std::int32_t> labels(batch);
    for (std::int64_t step = 0; step < steps; ++step) {
      const boot::counter_key key{seed, boot::stream::shuffle, static_cast<std::uint64_t>(step + 100)};
      for (std::int64_t i = 0; i < batch; ++i) {
        const auto k =
            boot::uniform_index(static_cast<std::uint32_t>(data.labels.size()), key, static_cast<std::uint64_t>(i), 0);
        std::copy_n(data.images.data() + k * pixels, pixels, x.data() + i * pixels);
        labels[static_cast<std::size_t>(i)] = data.labels[k];
      }
      boot::fill_zero(dev, arena_.gradient());
      start(dev, true, batch);
      {
        const auto out = network_.last(graph_, network_.features(graph_, graph_.input(x.get())));
        const auto logits = graph_.data(out);
        for (std::int64_t i = 0; i < batch; ++i) {
          const float* row = logits.data() + i * classes;
          const float top = *std::max_element(row, row + classes);
          float total = 0;
          for (int c = 0; c < classes; ++c) total += std::exp(row[c] - top);
          for (int c = 0; c < classes; ++c) {
            const float wanted = smoothing / classes + (c == labels[static_cast<std::size_t>(i)] ? 1 - smoothing : 0);
            slope.data()[i * classes + c] = (std::exp(row[c] - top) / total - wanted) / static_cast<float>(batch);
          }
        }
        graph_.backward(out, slope.get());
      }
      optimizer.step(dev, arena_, boot::learning_rate({.peak = 1e-3, .warmup_steps = 0}, step, steps));
    }
  }

  /// Features [N, 64] and, where `predicted` is not null, the class of each image.
  boot::tensor<float, boot::cpu> features(const boot::cpu& dev, boot::view<const float, boot::cpu> images,
                                          std::vector<std::int32_t>* predicted = nullptr) {
    boot::tensor<float, boot::cpu> all(dev, {images.batch(), 64});
    if (predicted != nullptr) predicted->assign(static_cast<std::size_t>(images.batch()), -1);
    constexpr std::int64_t piece = 1024;
    for (std::int64_t first = 0; first < images.batch(); first += piece) {
      const std::int64_t n = std::min(piece, images.batch() - first);
      start(dev, false, n);
      const auto f = network_.features(graph_, graph_.input(images.rows(first, n).reshape({n, pixels})));
      boot::copy(dev, graph_.data(f), all.get().rows(first, n));
      const auto out = network_.last(graph_, f);
      if (predicted == nullptr) continue;
      const auto logits = graph_.data(out);
      for (std::int64_t i = 0; i < n; ++i) {
        const float* row = logits.data() + i * classes;
        (*predicted)[static_cast<std::size_t>(first + i)] =
            static_cast<std::int32_t>(std::max_element(row, row + classes) - row);
      }
    }
    return all;
  }

  /// Share of images whose predicted class is the given one.
  double share(const boot::cpu& dev, boot::view<const float, boot::cpu> images, std::span<const std::int32_t> labels) {
    std::vector<std::int32_t> predicted;
    static_cast<void>(features(dev, images, &predicted));
    std::int64_t hits = 0;
    for (std::size_t i = 0; i < predicted.size(); ++i) hits += predicted[i] == labels[i];
    return static_cast<double>(hits) / static_cast<double>(predicted.size());
  }

 private:
  void start(const boot::cpu& dev, bool recorded, std::int64_t batch) {
    const boot::view<const float, boot::cpu> shape_only(nullptr, {batch, pixels});
    boot::graph<float, boot::cpu> planner;
    const auto plan = planner.plan(dev, recorded, arena_.layout(), [&](auto& g) {
      return network_.last(g, network_.features(g, g.input(shape_only)));
    });
    graph_.begin(dev, plan, arena_.layout(), arena_.values(), arena_.gradient());
  }

  classifier_network network_;
  boot::parameter_arena<float, boot::cpu> arena_;
  boot::graph<float, boot::cpu> graph_;
};

}  // namespace digits
