// SPDX-License-Identifier: MIT
/// Reads diffusers' DiTTransformer2DModel folders (config.json and safetensors weights) into dit networks.
#pragma once

#include <boot/interop/diffusers.hpp>
#include <boot/model/dit.hpp>

#include <cstdint>
#include <string>

namespace boot::inline v0 {

/// What a folder of a DiTTransformer2DModel does not say, or may be told to say otherwise.
struct diffusers_dit_options {
  std::string component = "transformer";  ///< the sub-folder of the model; where there is none, the folder itself
  std::int64_t height = 0, width = 0;     ///< of the samples, both or neither; 0: config.json's sample_size
  double time_scale = 1000;               ///< dit_options::time_scale: 1 for schedules whose time is the step index
  bool drop_variance = true;              ///< dit_options::drop_variance
  /// The file; a variant's name is like "diffusion_pytorch_model.fp16.safetensors".
  std::string weights = "diffusion_pytorch_model.safetensors";
};

/// Options of the dit that a config.json of diffusers' DiTTransformer2DModel describes, or of the Transformer2DModel
/// that it was called before; `path` is for messages. Keys that are missing have diffusers' defaults. At another height
/// and width than the config's, places keep the length of the training. Throws boot::error naming key, value and what
/// is supported for keys that are not known and values that are not supported: norms other than adaLN-zero, activations
/// other than GELU by tanh, cross-attention, discrete samples, dropout.
[[nodiscard]] inline dit_options parse_dit_config(const std::string& text, const std::string& path,
                                                  const diffusers_dit_options& options = {}) {
  detail::diffusers_config config(text, path);
  dit_options o;
  const bool older =
      config.choice("_class_name", "DiTTransformer2DModel", {"DiTTransformer2DModel", "Transformer2DModel"}) == 1;
  require((options.height > 0) == (options.width > 0) && options.height >= 0 && options.width >= 0,
          "boot: diffusers_dit_options with height {} and width {}; give both, or 0 for both to take the config's",
          options.height, options.width);
  const std::int64_t size = config.integer("sample_size", 32);
  o.patch_size = config.integer("patch_size", 2);
  if (size % o.patch_size != 0) config.refuse("sample_size", "supported are multiples of the key 'patch_size'");
  o.height = options.height > 0 ? options.height : size;
  o.width = options.width > 0 ? options.width : size;
  o.base_size = size / o.patch_size;
  o.in_channels = config.integer("in_channels", 4);
  o.out_channels = config.integer("out_channels", 0, 0);
  o.heads = config.integer("num_attention_heads", 16);
  o.head_dim = config.integer("attention_head_dim", 72);
  o.layers = config.integer("num_layers", 28);
  o.attention_bias = config.flag("attention_bias", true);
  o.classes = config.integer("num_embeds_ada_norm", 1000);
  o.norm_eps = config.number("norm_eps", 1e-5);
  o.time_scale = options.time_scale;
  o.drop_variance = options.drop_variance;
  static_cast<void>(config.choice("norm_type", "ada_norm_zero", {"ada_norm_zero"}));
  static_cast<void>(config.choice("activation_fn", "gelu-approximate", {"gelu-approximate"}));
  if (config.flag("norm_elementwise_affine", false)) config.refuse("norm_elementwise_affine", "supported is false");
  if (config.number("dropout", 0) != 0)
    config.refuse("dropout",
                  "supported is 0; dropout acts in training only, so set it to 0 to use the weights as they are");
  static_cast<void>(config.flag("upcast_attention", false));  // attention's sums are never in less than float32
  static_cast<void>(config.integer("norm_num_groups", 32));   // of other kinds of input
  if (older) {
    static_cast<void>(config.choice("attention_type", "default", {"default"}));
    for (const char* key : {"double_self_attention", "only_cross_attention", "use_linear_projection"})
      if (config.flag(key, false)) config.refuse(key, "supported is false");
    for (const char* key : {"cross_attention_dim", "num_vector_embeds", "caption_channels", "interpolation_scale",
                            "use_additional_conditions"})
      if (!config.find(key).is_null()) config.refuse(key, "supported is null");
  }
  config.done();
  return o;
}

/// The same for the config.json in a model's folder, or in its sub-folder options.component.
[[nodiscard]] inline dit_options read_dit_config(const std::string& folder, const diffusers_dit_options& options = {}) {
  const std::string path = detail::diffusers_folder(folder, options.component) + "/config.json";
  return parse_dit_config(read_file(path), path, options);
}

/// A diffusers DiTTransformer2DModel: config.json and weights of a folder, or of its sub-folder options.component. `p`
/// says what it predicts, which is written in the scheduler's config ("prediction_type"), not in the model's. Computes
/// in T: `read_dit<double>(dev, folder, p)`.
template <ComputeScalar T = float, Device D>
[[nodiscard]] network_model<dit, D, T> read_dit(const D& dev, const std::string& folder, prediction p,
                                                const diffusers_dit_options& options = {}) {
  network_model<dit, D, T> model(dev, dit(read_dit_config(folder, options)), p);
  load_diffusers_parameters(dev, detail::open_diffusers_weights(folder, options.component, options.weights),
                            model.parameters());
  return model;
}

}  // namespace boot::inline v0
