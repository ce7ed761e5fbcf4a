#include "isolation.h"

#include <cmath>
#include <cstdint>

#include "../flashmask.h"

namespace pfm::cpu {
bool CopyFinite(const float* panels, int rows, int dim, float* finite) {
  const int64_t count = static_cast<int64_t>(PaddedDim(dim)) * rows;
  bool replaced = false;
  for (int64_t i = 0; i < count; ++i) {
    const bool keeps = std::isfinite(panels[i]);
    finite[i] = keeps ? panels[i] : 0.0f;
    replaced |= !keeps;
  }
  return replaced;
}

void AddNonFinite(const float* from, int from_rows, float weight, int dim, float* to, int to_rows) {
  for (int panel = 0; panel < PaddedDim(dim) / kPanel; ++panel, from += from_rows * kPanel, to += to_rows * kPanel) {
    for (int i = 0; i < kPanel; ++i) {
      if (!std::isfinite(from[i])) to[i] += weight * from[i];
    }
  }
}

namespace {

// Calls visit(row, key) for the visible pairs of a tile.
template <class Visit>
void ForEachVisible(const IsolatedTile& tile, const Visit& visit) {
  for (int panel = tile.shape.panel_begin; panel < tile.shape.panel_end; ++panel) {
    const PanelRows rows = tile.shape.panel[panel];
    for (int row = rows.begin; row < rows.end; ++row) {
      for (int key = panel * kPanel; key < (panel + 1) * kPanel; ++key) {
        if (tile.visibility[row * kScoreStride + key] == 0.0f) visit(row, key);
      }
    }
  }
}

}  // namespace

void IsolatedTile::ClearHidden(float* weights) const {
  for (int row = shape.row_begin; row < shape.row_end; ++row) {
    for (int key = shape.panel_begin * kPanel; key < shape.panel_end * kPanel; ++key) {
      const int at = row * kScoreStride + key;
      if (visibility[at] != 0.0f) weights[at] = 0.0f;
    }
  }
}

void IsolatedTile::Accumulate(const float* weights, const float* right, int dim, const float* rescale,
                              float* out) const {
  const bool replaced = CopyFinite(right, kTileK, dim, finite);
  Kernels().accumulate(weights, finite, dim, shape, rescale, out, {nullptr, 0});
  if (!replaced) return;
  ForEachVisible(*this, [&](int row, int key) {
    AddNonFinite(right + key * kPanel, kTileK, weights[row * kScoreStride + key], dim, out + row * kPanel, kTileQ);
  });
}

void IsolatedTile::AccumulateRows(const float* weights, const float* right, int dim, int keys, int out_rows,
                                  const float* rescale, float* out) const {
  const bool replaced = CopyFinite(right, kTileK, dim, finite);
  const RowSpan rows = {finite, kPanel, static_cast<int64_t>(kTileK) * kPanel, PaddedDim(dim)};
  Kernels().accumulate_rows[PFM_FLOAT32](weights, rows, shape.panel_begin * kPanel, keys, shape.row_begin,
                                         shape.row_end, out_rows, rescale, out);
  if (!replaced) return;
  ForEachVisible(*this, [&](int row, int key) {
    AddNonFinite(right + key * kPanel, kTileK, weights[row * kScoreStride + key], dim, out + row * kPanel, out_rows);
  });
}

void IsolatedTile::AccumulateTransposed(const float* weights, const float* right, int dim, float* out) const {
  const bool replaced = CopyFinite(right, kTileQ, dim, finite);
  Kernels().accumulate_transposed(weights, finite, dim, shape, out);
  if (!replaced) return;
  ForEachVisible(*this, [&](int row, int key) {
    AddNonFinite(right + row * kPanel, kTileQ, weights[row * kScoreStride + key], dim, out + key * kPanel, kTileK);
  });
}

}  // namespace pfm::cpu
