// SPDX-License-Identifier: MIT
// diffusers folders: config.json key by key, weights under new and old names, in every float type, and what is refused.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/interop/diffusers.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using boot_test::message_of;
using Catch::Matchers::ContainsSubstring;
using enum boot::unet2d_level;
const boot::cpu dev;

// google/ddpm-cifar10-32's config.json, but narrower.
const char* const ddpm = R"({"_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu",
  "attention_head_dim": null, "block_out_channels": [4, 8], "center_input_sample": false,
  "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "downsample_padding": 0, "flip_sin_to_cos": false,
  "freq_shift": 1, "in_channels": 3, "layers_per_block": 1, "mid_block_scale_factor": 1, "norm_eps": 1e-06,
  "norm_num_groups": 2, "out_channels": 3, "sample_size": 8, "time_embedding_type": "positional",
  "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]})";

// The same with keys added; of a key given twice the parser takes the last. ' stands for ".
boot::unet2d_options with(std::string more, const boot::diffusers_options& o = {}) {
  std::replace(more.begin(), more.end(), '\'', '"');
  std::string text = ddpm;
  if (!more.empty()) text.replace(text.size() - 1, 1, ", " + more + "}");
  return boot::parse_unet2d_config(text, "config.json", o);
}
std::string refused(const std::string& more, const boot::diffusers_options& o = {}) {
  return message_of([&] { static_cast<void>(with(more, o)); });
}

// A model folder on disk, its tensors as diffusers would have written them.
struct folder {
  boot_test::temporary_folder place;
  boot::network_model<boot::unet2d, boot::cpu, float> model{dev, boot::unet2d(with("")), {}, 7};
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors;  // in the layout's order
  std::vector<std::vector<float>> values;

  folder() {
    write("config.json", ddpm);
    for (const auto& e : model.parameters().layout().entries()) {
      const auto& s = e.extents;
      const float* from = model.parameters().values().data() + e.offset;
      std::vector<float> v(from, from + s.size());
      std::vector<std::int64_t> extents;
      for (int i = 0; i < s.rank(); ++i) extents.push_back(s[i]);
      if (s.rank() == 4) {
        extents = {s[0], s[3], s[1], s[2]};
        for (std::int64_t i = 0; i < s.size(); ++i) {
          const std::int64_t p = i % (s[1] * s[2]), c = i / (s[1] * s[2]) % s[3], o = i / (s[1] * s[2]) / s[3];
          v[static_cast<std::size_t>(i)] = from[(o * s[1] * s[2] + p) * s[3] + c];
        }
      }
      tensors.emplace_back(e.name, extents);
      values.push_back(std::move(v));
    }
  }
  void write(const std::string& name, const std::string& text) const {
    boot::atomic_write_file(place.path(name), std::string_view(text));
  }
  void save(boot::file_dtype dtype = boot::file_dtype::f32) const {
    std::vector<boot::safetensors_entry> entries;
    for (std::size_t i = 0; i < tensors.size(); ++i)
      entries.push_back(boot::entry_of_floats(tensors[i].first, tensors[i].second, values[i], dtype));
    boot::write_safetensors(place.path("diffusion_pytorch_model.safetensors"), entries, {{"format", "pt"}});
  }
  [[nodiscard]] boot::network_model<boot::unet2d, boot::cpu, float> read() const {
    return boot::read_unet2d(dev, place.root(), {});
  }
  [[nodiscard]] bool reads_the_same() const {
    return boot::to_host(dev, read().parameters().values()) == boot::to_host(dev, model.parameters().values());
  }
  [[nodiscard]] std::string message() const {
    return message_of([&] { static_cast<void>(read()); });
  }
  // Replaces a part of every name that has it.
  int rename(const std::string& now, const std::string& before) {
    int renamed = 0;
    for (auto& [name, extents] : tensors)
      if (const auto at = name.find(now); at != std::string::npos) {
        name.replace(at, now.size(), before);
        ++renamed;
      }
    return renamed;
  }
};

}  // namespace

TEST_CASE("config.json of a published model, and diffusers' defaults for what is missing", "[interop][diffusers]") {
  const boot::unet2d_options o = with("");
  CHECK((o.height == 8 && o.width == 8 && o.in_channels == 3 && o.out_channels == 3 && o.layers_per_block == 1));
  CHECK(o.block_channels == std::vector<std::int64_t>{4, 8});
  CHECK(o.down == std::vector{plain, attention});
  CHECK(o.up == std::vector{attention, plain});
  CHECK((o.attention_head_dim == 0 && !o.downsample_padding && !o.flip_sin_to_cos && o.freq_shift == 1));
  CHECK((o.norm_eps == 1e-6 && o.norm_num_groups == 2 && o.time_scale == 1000 && o.classes == 0 && !o.target_time));

  const boot::unet2d_options d = boot::parse_unet2d_config(R"({"sample_size": [16, 24]})", "config.json");
  CHECK((d.height == 16 && d.width == 24 && d.layers_per_block == 2 && d.attention_head_dim == 8));
  CHECK(d.block_channels == std::vector<std::int64_t>{224, 448, 672, 896});
  CHECK(d.down == std::vector{plain, attention, attention, attention});
  CHECK((d.downsample_padding && d.flip_sin_to_cos && d.freq_shift == 0 && d.norm_eps == 1e-5 && d.mid_block));
  CHECK((d.norm_num_groups == 32 && d.attn_norm_num_groups == 0 && d.add_attention && !d.time_scale_shift));
}

