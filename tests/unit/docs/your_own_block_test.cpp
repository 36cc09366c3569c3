// SPDX-License-Identifier: MIT
// The block of docs/your_own_model.md: its gradient, its place beside the library's own, and what recomputing it saves.
#include "support/catch.hpp"

#include <boot/model/unet2d.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/nn/recompute.hpp>
#include <boot/testing/gradient_check.hpp>

#include <functional>  // std::cref
#include <tuple>
#include <utility>
#include <vector>

namespace {

const boot::cpu dev{1};

// example: block
/// x + convolution(SiLU(group norm(x))) + time embedding: a residual block that keeps the shape.
struct my_block {
  boot::group_norm norm;
  boot::conv2d conv;
  boot::linear time;

  my_block(std::int64_t channels, std::int64_t embedding)
      : norm(2, channels), conv({.in = channels, .out = channels}), time(embedding, channels) {}
  template <class G>
  typename G::value operator()(G& g, const typename G::value& x, const typename G::value& embedding) const {
    const auto h = conv(g, norm.silu(g, x));  // norm and SiLU in one pass
    return add(g, x, add_channels(g, h, time(g, embedding)));
  }
  template <class V>
  void visit(V& v) {
    v("norm", norm);
    v("conv", conv);
    v("time", time);
  }
};

/// What a check of the block alone needs: its inputs are parameters too, so that their gradients are checked as well.
struct block_and_inputs {
  my_block block{6, 5};
  boot::parameter x{{2, 3, 5, 6}, {}}, embedding{{2, 5}, {}};  // images are [batch, height, width, channels]
  template <class V>
  void visit(V& v) {
    v("block", block);
    v("x", x);
    v("embedding", embedding);
  }
};

TEST_CASE("a block of one's own agrees with finite differences") {
  block_and_inputs n;
  const auto report =
      boot::testing::check_graph_gradient(dev, n, [&](auto& g) { return n.block(g, g(n.x), g(n.embedding)); });
  INFO(report.worst_name);
  CHECK(report.worst < 1e-6);
}
// example-end: block

// example: network-of-blocks
/// Own blocks before a whole network of the library, which is a struct of layers like any other.
struct blocks_and_unet {
  bool recomputes = false;
  boot::conv2d in{{.in = 2, .out = 8}};
  boot::time_embedding target{{.features = 8}, 16};
  std::vector<my_block> blocks{3, my_block(8, 16)};
  boot::unet2d unet{{.height = 6,
                     .width = 6,
                     .in_channels = 8,
                     .out_channels = 2,
                     .down = {boot::unet2d_level::plain},
                     .up = {boot::unet2d_level::plain},
                     .block_channels = {8},
                     .layers_per_block = 1,
                     .norm_num_groups = 2,
                     .target_time = true}};

  template <class G, class Times, class C>
  typename G::value operator()(G& g, const typename G::value& x, const Times& t_source, const Times& t_target,
                               const C& condition) const {
    const auto embedding = silu(g, target(g, t_target));
    auto h = in(g, x);
    for (const my_block& block : blocks) h = boot::recompute(g, recomputes, std::cref(block), std::move(h), embedding);
    return unet(g, h, t_source, t_target, condition);
  }
  template <class V>
  void visit(V& v) {  // "blocks.0.norm.weight", ..., "unet.conv_in.weight", ...
    v("in", in);
    v("target", target);
    v("blocks", blocks);
    v("unet", unet);
  }
  boot::shape sample_shape() const { return {6, 6, 2}; }
  double time_input(double t) const { return unet.time_input(t); }
};

TEST_CASE("recomputed blocks: the same bits in less memory") {
  const auto train = [](bool recomputes) {
    boot::network_model student(dev, blocks_and_unet{recomputes}, {boot::prediction_kind::v}, 7);
    boot::times_buffer<boot::cpu> source, target;
    const std::vector<float> x(2 * 6 * 6 * 2, .5f);
    const std::vector<double> t{.2, .8};
    const boot::view<const float, boot::cpu> images(x.data(), {2, 6, 6, 2});
    auto tape = student.record(dev, images, source.set(dev, student, 1.0, 2), target.set(dev, student, t),
                               boot::no_condition{});
    tape.backward(dev, images);
    const auto plan = student.plan(dev, 64, boot::no_condition{}, true, true, false);
    return std::tuple(to_host(dev, tape.output()), to_host(dev, student.parameters().gradient()), plan.bytes);
  };
  const auto [output, gradient, bytes] = train(false);
  const auto [same_output, same_gradient, fewer_bytes] = train(true);
  CHECK(same_output == output);
  CHECK(same_gradient == gradient);
  CHECK(fewer_bytes < bytes);
}
// example-end: network-of-blocks

}  // namespace
