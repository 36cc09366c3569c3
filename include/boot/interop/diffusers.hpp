// SPDX-License-Identifier: MIT
/// Reads model folders of diffusers (config.json and safetensors weights) into the library's networks.
#pragma once

#include <boot/io/file.hpp>
#include <boot/io/parameters.hpp>
#include <boot/io/safetensors.hpp>
#include <boot/model/network.hpp>
#include <boot/model/unet2d.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace boot::inline v0 {

/// What a diffusers folder does not say, or may be told to say otherwise.
struct diffusers_options {
  std::string component = "unet";      ///< the sub-folder of the model; where there is none, the folder itself
  std::int64_t height = 0, width = 0;  ///< of the images, both or neither; 0: config.json's sample_size
  double time_scale = 1000;            ///< unet2d_options::time_scale: 1 for schedules whose time is the step index
  bool last_class_is_null = false;     ///< the last of num_class_embeds classes was trained as the null class
  /// The file; a variant's name is like "diffusion_pytorch_model.fp16.safetensors".
  std::string weights = "diffusion_pytorch_model.safetensors";
};

namespace detail {

/// A config.json: every key is asked for once, and what nobody asked for is an error.
class diffusers_config {
 public:
  diffusers_config(const std::string& text, std::string path)
      : path_(std::move(path)), json_(is_flat(text) ? nlohmann::json::parse(text, nullptr, false) : nlohmann::json()) {
    require(json_.is_object(), "boot: '{}' is no JSON object; give the folder of a diffusers model", path_);
    asked_.reserve(json_.size());
  }
  /// The value of a key, null when it is not there.
  [[nodiscard]] const nlohmann::json& find(const std::string& key) {
    asked_.push_back(key);
    static const nlohmann::json none;
    const auto it = json_.find(key);
    return it == json_.end() ? none : *it;
  }
  [[noreturn]] void refuse(const std::string& key, const std::string& needed) const {
    const auto it = json_.find(key);
    std::string value =
        it == json_.end() ? "missing" : it->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (value.size() > 120) value = value.substr(0, 120) + "...";
    fail("boot: '{}': key '{}' is {}; {}", path_, key, value, needed);
  }
  /// A positive integer, `missing` where the key is not there, `null` where it is null.
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t missing, std::int64_t null) {
    if (!json_.contains(key)) return asked_.push_back(key), missing;
    const nlohmann::json& value = find(key);
    if (value.is_null()) return null;
    if (!is_extent(value))
      refuse(key, null == 0 ? "supported are null and positive integers" : "supported are positive integers");
    return value.get<std::int64_t>();
  }
  [[nodiscard]] std::int64_t integer(const std::string& key, std::int64_t missing) {
    const std::int64_t value = integer(key, missing, -1);
    if (value < 0) refuse(key, "supported are positive integers");
    return value;
  }
  [[nodiscard]] double number(const std::string& key, double missing) {
    if (!json_.contains(key)) return asked_.push_back(key), missing;
    const nlohmann::json& value = find(key);
    if (!value.is_number()) refuse(key, "supported are numbers");
    return value.get<double>();
  }
  [[nodiscard]] bool flag(const std::string& key, bool missing) {
    if (!json_.contains(key)) return asked_.push_back(key), missing;
    const nlohmann::json& value = find(key);
    if (!value.is_boolean()) refuse(key, "supported are true and false");
    return value.get<bool>();
  }
  /// A positive integer of a sensible size.
  [[nodiscard]] static bool is_extent(const nlohmann::json& value) {
    if (!value.is_number_integer()) return false;
    const auto n = value.get<std::int64_t>();
    return n >= 1 && n <= (1 << 24);
  }
  /// The index of the key's text among `known`; "null" in there stands for null.
  [[nodiscard]] std::size_t choice(const std::string& key, std::string_view missing,
                                   const std::vector<std::string_view>& known, const std::string& why = {}) {
    const bool there = json_.contains(key);
    const nlohmann::json& value = find(key);
    const std::string text = !there              ? std::string(missing)
                             : value.is_null()   ? "null"
                             : value.is_string() ? value.get<std::string>()
                                                 : "";
    for (std::size_t i = 0; i < known.size(); ++i)
      if (text == known[i] && (text != "null" || !value.is_string())) return i;
    refuse(key, supported(known) + why);
  }
  /// Throws boot::error for keys that nobody asked for; those that begin with '_' are diffusers' own notes.
  void done() const {
    for (auto it = json_.begin(); it != json_.end(); ++it) {
      if (it.key().starts_with('_') || std::find(asked_.begin(), asked_.end(), it.key()) != asked_.end()) continue;
      auto known = asked_;
      std::sort(known.begin(), known.end());
      std::string names;
      for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
      refuse(it.key(), "this key is not known, so its model cannot be built; supported keys are " + names);
    }
  }
  [[nodiscard]] static std::string supported(const std::vector<std::string_view>& known) {
    std::string text = "supported are ";
    for (std::size_t i = 0; i < known.size(); ++i) {
      const bool null = known[i] == "null";
      text += (i == 0 ? "" : ", ") + (null ? "null" : "\"" + std::string(known[i]) + "\"");
    }
    return text;
  }

