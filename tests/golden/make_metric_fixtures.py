# SPDX-License-Identifier: MIT
"""Writes metric_fixtures.hpp: values of the metrics from NumPy and SciPy, in float64, by other routes than boot's.

    python tests/golden/make_metric_fixtures.py        # needs numpy and scipy; writes beside itself

Inputs are not stored: both sides make them with golden_samples() from a 64-bit linear congruential generator, exactly.
"""
import pathlib

import numpy as np
from scipy import linalg, optimize, spatial, stats


def golden_samples(seed, n, d, rank, scale, shift):
    """[n, d] float32: `rank` hidden columns of sums of three uniforms, mixed by a fixed matrix, scaled and shifted."""
    state = seed
    hidden = np.empty((n, rank))
    for i in range(n):
        for j in range(rank):
            total = 0
            for _ in range(3):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                total += state >> 48
            hidden[i, j] = total / 65536 - 1.5
    x = np.empty((n, d))
    for k in range(d):
        # Small integers: every product and sum is exact, in any order.
        mix = [(3 * k + 5 * j + k * j) % 7 - 3 + 4 * (k == j) for j in range(rank)]
        x[:, k] = scale * (hidden @ np.array(mix, float)) + shift * ((k % 3) - 1)
    return x.astype(np.float32).astype(np.float64)


SETS = dict(  # seed, n, d, rank, scale, shift; scale and shift are powers of two
    a=(1, 200, 6, 6, 0.25, 0.5), b=(2, 150, 6, 6, 0.5, 0.25), c=(3, 200, 6, 6, 0.25, 0.0),
    wide_a=(4, 9, 40, 9, 0.25, 0.5), wide_b=(5, 13, 40, 5, 0.25, 0.0), flat=(6, 60, 40, 3, 0.5, 0.25))
DATA = {k: golden_samples(*v) for k, v in SETS.items()}


def frechet_sqrtm(x, y):
    c, e = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(c @ e)
    assert np.abs(root.imag).max() < 1e-9
    return ((x.mean(0) - y.mean(0))**2).sum() + np.trace(c) + np.trace(e) - 2 * np.trace(root.real)


def frechet_svd(x, y):
    """tr (C_x^1/2 C_y C_x^1/2)^1/2 is the nuclear norm of X Y^T of the centred samples: good for any rank."""
    a, b = x - x.mean(0), y - y.mean(0)
    nuclear = linalg.svdvals(a @ b.T).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    return ((x.mean(0) - y.mean(0))**2).sum() + x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum() - 2 * nuclear