TEST_CASE("every value of config.json that is supported", "[interop][diffusers]") {
  CHECK(with("'down_block_types': ['UNetResDownBlock2D', 'ResnetDownsampleBlock2D']").down ==
        std::vector{plain, resnet});
  CHECK(with("'up_block_types': ['ResnetUpsampleBlock2D', 'UNetResAttnUpBlock2D']").up ==
        std::vector{resnet, attention});
  CHECK_FALSE(with("'mid_block_type': null").mid_block);
  CHECK_FALSE(with("'add_attention': false").add_attention);
  CHECK(with("'mid_block_scale_factor': 1.5").mid_block_scale_factor == 1.5);
  CHECK(with("'attn_norm_num_groups': 4").attn_norm_num_groups == 4);
  CHECK(with("'resnet_time_scale_shift': 'scale_shift'").time_scale_shift);
  CHECK(with("'downsample_type': 'resnet'").downsample == boot::unet2d_resampling::resnet);
  CHECK(with("'upsample_type': 'resnet'").upsample == boot::unet2d_resampling::resnet);
  CHECK(with("'center_input_sample': true").center_input_sample);
  CHECK(with("'time_embedding_type': 'fourier'").time == boot::unet2d_time::fourier);
  CHECK(with("'time_embedding_dim': 20").time_embedding_dim == 20);
  CHECK(with("'act_fn': 'swish', 'dropout': 0.0, 'num_train_timesteps': 1000").height == 8);
  CHECK(with("'class_embed_type': 'timestep'").target_time);
  const auto classes = with("'num_class_embeds': 10, 'class_embed_type': null");
  CHECK((classes.classes == 10 && !classes.null_class));
  const auto guided = with("'num_class_embeds': 10", {.last_class_is_null = true});
  CHECK((guided.classes == 9 && guided.null_class));
  const auto sized = with("'sample_size': null", {.height = 16, .width = 32, .time_scale = 1});
  CHECK((sized.height == 16 && sized.width == 32 && sized.time_scale == 1));
}

TEST_CASE("keys and values that are not supported are named, with what is", "[interop][diffusers]") {
  const auto one = [](const std::string& changes, const std::string& key, const std::string& needed) {
    const std::string message = refused(changes);
    INFO(message);
    CHECK_THAT(message, ContainsSubstring("'config.json': key '" + key + "' is"));
    CHECK_THAT(message, ContainsSubstring(needed));
  };
  one("'cross_attention_dim': 768", "cross_attention_dim", "supported keys are _class_name, act_fn, add_attention");
  one("'_class_name': 'UNet2DConditionModel'", "_class_name", "supported are \"UNet2DModel\"");
  one("'down_block_types': ['DownBlock2D', 'SkipDownBlock2D']", "down_block_types", "\"ResnetDownsampleBlock2D\"");
  one("'up_block_types': [1, 2]", "up_block_types", "\"UpBlock2D\"");
  one("'up_block_types': 'UpBlock2D'", "up_block_types", "a list of");
  one("'mid_block_type': 'UNetMidBlock2DCrossAttn'", "mid_block_type", "\"UNetMidBlock2D\", null");
  one("'time_embedding_type': 'learned'", "time_embedding_type", "\"positional\", \"fourier\"");
  one("'class_embed_type': 'identity'", "class_embed_type", "null, \"timestep\"");
  one("'class_embed_type': 'null'", "class_embed_type", "is \"null\"");
  one("'dropout': 0.1", "dropout", "set it to 0");
  one("'act_fn': 'gelu'", "act_fn", "\"silu\"");
  one("'resnet_time_scale_shift': 'ada_group'", "resnet_time_scale_shift", "\"scale_shift\"");
  one("'downsample_padding': 2", "downsample_padding", "0 and 1");
  one("'norm_num_groups': null", "norm_num_groups", "positive integers");
  one("'layers_per_block': 1.5", "layers_per_block", "positive integers");
  one("'in_channels': -3", "in_channels", "positive integers");
  one("'norm_eps': 'small'", "norm_eps", "numbers");
  one("'flip_sin_to_cos': 1", "flip_sin_to_cos", "true and false");
  one("'block_out_channels': [4, '8']", "block_out_channels", "a list of positive integers");
  one("'sample_size': null", "sample_size", "diffusers_options::height");
  one("'sample_size': [8, 8, 8]", "sample_size", "[height, width]");
  CHECK_THAT(refused("", {.height = 8}), ContainsSubstring("give both"));
  CHECK_THAT(refused("'num_class_embeds': 1", {.last_class_is_null = true}), ContainsSubstring("at least two"));
  const std::string deep = "{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{\"in_channels\": "), deep})
    CHECK_THAT(message_of([&] { static_cast<void>(boot::parse_unet2d_config(text, "here")); }),
               ContainsSubstring("'here' is no JSON object"));
}