 private:
  /// Messages show values by a function that recurses: a file nested to break it is no config.
  [[nodiscard]] static bool is_flat(const std::string& text) {
    int depth = 0;
    for (const char c : text) {
      if (c == '[' || c == '{') ++depth;
      if (c == ']' || c == '}') --depth;
      if (depth > 64) return false;
    }
    return true;
  }

  std::string path_;
  nlohmann::json json_;
  std::vector<std::string> asked_;
};

[[nodiscard]] inline std::vector<unet2d_level> diffusers_levels(diffusers_config& config, const std::string& key,
                                                                std::vector<unet2d_level> missing,
                                                                const std::vector<std::string_view>& names) {
  const nlohmann::json& list = config.find(key);
  if (list.is_null()) return missing;
  const std::string needed = "supported is a list of " + diffusers_config::supported(names).substr(14);
  if (!list.is_array()) config.refuse(key, needed);
  std::vector<unet2d_level> levels;
  for (const auto& item : list) {
    std::string name = item.is_string() ? item.get<std::string>() : "";
    if (name.starts_with("UNetRes")) name = name.substr(7);  // diffusers' first name of the same block
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) config.refuse(key, needed);
    levels.push_back(static_cast<unet2d_level>(it - names.begin()));
  }
  return levels;
}

/// The folder that holds the model: the component's sub-folder if there is one, else the folder itself.
[[nodiscard]] inline std::string diffusers_folder(const std::string& folder, const std::string& component) {
  const std::string inner = folder + "/" + component;
  return !component.empty() && kind_of(inner + "/config.json") != path_kind::missing ? inner : folder;
}

/// The tensor of a parameter under its name of today or an older one of diffusers.
[[nodiscard]] inline const safetensors_tensor* find_diffusers(const safetensors_file& file, const std::string& name) {
  if (const auto* t = file.find(name)) return t;
  static constexpr std::pair<std::string_view, std::string_view> older[] = {
      {".to_q.", ".query."},         {".to_k.", ".key."},      {".to_v.", ".value."},
      {".to_out.0.", ".proj_attn."}, {".conv.", ".Conv2d_0."},
  };
  for (const auto& [now, before] : older)
    if (const std::size_t at = name.rfind(now); at != std::string::npos)
      if (const auto* t = file.find(name.substr(0, at) + std::string(before) + name.substr(at + now.size()))) return t;
  return nullptr;
}
/// Old downsamplers were saved twice, under both names of one convolution.
[[nodiscard]] inline bool is_diffusers_twin(const safetensors_file& file, const std::string& name) {
  static constexpr std::string_view before = ".Conv2d_0.";
  const std::size_t at = name.rfind(before);
  return at != std::string::npos &&
         file.find(name.substr(0, at) + ".conv." + name.substr(at + before.size())) != nullptr;
}
/// Whether a tensor of extents `found` holds a matrix of extents `needed`: old files have 1 x 1 convolutions there.
[[nodiscard]] inline bool is_squeezed(const std::vector<std::int64_t>& found, const std::vector<std::int64_t>& needed) {
  return needed.size() == 2 && found.size() > 2 && std::equal(needed.begin(), needed.end(), found.begin()) &&
         std::all_of(found.begin() + 2, found.end(), [](std::int64_t n) { return n == 1; });
}

template <ComputeScalar T>
[[nodiscard]] std::vector<T> read_as(const safetensors_file& file, const safetensors_tensor& t) {
  if constexpr (std::same_as<T, double>) {
    if (t.dtype == file_dtype::f64) return file.read<double>(t.name);
  }
  const std::vector<float> values = file.read_floats(t.name);
  return {values.begin(), values.end()};
}

}  // namespace detail

