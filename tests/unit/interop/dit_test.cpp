// SPDX-License-Identifier: MIT
// diffusers' DiTTransformer2DModel: config.json key by key, weights in several float types, and what is refused.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/interop/dit.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using boot_test::message_of;
using Catch::Matchers::ContainsSubstring;
const boot::cpu dev;

// facebook/DiT-XL-2-256's config.json, but smaller.
const char* const published = R"({"_class_name": "Transformer2DModel", "_diffusers_version": "0.12.0.dev0",
  "activation_fn": "gelu-approximate", "attention_bias": true, "attention_head_dim": 6, "cross_attention_dim": null,
  "dropout": 0.0, "in_channels": 4, "norm_elementwise_affine": false, "norm_num_groups": 32,
  "norm_type": "ada_norm_zero", "num_attention_heads": 2, "num_embeds_ada_norm": 5, "num_layers": 2,
  "num_vector_embeds": null, "only_cross_attention": false, "out_channels": 8, "patch_size": 2, "sample_size": 8,
  "upcast_attention": false, "use_linear_projection": false})";

// The same with keys added; of a key given twice the parser takes the last. ' stands for ".
boot::dit_options with(std::string more, const boot::diffusers_dit_options& o = {}) {
  std::replace(more.begin(), more.end(), '\'', '"');
  std::string text = published;
  if (!more.empty()) text.replace(text.size() - 1, 1, ", " + more + "}");
  return boot::parse_dit_config(text, "config.json", o);
}

// A model folder on disk, its tensors as diffusers would have written them.
struct folder {
  boot_test::temporary_folder place;
  boot::network_model<boot::dit, boot::cpu, float> model{dev, boot::dit(with("")), {}, 7};

  folder() { boot::atomic_write_file(place.path("config.json"), std::string_view(published)); }
  void save(const std::string& where = "", boot::file_dtype dtype = boot::file_dtype::f32,
            const std::string& without = "") const {
    std::vector<std::vector<float>> values;
    std::vector<boot::safetensors_entry> entries;
    values.reserve(model.parameters().layout().entries().size());
    for (const auto& e : model.parameters().layout().entries()) {
      if (e.name == without) continue;
      const auto& s = e.extents;
      const float* from = model.parameters().values().data() + e.offset;
      values.emplace_back(from, from + s.size());
      std::vector<std::int64_t> extents;
      for (int i = 0; i < s.rank(); ++i) extents.push_back(s[i]);
      if (e.name == "pos_embed.proj.weight") {
        extents = {s[0], s[3], s[1], s[2]};
        for (std::int64_t i = 0; i < s.size(); ++i) {
          const std::int64_t p = i % (s[1] * s[2]), c = i / (s[1] * s[2]) % s[3], o = i / (s[1] * s[2]) / s[3];
          values.back()[static_cast<std::size_t>(i)] = from[(o * s[1] * s[2] + p) * s[3] + c];
        }
      }
      entries.push_back(boot::entry_of_floats(e.name, extents, values.back(), dtype));
    }
    boot::write_safetensors(place.path(where + "diffusion_pytorch_model.safetensors"), entries, {{"format", "pt"}});
  }
  [[nodiscard]] bool reads_the_same() const {
    return boot::to_host(dev, boot::read_dit(dev, place.root(), {}).parameters().values()) ==
           boot::to_host(dev, model.parameters().values());
  }
  [[nodiscard]] std::string message() const {
    return message_of([&] { static_cast<void>(boot::read_dit(dev, place.root(), {})); });
  }
};

}  // namespace

TEST_CASE("config.json of a published DiT, and diffusers' defaults for what is missing", "[interop][dit]") {
  const boot::dit_options o = with("");
  CHECK((o.height == 8 && o.width == 8 && o.in_channels == 4 && o.out_channels == 8 && o.patch_size == 2));
  CHECK((o.heads == 2 && o.head_dim == 6 && o.layers == 2 && o.classes == 5 && o.attention_bias));
  CHECK((o.norm_eps == 1e-5 && o.time_scale == 1000 && o.drop_variance && !o.target_time && o.base_size == 4));

  const boot::dit_options d = boot::parse_dit_config("{}", "config.json");
  CHECK((d.height == 32 && d.width == 32 && d.in_channels == 4 && d.out_channels == 0 && d.patch_size == 2));
  CHECK((d.heads == 16 && d.head_dim == 72 && d.layers == 28 && d.classes == 1000 && d.base_size == 16));

  const auto other = with("'attention_bias': false, 'norm_eps': 1e-6, 'out_channels': null, 'upcast_attention': true",
                          {.height = 4, .width = 12, .time_scale = 1, .drop_variance = false});
  CHECK((!other.attention_bias && other.norm_eps == 1e-6 && other.out_channels == 0));
  CHECK((other.height == 4 && other.width == 12 && other.base_size == 4 && other.time_scale == 1));
  CHECK_FALSE(other.drop_variance);
}