TEST_CASE("weights are read in every float type, and as double", "[interop][diffusers]") {
  folder f;
  f.save();
  REQUIRE(f.reads_the_same());
  f.save(boot::file_dtype::bf16);
  CHECK_FALSE(f.reads_the_same());  // rounded
  const auto exact = boot::read_unet2d<double>(dev, f.place.root(), {boot::prediction_kind::epsilon});
  const auto rounded = f.read();
  CHECK(exact.prediction().kind == boot::prediction_kind::epsilon);
  for (std::int64_t i = 0; i < exact.parameters().values().size(); ++i)
    REQUIRE(exact.parameters().values()[i] == static_cast<double>(rounded.parameters().values()[i]));
  // Doubles keep all their bits.
  const std::vector<double> third{1.0 / 3, -2.0 / 3};
  boot::write_safetensors(f.place.path("d"), std::vector{boot::entry_of<double>("d", {2}, third)});
  const auto file = boot::safetensors_file::open(f.place.path("d"));
  CHECK(boot::detail::read_as<double>(file, file.at("d")) == third);
}

TEST_CASE("a model in a pipeline's sub-folder, and the names of diffusers' first versions", "[interop][diffusers]") {
  folder f;
  f.save();
  CHECK(boot::read_unet2d_config(f.place.root()).height == 8);  // no sub-folder: the folder itself
  std::filesystem::create_directory(f.place.path("unet"));
  f.write("unet/config.json", R"({"sample_size": 16})");
  CHECK(boot::read_unet2d_config(f.place.root()).height == 16);
  CHECK(boot::read_unet2d_config(f.place.root(), {.component = "elsewhere"}).height == 8);
  std::filesystem::remove_all(f.place.path("unet"));
  for (const auto& [now, before] :
       {std::pair{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}})
    CHECK(f.rename(now, before) == 8);
  for (auto& [name, extents] : f.tensors)  // 1 x 1 convolutions, flat or not
    if (name.find("mid_block.attentions") == 0 && extents.size() == 2 && name.find("norm") == std::string::npos) {
      extents.push_back(1);
      if (name.find("key") != std::string::npos) extents.push_back(1);
    }
  f.save();
  CHECK(f.reads_the_same());
  for (std::size_t i = 0, n = f.tensors.size(); i < n; ++i)  // both names of one convolution
    if (const auto at = f.tensors[i].first.find("downsamplers.0.conv."); at != std::string::npos) {
      auto twin = f.tensors[i];
      twin.first.replace(at, 20, "downsamplers.0.Conv2d_0.");
      f.tensors.push_back(twin);
      f.values.push_back(std::vector<float>(f.values[i].size()));
    }
  f.save();
  CHECK(f.reads_the_same());
}

TEST_CASE("weights that do not fit are told", "[interop][diffusers]") {
  folder f;
  CHECK_THAT(f.message(), ContainsSubstring("diffusion_pytorch_model.safetensors"));
  f.write("diffusion_pytorch_model.bin", "pickle");
  CHECK_THAT(f.message(), ContainsSubstring("safe_serialization=True"));
  f.write("diffusion_pytorch_model.safetensors.index.json", "{}");
  CHECK_THAT(f.message(), ContainsSubstring("max_shard_size"));
  f.save();
  CHECK(f.reads_the_same());
  f.rename("conv_norm_out.bias", "conv_norm_in.bias");
  f.tensors[0].second = {4, 27};  // conv_in.weight
  f.save();
  CHECK_THAT(f.message(), ContainsSubstring("1 missing: 'conv_norm_out.bias'"));
  CHECK_THAT(f.message(), ContainsSubstring("1 unexpected: 'conv_norm_in.bias'"));
  CHECK_THAT(f.message(), ContainsSubstring("'conv_in.weight' is [4, 27] in the file, [4, 3, 3, 3] in the network"));
  f.write("config.json", "{");
  CHECK_THAT(f.message(), ContainsSubstring("no JSON object"));
  CHECK_THAT(message_of([] { static_cast<void>(boot::read_unet2d(dev, "/nowhere", {})); }),
             ContainsSubstring("/nowhere/config.json"));
}
