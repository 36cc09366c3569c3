// SPDX-License-Identifier: MIT
/// The training step of the PyTorch side's cases (boot_torch.py), in the library's options.
#pragma once

#include <boot/objective/bootstrap.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/schedule/cosine.hpp>

namespace boot::measure {

/// Share of the batch that carries the boundary loss.
inline constexpr double peer_boundary_fraction = .25;
/// Learning rate, at every step the same.
inline constexpr double peer_rate = 1e-4;

/// The peer's objective; its delta is absolute while ours is a share of the range.
inline bootstrap_options peer_objective(const cosine_schedule& schedule) {
  bootstrap_options o;
  o.delta = .04 / (schedule.t_max() - schedule.t_min());
  o.boundary_weight = .5;
  o.boundary_fraction = peer_boundary_fraction;
  o.weight = weighting::exact;
  return o;
}

/// The peer's optimiser and its average.
inline adamw_options peer_optimizer() {
  return {.weight_decay = .01, .clip_norm = 1, .averages = {ema_options{.decay = .999, .warmup = false}}};
}

}  // namespace boot::measure