/// Options of the unet2d that a config.json of diffusers' UNet2DModel describes; `path` is for messages. Keys that are
/// missing have diffusers' defaults. Throws boot::error naming key, value and what is supported for keys that are not
/// known and values that are not supported: skip blocks, learned times, class embeddings of type "identity", dropout,
/// activations other than SiLU.
[[nodiscard]] inline unet2d_options parse_unet2d_config(const std::string& text, const std::string& path,
                                                        const diffusers_options& options = {}) {
  detail::diffusers_config config(text, path);
  unet2d_options o;
  static_cast<void>(config.choice("_class_name", "UNet2DModel", {"UNet2DModel"}));

  const nlohmann::json& size = config.find("sample_size");
  require((options.height > 0) == (options.width > 0) && options.height >= 0 && options.width >= 0,
          "boot: diffusers_options with height {} and width {}; give both, or 0 for both to take the config's",
          options.height, options.width);
  const auto extent = [](const nlohmann::json& n) { return detail::diffusers_config::is_extent(n); };
  if (options.height > 0) {
    o.height = options.height;
    o.width = options.width;
  } else if (extent(size)) {
    o.height = o.width = size.get<std::int64_t>();
  } else if (size.is_array() && size.size() == 2 && extent(size[0]) && extent(size[1])) {
    o.height = size[0].get<std::int64_t>();
    o.width = size[1].get<std::int64_t>();
  } else {
    config.refuse(
        "sample_size",
        "supported are a positive integer and [height, width]; otherwise set diffusers_options::height and width");
  }
  o.in_channels = config.integer("in_channels", 3);
  o.out_channels = config.integer("out_channels", 3);
  o.down = detail::diffusers_levels(config, "down_block_types", o.down,
                                    {"DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"});
  o.up =
      detail::diffusers_levels(config, "up_block_types", o.up, {"UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"});
  if (const nlohmann::json& channels = config.find("block_out_channels"); !channels.is_null()) {
    const bool fits = channels.is_array() && !channels.empty() && std::all_of(channels.begin(), channels.end(), extent);
    if (!fits) config.refuse("block_out_channels", "supported is a list of positive integers");
    o.block_channels = channels.get<std::vector<std::int64_t>>();
  }
  o.layers_per_block = config.integer("layers_per_block", 2);
  o.mid_block = config.choice("mid_block_type", "UNetMidBlock2D", {"UNetMidBlock2D", "null"}) == 0;
  o.add_attention = config.flag("add_attention", true);
  o.mid_block_scale_factor = config.number("mid_block_scale_factor", 1);
  o.attention_head_dim = config.integer("attention_head_dim", 8, 0);
  o.norm_num_groups = config.integer("norm_num_groups", 32);
  o.attn_norm_num_groups = config.integer("attn_norm_num_groups", 0, 0);
  o.norm_eps = config.number("norm_eps", 1e-5);
  o.time_scale_shift = config.choice("resnet_time_scale_shift", "default", {"default", "scale_shift"}) == 1;
  const double padding = config.number("downsample_padding", 1);
  if (padding != 0 && padding != 1) config.refuse("downsample_padding", "supported are 0 and 1");
  o.downsample_padding = padding == 1;
  using resampling = unet2d_resampling;
  o.downsample =
      config.choice("downsample_type", "conv", {"conv", "resnet"}) == 0 ? resampling::convolution : resampling::resnet;
  o.upsample =
      config.choice("upsample_type", "conv", {"conv", "resnet"}) == 0 ? resampling::convolution : resampling::resnet;
  o.center_input_sample = config.flag("center_input_sample", false);
  o.time = config.choice("time_embedding_type", "positional", {"positional", "fourier"},
                         ": a table of learned times has no place between its rows") == 0
               ? unet2d_time::positional
               : unet2d_time::fourier;
  o.flip_sin_to_cos = config.flag("flip_sin_to_cos", true);
  o.freq_shift = config.number("freq_shift", 0);
  o.time_embedding_dim = config.integer("time_embedding_dim", 0, 0);
  o.time_scale = options.time_scale;
  o.target_time = config.choice("class_embed_type", "null", {"null", "timestep"}) == 1;
  const std::int64_t rows = config.integer("num_class_embeds", 0, 0);
  if (!o.target_time) {  // diffusers has the one or the other
    o.null_class = rows > 0 && options.last_class_is_null;
    o.classes = o.null_class ? rows - 1 : rows;
    if (o.null_class && o.classes == 0)
      config.refuse("num_class_embeds", "diffusers_options::last_class_is_null needs at least two");
  }
  static_cast<void>(config.choice("act_fn", "silu", {"silu", "swish"}));
  if (config.number("dropout", 0) != 0)
    config.refuse("dropout",
                  "supported is 0; dropout acts in training only, so set it to 0 to use the weights as they are");
  static_cast<void>(config.integer("num_train_timesteps", 0, 0));  // of learned times
  config.done();
  return o;
}

