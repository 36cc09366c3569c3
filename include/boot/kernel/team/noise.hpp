// SPDX-License-Identifier: MIT
/// Standard normal noise on any TeamDevice: a function of seed, stream, step, sample and element.
#pragma once

#include <boot/core/error.hpp>
#include <boot/core/random.hpp>
#include <boot/kernel/team/body.hpp>
#include <boot/kernel/team/team_device.hpp>
#include <boot/tensor/view.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace boot::inline v0 {

namespace detail {
template <class T>
struct noise_kernel {
  const counter_key* key;
  const std::int64_t* samples;
  std::int64_t n;
  T* out;

  template <class Team>
  BOOT_HD void operator()(const Team& team) const {
    noise_body(team, key, samples, n, out);
  }
};
}  // namespace detail

/// Fills row i of `out` with the noise of sample samples[i]: the same integers as on boot::cpu, and the same functor
/// makes normals of them. Key and sample numbers go through scratch memory of the device, or the
/// table of a recorded step.
template <TeamDevice D, ComputeScalar T>
void fill_noise(const D& dev, const counter_key& key, std::span<const std::int64_t> samples, view<T, D> out) {
  require(static_cast<std::int64_t>(samples.size()) == out.batch(), "boot: {} samples for noise of shape {}",
          samples.size(), to_string(out.extents()));
  if (samples.empty()) return;
  static_assert(sizeof(counter_key) <= 64);
  const void* key_place = detail::sent_in_place(&key, sizeof key);
  const void* samples_place = detail::sent_in_place(samples.data(), samples.size_bytes());
  if (key_place == nullptr) {
    auto* const memory = static_cast<std::byte*>(device_scratch(dev, 64 + samples.size_bytes(), 0));
    copy_from_host(dev, &key, memory, sizeof key);
    copy_from_host(dev, samples.data(), memory + 64, samples.size_bytes());
    key_place = memory;
    samples_place = memory + 64;
  }
  const std::int64_t n = out.sample_size();
  launch(dev,
         detail::noise_kernel<T>{static_cast<const counter_key*>(key_place),
                                 static_cast<const std::int64_t*>(samples_place), n, out.data()},
         blocks_for(n, 4096, 256), out.batch());
}

}  // namespace boot::inline v0
