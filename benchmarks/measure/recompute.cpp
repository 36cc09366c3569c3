// SPDX-License-Identifier: MIT
/// What computing a block's activations again instead of keeping them saves, and that it changes no bit: one training
/// pass of the U-Net tiny32, 16 images, with and without unet2d_options::recompute.
#include "measure.hpp"
#include "peer_networks.hpp"

#include <boot/core/random.hpp>
#include <boot/nn/cpu/all.hpp>

#include <cstring>

namespace {

using boot::cpu;
using network = boot::network_model<boot::unet2d, cpu, float>;

constexpr std::int64_t batch = 16;

/// Output and gradient of one recorded pass.
struct pass {
  boot::graph_plan plan;
  std::vector<float> output, gradient;
};

pass run(const cpu& dev, bool recompute, std::uint64_t seed) {
  boot::unet2d_options o = boot::measure::tiny32().options();
  o.target_time = true;
  o.recompute = recompute;
  network model(dev, boot::unet2d(o), {boot::prediction_kind::v}, seed);
  const boot::shape all = model.sample_shape().batched(batch);
  boot::tensor<float, cpu> x(dev, all), slope(dev, all);
  boot::fill_normal(x.data(), all.size(), {seed, boot::stream::test, 0}, 0, 0);
  boot::fill_normal(slope.data(), all.size(), {seed, boot::stream::test, 0}, 1, 0);
  std::vector<double> target;
  for (std::int64_t i = 0; i < batch; ++i) target.push_back((static_cast<double>(i) + .5) / batch);
  boot::times_buffer<cpu> from, to;
  boot::fill_zero(dev, model.parameters().gradient());
  pass p;
  p.plan = model.plan(dev, batch, boot::no_condition{}, true, true, false);
  auto tape = model.record(dev, boot::view<const float, cpu>(x.get()), from.set(dev, model, .999, batch),
                           to.set(dev, model, target), boot::no_condition{});
  p.output = boot::to_host(dev, tape.output());
  tape.backward(dev, boot::view<const float, cpu>(slope.get()));
  p.gradient = boot::to_host(dev, model.parameters().gradient());
  return p;
}

bool same_bits(const float* a, const float* b, std::int64_t n) {
  return std::memcmp(a, b, static_cast<std::size_t>(n) * sizeof(float)) == 0;
}

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "recompute", {{"bytes_saved", ">= 0.5", "share of a training pass's activation bytes that recomputing saves"},
                    {"bits_differ", "== 0", "outputs and gradient tensors that differ in any bit"}});
  if (const auto status = report.parse(argc, argv)) return *status;
  const cpu dev = report.device();
  const std::uint64_t seed = report.seeds().empty() ? 0 : report.seeds().front();
  const pass kept = run(dev, false, seed), again = run(dev, true, seed);
  boot::require(
      boot::math::is_finite(static_cast<double>(kept.output.front())) && kept.output.size() == again.output.size(),
      "measure recompute: the passes gave {} and {} numbers", kept.output.size(), again.output.size());
  boot::unet2d_options o = boot::measure::tiny32().options();
  o.target_time = true;
  boot::unet2d named(o);
  const boot::parameter_layout layout(named);
  std::int64_t differ =
      same_bits(kept.output.data(), again.output.data(), static_cast<std::int64_t>(kept.output.size())) ? 0 : 1;
  std::int64_t nonzero = 0;
  for (const auto& e : layout.entries()) {
    differ += same_bits(kept.gradient.data() + e.offset, again.gradient.data() + e.offset, e.extents.size()) ? 0 : 1;
    nonzero += std::any_of(kept.gradient.data() + e.offset, kept.gradient.data() + e.offset + e.extents.size(),
                           [](float g) { return g != 0; })
                   ? 1
                   : 0;
  }
  // The comparison must be able to fail: nearly all gradients are there, and other numbers give other bits.
  boot::require(nonzero * 10 >= static_cast<std::int64_t>(layout.entries().size()) * 9,
                "measure recompute: only {} of {} gradients are not zero", nonzero, layout.entries().size());
  boot::require(run(dev, true, seed + 1).output != kept.output, "measure recompute: another seed gave the same output");
  report.config("case", "tiny32");
  report.config("batch", batch);
  report.config("tensors", layout.entries().size() + 1);
  report.beside("bytes kept", kept.plan.bytes);
  report.beside("bytes recomputed", again.plan.bytes);
  report.beside("backward FLOP, recomputed / kept", again.plan.backward_flop / kept.plan.backward_flop);
  report.row("bytes_saved", 1 - static_cast<double>(again.plan.bytes) / static_cast<double>(kept.plan.bytes));
  report.row("bits_differ", static_cast<double>(differ));
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
