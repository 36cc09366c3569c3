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
#include <cstring>
#include <span>
#include <vector>

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
/// makes normals of them. Key and sample numbers go, in one piece, through scratch memory of the device or the table of a
/// recorded step.
template <TeamDevice D, ComputeScalar T>
void fill_noise(const D& dev, const counter_key& key, std::span<const std::int64_t> samples, view<T, D> out) {
  require(static_cast<std::int64_t>(samples.size()) == out.batch(), "boot: {} samples for noise of shape {}",
          samples.size(), to_string(out.extents()));
  if (samples.empty()) return;
  constexpr std::size_t head = 32;  // the key's place before the sample numbers: one copy takes both
  static_assert(sizeof(counter_key) <= head && head % alignof(std::int64_t) == 0);
  std::vector<std::byte> packed(head + samples.size_bytes());
  std::memcpy(packed.data(), &key, sizeof key);
  std::memcpy(packed.data() + head, samples.data(), samples.size_bytes());
  auto* place = static_cast<const std::byte*>(detail::sent_in_place(packed.data(), packed.size()));
  if (place == nullptr) {
    void* const memory = device_scratch(dev, packed.size(), 0);
    copy_from_host(dev, packed.data(), memory, packed.size());
    place = static_cast<const std::byte*>(memory);
  }
  const std::int64_t n = out.sample_size();
  // Few and long blocks: each thread begins with 100 instructions, two thirds of what four numbers take in its loop.
  launch(dev,
         detail::noise_kernel<T>{reinterpret_cast<const counter_key*>(place),
                                 reinterpret_cast<const std::int64_t*>(place + head), n, out.data()},
         blocks_for(n, 16384), out.batch());
}

}  // namespace boot::inline v0
