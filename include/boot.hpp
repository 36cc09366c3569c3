// SPDX-License-Identifier: MIT
/// The CPU library in one include, without what needs JSON: io/safetensors, io/parameters and train/checkpoint are
/// named.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/optim/adamw.hpp>
#include <boot/optim/learning_rate.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/discrete.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>
#include <boot/schedule/shifted.hpp>
#include <boot/version.hpp>
