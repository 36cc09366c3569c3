// SPDX-License-Identifier: MIT
// Whole networks by teams on host threads against boot::cpu in float64.
#include "network_compare.hpp"

#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

using boot_test::check_network;

TEST_CASE("a DiT by teams", "[model][team]") { check_network(boot::team_device{}, boot_test::compare_dit(), {1, -1}); }
TEST_CASE("a DDPM UNet by teams", "[model][team]") {
  check_network(boot::team_device{}, boot_test::compare_unet(false), {1, -1});
}
TEST_CASE("a UNet with scale, shift, Fourier times and recomputation by teams", "[model][team]") {
  check_network(boot::team_device{}, boot_test::compare_unet(true), {});
}
TEST_CASE("networks with activations in bf16 by teams: as exact as boot::cpu's, without copies", "[model][team]") {
  boot_test::check_mixed_network(boot::team_device{}, boot_test::compare_dit(), {1, -1});
  boot_test::check_mixed_network(boot::team_device{}, boot_test::compare_unet(false), {1, -1});
  boot_test::check_mixed_network(boot::team_device{}, boot_test::compare_unet(true), {});
}
TEST_CASE("a UNet without a null class by teams", "[model][team]") {
  check_network(boot::team_device{}, boot_test::compare_unet_without_null(), {4, 0});
}
