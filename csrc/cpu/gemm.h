// The three matrix products of attention on one tile, from one register-blocked micro kernel.
#ifndef PFM_CPU_GEMM_H_
#define PFM_CPU_GEMM_H_

#include <cstdint>

#include "tile_kernels.h"

#define PFM_INLINE inline __attribute__((always_inline))

namespace pfm::cpu {

template <class Simd>
struct Gemm {
  using Float = typename Simd::Float;
  static constexpr int kPanelVectors = kPanel / Simd::kLanes;
  static constexpr int kVectors = Simd::kMicroPanels * kPanelVectors;

  template <int kRows>
  struct Accumulators {
    Float v[kRows][kVectors];

    PFM_INLINE void Clear() {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) v[r][j] = Simd::Set(0.0f);
      }
    }

    // v += left x right over `depth`. Element (row, k) of left is left[row * kLeftRow + k * kLeftDepth]; right is one
    // panel, or two that lie right_panel_stride apart.
    template <int kLeftRow, int kLeftDepth>
    PFM_INLINE void Multiply(const float* left, const float* right, int64_t right_panel_stride, int depth) {
#pragma GCC unroll 4
      for (int k = 0; k < depth; ++k) {
        Float b[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          b[j] = Simd::Load(right + j / kPanelVectors * right_panel_stride + k * kPanel +
                            j % kPanelVectors * Simd::kLanes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Float a = Simd::Set(left[r * kLeftRow + k * kLeftDepth]);
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) v[r][j] = Simd::Fma(a, b[j], v[r][j]);
        }
      }
    }
  };

  // Calls body(std::integral_constant-like tag) for blocks of at most Simd::kRows rows that cover [begin, end).
  template <int kRows>
  struct Rows {};

  template <int kRows, class Body>
  static PFM_INLINE void Remainder(int row, int count, const Body& body) {
    if (count == kRows) {
      body(Rows<kRows>(), row);
    } else if constexpr (kRows > 1) {
      Remainder<kRows - 1>(row, count, body);
    }
  }

  template <class Body>
  static PFM_INLINE void ForRowBlocks(int begin, int end, const Body& body) {
    int row = begin;
    for (; row + Simd::kRows <= end; row += Simd::kRows) body(Rows<Simd::kRows>(), row);
    Remainder<Simd::kRows - 1>(row, end - row, body);
  }

  // Calls body(panels tag, panel) for groups of at most Simd::kMicroPanels panels; a group of fewer repeats the last
  // panel's pointer, so its second half is computed and thrown away.
  static int GroupEnd(int panel, int end) {
    return panel + Simd::kMicroPanels < end ? panel + Simd::kMicroPanels : end;
  }

  static void Multiply(const float* left, const float* right, int dim, const TileShape& shape, float* scores) {
    const int padded = PaddedDim(dim);
    const int64_t panel_size = static_cast<int64_t>(padded) * kPanel;
    for (int panel = shape.panel_begin; panel < shape.panel_end; panel += Simd::kMicroPanels) {
      const int group_end = GroupEnd(panel, shape.panel_end);
      int begin = kTileQ, end = 0;
      for (int p = panel; p < group_end; ++p) {
        if (shape.panel[p].begin < begin && shape.panel[p].end > 0) begin = shape.panel[p].begin;
        if (shape.panel[p].end > end) end = shape.panel[p].end;
      }
      const bool whole = group_end - panel == Simd::kMicroPanels;
      const int64_t next_panel = whole ? panel_size : 0;
      const float* b = right + panel * panel_size;
      float* c = scores + panel * kPanel;
      ForRowBlocks(begin, end, [&](auto rows, int row) {
        MultiplyBlock(rows, left + row * kPanel, b, next_panel, padded, whole, c + row * kScoreStride);
      });
    }
  }

  template <int kRows>
  static PFM_INLINE void MultiplyBlock(Rows<kRows>, const float* left, const float* right, int64_t next_panel,
                                       int padded, bool whole, float* scores) {
    Accumulators<kRows> sum;
    sum.Clear();
    for (int k = 0; k < padded; k += kPanel) {
      sum.template Multiply<kPanel, 1>(left + k * kTileQ, right + k * kPanel, next_panel, kPanel);
    }
    const int vectors = whole ? kVectors : kPanelVectors;
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < vectors; ++j) {
        Simd::Store(scores + r * kScoreStride + j * Simd::kLanes, sum.v[r][j]);
      }
    }
  }

  // Keys [begin, end) that the rows of a block need.
  struct KeyRange {
    int begin, end;
  };

  static KeyRange KeysOfRows(const TileShape& shape, int row_begin, int row_end) {
    int first = shape.panel_end, last = shape.panel_begin;
    for (int p = shape.panel_begin; p < shape.panel_end; ++p) {
      if (shape.panel[p].begin >= row_end || shape.panel[p].end <= row_begin) continue;
      if (p < first) first = p;
      last = p + 1;
    }
    return {first * kPanel, last * kPanel};
  }

  static void Accumulate(const float* weights, const float* right, int dim, const TileShape& shape,
                         const float* rescale, float* out) {
    KeyRange keys[kTileQ];
    for (int row = shape.row_begin, block = 0; row < shape.row_end; row += Simd::kRows, ++block) {
      const int end = row + Simd::kRows < shape.row_end ? row + Simd::kRows : shape.row_end;
      keys[block] = KeysOfRows(shape, row, end);
    }
    const int panels = PaddedDim(dim) / kPanel;
    for (int panel = 0; panel < panels; panel += Simd::kMicroPanels) {
      const bool whole = GroupEnd(panel, panels) - panel == Simd::kMicroPanels;
      const float* b = right + static_cast<int64_t>(panel) * kTileK * kPanel;
      float* c = out + static_cast<int64_t>(panel) * kTileQ * kPanel;
      int block = 0;
      ForRowBlocks(shape.row_begin, shape.row_end, [&](auto rows, int row) {
        const KeyRange range = keys[block++];
        AccumulateBlock<kScoreStride, 1, kTileQ>(rows, weights + row * kScoreStride + range.begin,
                                                 b + range.begin * kPanel, whole ? kTileK * kPanel : 0,
                                                 range.end - range.begin, whole,
                                                 rescale == nullptr ? nullptr : rescale + row, c + row * kPanel);
      });
    }
  }

  static void AccumulateTransposed(const float* weights, const float* right, int dim, const TileShape& shape,
                                   float* out) {
    const int panels = PaddedDim(dim) / kPanel;
    for (int panel = 0; panel < panels; panel += Simd::kMicroPanels) {
      const bool whole = GroupEnd(panel, panels) - panel == Simd::kMicroPanels;
      const float* b = right + static_cast<int64_t>(panel) * kTileQ * kPanel;
      float* c = out + static_cast<int64_t>(panel) * kTileK * kPanel;
      for (int key_panel = shape.panel_begin; key_panel < shape.panel_end; ++key_panel) {
        const PanelRows depth = shape.panel[key_panel];
        ForRowBlocks(key_panel * kPanel, (key_panel + 1) * kPanel, [&](auto rows, int key) {
          AccumulateBlock<1, kScoreStride, kTileK>(rows, weights + depth.begin * kScoreStride + key,
                                                   b + depth.begin * kPanel, whole ? kTileQ * kPanel : 0,
                                                   depth.end - depth.begin, whole, nullptr, c + key * kPanel);
        });
      }
    }
  }

  // out (panels of kOutRows rows) = out * rescale + left x right.
  template <int kLeftRow, int kLeftDepth, int kOutRows, int kRows>
  static PFM_INLINE void AccumulateBlock(Rows<kRows>, const float* left, const float* right, int64_t next_panel,
                                         int depth, bool whole, const float* rescale, float* out) {
    Accumulators<kRows> sum;
    sum.Clear();
    sum.template Multiply<kLeftRow, kLeftDepth>(left, right, next_panel, depth);
    const int vectors = whole ? kVectors : kPanelVectors;
    for (int r = 0; r < kRows; ++r) {
      const Float factor = Simd::Set(rescale == nullptr ? 1.0f : rescale[r]);
      for (int j = 0; j < vectors; ++j) {
        float* c = out + (j / kPanelVectors * kOutRows + r) * kPanel + j % kPanelVectors * Simd::kLanes;
        Simd::Store(c, Simd::Fma(Simd::Load(c), factor, sum.v[r][j]));
      }
    }
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_GEMM_H_
