// SPDX-License-Identifier: MIT
/// Every network operation that runs on any TeamDevice.
#pragma once

#include <boot/nn/team/activations.hpp>
#include <boot/nn/team/attention.hpp>
#include <boot/nn/team/embedding.hpp>
#include <boot/nn/team/embedding_without_null.hpp>
#include <boot/nn/team/group_norm.hpp>
#include <boot/nn/team/layer_norm.hpp>
#include <boot/nn/team/modulate.hpp>
#include <boot/nn/team/operations.hpp>
#include <boot/nn/team/patches.hpp>
#include <boot/nn/team/positions.hpp>
#include <boot/nn/team/resample.hpp>