/// The same for the config.json in a model's folder, or in its sub-folder options.component.
[[nodiscard]] inline unet2d_options read_unet2d_config(const std::string& folder,
                                                       const diffusers_options& options = {}) {
  const std::string path = detail::diffusers_folder(folder, options.component) + "/config.json";
  return parse_unet2d_config(read_file(path), path, options);
}

/// Reads parameters that diffusers has saved, in T whatever the file's float type. Strict as load_parameters(), but
/// accepts diffusers' older names (query, key, value, proj_attn of attention, Conv2d_0 of resampling) and attention
/// weights stored as 1 x 1 convolutions. On an error the parameters are as they were.
template <Device D, ComputeScalar T>
void load_diffusers_parameters(const D& dev, const safetensors_file& file, parameter_arena<T, D>& arena) {
  const parameter_layout& layout = arena.layout();
  detail::parameter_misfits misfits;
  std::vector<std::string> used;
  std::vector<const safetensors_tensor*> found;
  for (const auto& e : layout.entries()) {
    const safetensors_tensor* t = detail::find_diffusers(file, e.name);
    found.push_back(t);
    if (t == nullptr) {
      misfits.missing(e.name);
      continue;
    }
    used.push_back(t->name);
    const auto needed = detail::file_extents(e.extents, e.order);
    misfits.check(*t, t->name, needed, t->shape == needed || detail::is_squeezed(t->shape, needed));
  }
  std::sort(used.begin(), used.end());
  for (const auto& t : file.tensors())
    if (!std::binary_search(used.begin(), used.end(), t.name) && !detail::is_diffusers_twin(file, t.name))
      misfits.unexpected(t.name);
  misfits.require_none(file.path(), layout, "Use the config.json that the weights came with");
  std::vector<T> staged(static_cast<std::size_t>(layout.size()), T{0});
  for (std::size_t k = 0; k < found.size(); ++k) {
    const auto& e = layout.entries()[k];
    const std::vector<T> values = detail::read_as<T>(file, *found[k]);
    T* to = staged.data() + e.offset;
    if (e.order == file_order::as_is) {
      std::copy(values.begin(), values.end(), to);
    } else {
      detail::copy_ohwi(e.extents, values.data(), to, true);
    }
  }
  if (!staged.empty()) copy_from_host(dev, staged.data(), arena.values().data(), staged.size() * sizeof(T));
}

namespace detail {
/// The weights of a diffusers model; says how to save those again that cannot be read.
[[nodiscard]] inline safetensors_file open_diffusers_weights(const std::string& folder, const std::string& component,
                                                             const std::string& weights) {
  const std::string home = diffusers_folder(folder, component), path = home + "/" + weights;
  if (kind_of(path) == path_kind::missing) {
    const auto is_there = [&](const char* name) { return kind_of(home + "/" + name) != path_kind::missing; };
    require(
        !is_there("diffusion_pytorch_model.safetensors.index.json"),
        "boot: the weights in '{}' are cut into several files, which is not supported; save them again with diffusers' "
        "save_pretrained(folder, max_shard_size=\"100GB\")",
        home);
    require(!is_there("diffusion_pytorch_model.bin"),
            "boot: '{}' holds weights as a pickle (diffusion_pytorch_model.bin), which is never read; save them again "
            "with diffusers' save_pretrained(folder, safe_serialization=True)",
            home);
  }
  return safetensors_file::open(path);
}
}  // namespace detail

/// A diffusers UNet2DModel: config.json and weights of a folder, or of its sub-folder options.component. `p` says what
/// it predicts, which is written in the scheduler's config ("prediction_type"), not in the model's. Computes in T:
/// `read_unet2d<double>(dev, folder, p)`.
template <ComputeScalar T = float, Device D>
[[nodiscard]] network_model<unet2d, D, T> read_unet2d(const D& dev, const std::string& folder, prediction p,
                                                      const diffusers_options& options = {}) {
  network_model<unet2d, D, T> model(dev, unet2d(read_unet2d_config(folder, options)), p);
  load_diffusers_parameters(dev, detail::open_diffusers_weights(folder, options.component, options.weights),
                            model.parameters());
  freeze_constants(model);
  return model;
}

}  // namespace boot::inline v0
