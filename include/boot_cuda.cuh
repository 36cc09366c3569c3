// SPDX-License-Identifier: MIT
/// Umbrella for .cu files: boot::cuda with its kernels.
#pragma once

#include <boot/config.hpp>

#if !BOOT_CUDA_COMPILATION
#  error "boot: boot_cuda.cuh holds kernels; include it from a .cu file compiled by nvcc, or include <boot.hpp> here"
#endif

#include <boot/core/error.hpp>
#include <boot/device/cuda.hpp>
#include <boot/kernel/cuda/launch.cuh>
#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/map.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/kernel/team/optimizer.hpp>
#include <boot/kernel/team/quantile.hpp>
#include <boot/kernel/team/step.hpp>
#include <boot/nn/cuda/products.hpp>
#include <boot/nn/team/all.hpp>

#if __has_include(<cudnn.h>)
#  include <boot/nn/cuda/convolution.hpp>
#endif