def transport(p, q):
    """Squared Wasserstein-2 of two lists of numbers: an assignment problem, after repeating both to one length."""
    n = np.lcm(len(p), len(q))
    p, q = np.repeat(p, n // len(p)), np.repeat(q, n // len(q))
    cost = (p[:, None] - q[None, :])**2
    return cost[optimize.linear_sum_assignment(cost)].mean()


def sliced(x, y, lines):
    lines = lines / linalg.norm(lines, axis=1, keepdims=True)
    return np.sqrt(np.mean([transport(x @ w, y @ w) for w in lines]))


def neighbour_radii(x, k):
    return spatial.cKDTree(x).query(x, k + 1)[0][:, k]  # the sets have no duplicates, so entry 0 is the sample itself


def precision_recall(samples, reference, k):
    rs, rr, d = neighbour_radii(samples, k), neighbour_radii(reference, k), spatial.distance.cdist(samples, reference)
    for margin in (d / rr[None, :], d / rs[:, None]):  # no pair so close to a surface that float could decide otherwise
        assert np.abs(margin - 1).min() > 1e-6, np.abs(margin - 1).min()
    inside = d <= rr[None, :]
    return inside.any(1).mean(), (d <= rs[:, None]).any(0).mean(), inside.sum(1).mean() / k, inside.any(0).mean()


def mmd(x, y, sigmas):
    def kernel(a, b):
        d = spatial.distance.cdist(a, b, "sqeuclidean")
        return np.mean([np.exp(-d / (2 * s * s)) for s in sigmas], axis=0)
    n, m, kx, ky = len(x), len(y), kernel(x, x), kernel(y, y)
    within = (kx.sum() - np.trace(kx)) / (n * (n - 1)) + (ky.sum() - np.trace(ky)) / (m * (m - 1))
    return within - 2 * kernel(x, y).mean()


def main():
    a, b, c, wide_a, wide_b, flat = DATA.values()
    lines = golden_samples(7, 5, 6, 6, 0.25, 0.5)
    values, lists = {}, {}
    lists["mean_a"] = a.mean(0)
    lists["covariance_a"] = np.cov(a.T).ravel()
    values["frechet_a_b"] = frechet_sqrtm(a, b)
    values["frechet_a_c"] = frechet_sqrtm(a, c)
    assert abs(frechet_svd(a, b) / values["frechet_a_b"] - 1) < 1e-12
    values["frechet_wide_a_wide_b"] = frechet_svd(wide_a, wide_b)
    values["frechet_wide_a_flat"] = frechet_svd(wide_a, flat)
    values["sliced_a_c"] = sliced(a, c, lines)
    values["sliced_a_b"] = sliced(a, b, lines)
    first = np.sort(a[:, 0]) - np.sort(c[:, 0])
    assert abs(transport(a[:, 0], c[:, 0]) - (first**2).mean()) < 1e-12
    values["mmd_sigma_1"] = mmd(a, b, [1.0])
    values["mmd_sigmas"] = mmd(a, c, [0.5, 2.0, 8.0])
    values["median_bandwidth_a_b"] = np.median(spatial.distance.pdist(np.vstack([a, b])))
    values["mmd_median_a_b"] = mmd(a, b, [values["median_bandwidth_a_b"]])
    for k in (1, 3, 5):
        lists[f"precision_recall_a_b_{k}"] = precision_recall(a, b, k)
    lists["precision_recall_wide"] = precision_recall(wide_a, flat, 2)
    e = a - c
    rms = np.sqrt((e**2).mean())
    reference = np.sqrt((c**2).mean())
    lists["endpoint_a_c"] = (rms / reference, rms, np.median(np.sqrt((e**2).mean(1))) / reference, reference)

    # A second opinion on what the same formulas share: one-dimensional transport against SciPy's, of order 1.
    p, q = np.sort(a[:, 0]), np.sort(c[:, 0])
    assert abs(stats.wasserstein_distance(p, q) - np.abs(p - q).mean()) < 1e-12

    out = ["// SPDX-License-Identifier: MIT",
           "/// Values of the metrics from NumPy and SciPy in float64. Made by make_metric_fixtures.py; do not edit.",
           "#pragma once", "", "#include <array>", "#include <cstdint>", "#include <vector>", "",
           "namespace golden {", "",
           "/// Arguments of golden::samples().",
           "struct set {", "  std::uint64_t seed;", "  int n, d, rank;", "  double scale, shift;", "};", ""]
    sets = dict(SETS, lines=(7, 5, 6, 6, 0.25, 0.5))
    for name, v in sets.items():
        out.append("inline constexpr set %s{%d, %d, %d, %d, %r, %r};" % ((name,) + v))
    out.append("""
/// [n, d], row by row: the same float32 values as golden_samples() of the script.
inline std::vector<float> samples(const set& s) {
  std::uint64_t state = s.seed;
  std::vector<float> x;
  std::vector<double> hidden(static_cast<std::size_t>(s.rank));
  for (int i = 0; i < s.n; ++i) {
    for (double& h : hidden) {
      std::uint64_t total = 0;
      for (int u = 0; u < 3; ++u) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        total += state >> 48;
      }
      h = static_cast<double>(total) / 65536 - 1.5;
    }
    for (int k = 0; k < s.d; ++k) {
      double sum = 0;
      for (int j = 0; j < s.rank; ++j)
        sum += hidden[static_cast<std::size_t>(j)] * ((3 * k + 5 * j + k * j) % 7 - 3 + (k == j ? 4 : 0));
      x.push_back(static_cast<float>(s.scale * sum + s.shift * (k % 3 - 1)));
    }
  }
  return x;
}
""")
    out.append("// clang-format off")
    for name, v in values.items():
        out.append(f"inline constexpr double {name} = {float(v)!r};")
    for name, v in lists.items():
        out.append(f"inline constexpr std::array<double, {len(v)}> {name}{{")
        out += [f"    {float(x)!r}," for x in v]
        out.append("};")
    out += ["// clang-format on", "", "}  // namespace golden", ""]
    pathlib.Path(__file__).with_name("metric_fixtures.hpp").write_text("\n".join(out))


main()
