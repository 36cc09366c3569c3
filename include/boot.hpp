// SPDX-License-Identifier: MIT
/// The CPU library in one include, without the large networks (model/unet2d, model/dit) and what needs JSON
/// (io/safetensors, io/parameters, train/checkpoint, interop): those are included by name.
#pragma once

#include <boot/config.hpp>
#include <boot/core/error.hpp>
#include <boot/device/cpu.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/kernel/cpu/optimizer.hpp>
#include <boot/kernel/cpu/quantile.hpp>
#include <boot/model/gaussian.hpp>
#include <boot/model/gaussian_mixture.hpp>
#include <boot/model/guided.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/activations.hpp>
#include <boot/nn/attention.hpp>
#include <boot/nn/convolution.hpp>
#include <boot/nn/cpu/all.hpp>
#include <boot/nn/group_norm.hpp>
#include <boot/nn/modulate.hpp>
#include <boot/nn/patches.hpp>
#include <boot/nn/recompute.hpp>
#include <boot/nn/resample.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/fixed_point.hpp>
#include <boot/objective/knowledge_distillation.hpp>
#include <boot/objective/progressive_distillation.hpp>
#include <boot/objective/sources.hpp>
#include <boot/sampler/ddim.hpp>
#include <boot/sampler/ddpm.hpp>
#include <boot/sampler/dpm_solver.hpp>
#include <boot/sampler/heun.hpp>
#include <boot/sampler/one_step.hpp>
#include <boot/sampler/refined.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/schedule/discrete.hpp>
#include <boot/schedule/edm.hpp>
#include <boot/schedule/flow.hpp>
#include <boot/schedule/linear.hpp>
#include <boot/schedule/shifted.hpp>
#include <boot/train/distiller.hpp>
#include <boot/version.hpp>
