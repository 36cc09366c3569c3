// SPDX-License-Identifier: MIT
// Checkpoints move between boot::cpu and a device that replays its steps, and back.
#include "checkpoint_moves.hpp"

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/kernel/team/optimizer.hpp>
#include <boot/kernel/team/step.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

TEST_CASE("a run goes on on another device", "[train][team]") {
  boot_test::check_checkpoint_moves(boot::team_device{}, boot::cpu{});
  boot_test::check_checkpoint_moves(boot::cpu{}, boot::team_device{});
}
