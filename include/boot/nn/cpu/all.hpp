// SPDX-License-Identifier: MIT
/// What any of the library's networks needs to run on the host: the element loops and all operations of nn/cpu.
#pragma once

#include <boot/kernel/cpu/for_each.hpp>
#include <boot/nn/cpu/activations.hpp>
#include <boot/nn/cpu/attention.hpp>
#include <boot/nn/cpu/convolution.hpp>
#include <boot/nn/cpu/group_norm.hpp>
#include <boot/nn/cpu/modulate.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/cpu/patches.hpp>
#include <boot/nn/cpu/resample.hpp>