TEST_CASE("keys and values of a DiT that are not supported are named, with what is", "[interop][dit]") {
  const auto one = [](const std::string& changes, const std::string& key, const std::string& needed) {
    const std::string message = message_of([&] { static_cast<void>(with(changes)); });
    INFO(message);
    CHECK_THAT(message, ContainsSubstring("'config.json': key '" + key + "' is"));
    CHECK_THAT(message, ContainsSubstring(needed));
  };
  one("'_class_name': 'PixArtTransformer2DModel'", "_class_name", "\"DiTTransformer2DModel\"");
  one("'_class_name': 'DiTTransformer2DModel'", "cross_attention_dim", "supported keys are");
  one("'norm_type': 'ada_norm_single'", "norm_type", "\"ada_norm_zero\"");
  one("'activation_fn': 'geglu'", "activation_fn", "\"gelu-approximate\"");
  one("'norm_elementwise_affine': true", "norm_elementwise_affine", "supported is false");
  one("'dropout': 0.1", "dropout", "set it to 0");
  one("'cross_attention_dim': 768", "cross_attention_dim", "supported is null");
  one("'double_self_attention': true", "double_self_attention", "supported is false");
  one("'attention_type': 'gated'", "attention_type", "\"default\"");
  one("'num_embeds_ada_norm': null", "num_embeds_ada_norm", "positive integers");
  one("'sample_size': 9", "sample_size", "'patch_size'");
  one("'caption_projection': 3", "caption_projection", "not known");
  CHECK_THAT(message_of([] { static_cast<void>(with("", {.height = 8})); }), ContainsSubstring("give both"));
  CHECK_THAT(message_of([] { static_cast<void>(boot::parse_dit_config("[]", "here")); }),
             ContainsSubstring("'here' is no JSON object"));
}

TEST_CASE("weights of a DiT are read in every float type, as double, and from a pipeline's sub-folder",
          "[interop][dit]") {
  folder f;
  f.save();
  REQUIRE(f.reads_the_same());
  f.save("", boot::file_dtype::bf16);
  CHECK_FALSE(f.reads_the_same());  // rounded
  const auto wide = boot::read_dit<double>(dev, f.place.root(), {boot::prediction_kind::epsilon});
  const auto narrow = boot::read_dit(dev, f.place.root(), {});
  CHECK(wide.prediction().kind == boot::prediction_kind::epsilon);
  for (std::int64_t i = 0; i < wide.parameters().values().size(); ++i)
    REQUIRE(wide.parameters().values()[i] == static_cast<double>(narrow.parameters().values()[i]));
  std::filesystem::create_directory(f.place.path("transformer"));
  boot::atomic_write_file(f.place.path("transformer/config.json"), std::string_view(published));
  f.save("transformer/");
  CHECK(f.reads_the_same());
}

TEST_CASE("weights of a DiT that do not fit are told", "[interop][dit]") {
  folder f;
  CHECK_THAT(f.message(), ContainsSubstring("diffusion_pytorch_model.safetensors"));
  boot::atomic_write_file(f.place.path("diffusion_pytorch_model.bin"), std::string_view("pickle"));
  CHECK_THAT(f.message(), ContainsSubstring("safe_serialization=True"));
  boot::atomic_write_file(f.place.path("diffusion_pytorch_model.safetensors.index.json"), std::string_view("{}"));
  CHECK_THAT(f.message(), ContainsSubstring("max_shard_size"));
  f.save("", boot::file_dtype::f32, "proj_out_1.bias");
  CHECK_THAT(f.message(), ContainsSubstring("1 missing: 'proj_out_1.bias'"));
  boot::atomic_write_file(
      f.place.path("config.json"),
      std::string_view(
          R"({"num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 3, "num_embeds_ada_norm": 5})"));
  CHECK_THAT(f.message(), ContainsSubstring("missing: 'transformer_blocks.2."));
  CHECK_THAT(f.message(), ContainsSubstring("'proj_out_2.bias' is [32] in the file, [16] in the network"));
}
