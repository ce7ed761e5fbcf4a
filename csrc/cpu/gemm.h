// The three matrix products of attention on one tile, built from one register-blocked micro kernel.
#ifndef PFM_CPU_GEMM_H_
#define PFM_CPU_GEMM_H_

#include <cstdint>

#include "tile_kernels.h"

#define PFM_INLINE inline __attribute__((always_inline))

namespace pfm::cpu {

template <class Simd>
struct Gemm {
  using Float = typename Simd::Float;
  static constexpr int kVectorsPerPanel = kPanel / Simd::kLanes;

  // Panels `stride` floats apart.
  struct PanelGroup {
    const float* data;
    int stride;
  };

  template <int kRows, int kPanels>
  struct Accumulators {
    static constexpr int kVectors = kPanels * kVectorsPerPanel;
    Float v[kRows][kVectors];

    PFM_INLINE void Clear() {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) v[r][j] = Simd::Set(0.0f);
      }
    }

    // v += left x right over `depth`. Element (row, k) of left is left[row * kLeftRow + k * kLeftDepth]; right holds
    // consecutive panel rows.
    template <int kLeftRow, int kLeftDepth>
    PFM_INLINE void Multiply(const float* left, const PanelGroup& right, int depth) {
#pragma GCC unroll 4
      for (int k = 0; k < depth; ++k) {
        Float b[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) b[j] = Simd::Load(right.data + k * kPanel + Offset(j, right.stride));
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const Float a = Simd::Set(left[r * kLeftRow + k * kLeftDepth]);
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) v[r][j] = Simd::Fma(a, b[j], v[r][j]);
        }
      }
    }

    // Floats from the first vector of a row to vector j, in panels `stride` floats apart.
    static PFM_INLINE int Offset(int j, int stride) {
      return j / kVectorsPerPanel * stride + j % kVectorsPerPanel * Simd::kLanes;
    }
  };

  // Prefetches memory that the caller needs next into L2, a few lines after each micro tile, so that transfers from
  // L3 overlap with arithmetic.
  class Prefetcher {
   public:
    Prefetcher(const Upcoming& upcoming, int micro_tiles)
        : line_(upcoming.data), lines_per_tile_((upcoming.floats / kPanel + micro_tiles - 1) / micro_tiles) {}

    PFM_INLINE void Next() {
      for (int i = 0; i < lines_per_tile_; ++i, line_ += kPanel) __builtin_prefetch(line_, 0, 2);
    }

   private:
    const float* line_;
    int lines_per_tile_;
  };

  static constexpr int kTileRowBlocks = (kTileQ + Simd::kRows - 1) / Simd::kRows;

  // Compile-time number of rows, and of panels.
  template <int kRows>
  struct Rows {};
  template <int kPanels>
  struct Panels {};

  template <int kRows, class Body>
  static PFM_INLINE void WithRows(int count, int row, const Body& body) {
    if (count == kRows) {
      body(Rows<kRows>(), row);
    } else if constexpr (kRows > 1) {
      WithRows<kRows - 1>(count, row, body);
    }
  }

  // Rows of the next block when `left` remain. The last two blocks share their rows evenly: a block of few rows is
  // bound by FMA latency.
  static PFM_INLINE int BlockRows(int left) {
    if (left >= 2 * Simd::kRows) return Simd::kRows;
    return left > Simd::kRows ? (left + 1) / 2 : left;
  }

  // Calls body(Rows<n>, row) for blocks of at most Simd::kRows rows that cover [begin, end).
  template <class Body>
  static PFM_INLINE void ForRowBlocks(int begin, int end, const Body& body) {
    for (int row = begin; row < end;) {
      const int count = BlockRows(end - row);
      WithRows<Simd::kRows>(count, row, body);
      row += count;
    }
  }

  // Calls body(Panels<n>, panel) for groups of at most Simd::kPanels panels that cover [0, count).
  template <class Body>
  static PFM_INLINE void ForPanelGroups(int count, const Body& body) {
    int panel = 0;
    for (; panel + Simd::kPanels <= count; panel += Simd::kPanels) body(Panels<Simd::kPanels>(), panel);
    if constexpr (Simd::kPanels > 1) {
      for (; panel < count; ++panel) body(Panels<1>(), panel);
    }
  }

  // Calls body(Panels<n>, panel, rows) for the rows of the panels of a shape: two panels together where both see a
  // row.
  template <class Body>
  static PFM_INLINE void ForVisibleRows(const TileShape& shape, const Body& body) {
    static_assert(Simd::kPanels <= 2);
    for (int panel = shape.panel_begin; panel < shape.panel_end; ++panel) {
      const PanelRows rows = shape.panel[panel];
      if constexpr (Simd::kPanels == 2) {
        const PanelRows next = panel + 1 < shape.panel_end ? shape.panel[panel + 1] : PanelRows{0, 0};
        const PanelRows both = {rows.begin > next.begin ? rows.begin : next.begin,
                                rows.end < next.end ? rows.end : next.end};
        if (both.begin < both.end) {
          body(Panels<2>(), panel, both);
          body(Panels<1>(), panel, PanelRows{rows.begin, both.begin});
          body(Panels<1>(), panel, PanelRows{both.end, rows.end});
          body(Panels<1>(), panel + 1, PanelRows{next.begin, both.begin});
          body(Panels<1>(), panel + 1, PanelRows{both.end, next.end});
          ++panel;
          continue;
        }
      }
      body(Panels<1>(), panel, rows);
    }
  }

  static void Multiply(const float* left, const float* right, int dim, const TileShape& shape, float* scores,
                       const Upcoming& upcoming) {
    const int padded = PaddedDim(dim);
    const int panel_size = padded * kPanel;
    Prefetcher prefetch(upcoming, kKeyPanels / Simd::kPanels * kTileRowBlocks);
    ForVisibleRows(shape, [&](auto panels, int panel, PanelRows visible) {
      const PanelGroup b = {right + static_cast<int64_t>(panel) * panel_size, panel_size};
      float* c = scores + panel * kPanel;
      ForRowBlocks(visible.begin, visible.end, [&](auto rows, int row) {
        prefetch.Next();
        MultiplyBlock(rows, panels, left + row * kPanel, b, padded, c + row * kScoreStride);
      });
    });
  }

  template <int kRows, int kPanels>
  static PFM_INLINE void MultiplyBlock(Rows<kRows>, Panels<kPanels>, const float* left, const PanelGroup& right,
                                       int padded, float* scores) {
    Accumulators<kRows, kPanels> sum;
    sum.Clear();
    for (int k = 0; k < padded; k += kPanel) {
      sum.template Multiply<kPanel, 1>(left + k * kTileQ, {right.data + k * kPanel, right.stride}, kPanel);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < sum.kVectors; ++j) {
        Simd::Store(scores + r * kScoreStride + sum.Offset(j, kPanel), sum.v[r][j]);
      }
    }
  }

  struct KeyRange {
    int begin, end;
  };

  // Keys that at least one row of [row_begin, row_end) sees, at panel resolution.
  static KeyRange KeysOfRows(const TileShape& shape, int row_begin, int row_end) {
    int first = shape.panel_end, last = shape.panel_begin;
    for (int p = shape.panel_begin; p < shape.panel_end; ++p) {
      if (shape.panel[p].begin >= row_end || shape.panel[p].end <= row_begin) continue;
      if (p < first) first = p;
      last = p + 1;
    }
    return first < last ? KeyRange{first * kPanel, last * kPanel} : KeyRange{0, 0};
  }

  static void Accumulate(const float* weights, const float* right, int dim, const TileShape& shape,
                         const float* rescale, float* out, const Upcoming& upcoming) {
    const int dim_panels = PaddedDim(dim) / kPanel;
    Prefetcher prefetch(upcoming, (dim_panels + Simd::kPanels - 1) / Simd::kPanels * kTileRowBlocks);
    KeyRange keys[kTileQ];
    for (int row = shape.row_begin, block = 0; row < shape.row_end; ++block) {
      const int end = row + BlockRows(shape.row_end - row);
      keys[block] = KeysOfRows(shape, row, end);
      row = end;
    }
    ForPanelGroups(dim_panels, [&](auto panels, int panel) {
      const float* b = right + static_cast<int64_t>(panel) * kTileK * kPanel;
      float* c = out + static_cast<int64_t>(panel) * kTileQ * kPanel;
      int block = 0;
      ForRowBlocks(shape.row_begin, shape.row_end, [&](auto rows, int row) {
        const KeyRange range = keys[block++];
        prefetch.Next();
        AccumulateBlock<kScoreStride, 1, kTileQ>(rows, panels, weights + row * kScoreStride + range.begin,
                                                 {b + range.begin * kPanel, kTileK * kPanel}, range.end - range.begin,
                                                 rescale == nullptr ? nullptr : rescale + row, c + row * kPanel);
      });
    });
  }

  // Returns the first panel after `panel` with other visible rows.
  static int EndOfRun(const TileShape& shape, int panel) {
    const PanelRows rows = shape.panel[panel];
    do {
      ++panel;
    } while (panel < shape.panel_end && shape.panel[panel].begin == rows.begin && shape.panel[panel].end == rows.end);
    return panel;
  }

  static void AccumulateTransposed(const float* weights, const float* right, int dim, const TileShape& shape,
                                   float* out) {
    ForPanelGroups(PaddedDim(dim) / kPanel, [&](auto panels, int panel) {
      const float* b = right + static_cast<int64_t>(panel) * kTileQ * kPanel;
      float* c = out + static_cast<int64_t>(panel) * kTileK * kPanel;
      for (int first = shape.panel_begin, last; first < shape.panel_end; first = last) {
        last = EndOfRun(shape, first);
        const PanelRows depth = shape.panel[first];
        ForRowBlocks(first * kPanel, last * kPanel, [&](auto rows, int key) {
          AccumulateBlock<1, kScoreStride, kTileK>(rows, panels, weights + depth.begin * kScoreStride + key,
                                                   {b + depth.begin * kPanel, kTileQ * kPanel},
                                                   depth.end - depth.begin, nullptr, c + key * kPanel);
        });
      }
    });
  }

  // out (panels of kOutRows rows) = out * rescale + left x right.
  template <int kLeftRow, int kLeftDepth, int kOutRows, int kRows, int kPanels>
  static PFM_INLINE void AccumulateBlock(Rows<kRows>, Panels<kPanels>, const float* left, const PanelGroup& right,
                                         int depth, const float* rescale, float* out) {
    Accumulators<kRows, kPanels> sum;
    sum.Clear();
    sum.template Multiply<kLeftRow, kLeftDepth>(left, right, depth);
    if (rescale == nullptr) {  // the add units are separate from the FMA units
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int j = 0; j < sum.kVectors; ++j) {
          float* c = out + r * kPanel + sum.Offset(j, kOutRows * kPanel);
          Simd::Store(c, Simd::Add(Simd::Load(c), sum.v[r][j]));
        }
      }
      return;
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Float factor = Simd::Set(rescale[r]);
#pragma GCC unroll 4
      for (int j = 0; j < sum.kVectors; ++j) {
        float* c = out + r * kPanel + sum.Offset(j, kOutRows * kPanel);
        Simd::Store(c, Simd::Fma(Simd::Load(c), factor, sum.v[r][j]));
      }
    }
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_GEMM_H_
