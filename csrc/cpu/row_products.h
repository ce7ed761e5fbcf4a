// Products of a few packed rows with many rows in the layout and type of their tensor, which are read once.
#ifndef PFM_CPU_ROW_PRODUCTS_H_
#define PFM_CPU_ROW_PRODUCTS_H_

#include <cstdint>

#include "gemm.h"
#include "pack.h"
#include "tile_kernels.h"

namespace pfm::cpu {

template <class Simd, class Elements>
struct RowProducts {
  using Float = typename Simd::Float;
  using Storage = typename Elements::Storage;
  using Packing = Pack<Simd, Elements>;
  using Sixteen = typename Packing::Sixteen;
  static constexpr int kVectors = kPanel / Simd::kLanes;
  static constexpr int kMany = Simd::kMany;  // rows of the tensor at a time

  // Prefetch distance in rows, into L2: rows of one head are often 4096 bytes apart, and L1 has few places for them.
  static constexpr int kRowsAhead = 16;

  // Compile-time number.
  template <int kValue>
  struct Number {
    static constexpr int value = kValue;
  };

  template <int kRows, bool kWhole>
  static PFM_INLINE void LoadPanel(const RowSpan& many, int row, int panel, Sixteen* x) {
    const Storage* from = static_cast<const Storage*>(many.data) + row * many.row_stride + panel * many.panel_stride;
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m, from += many.row_stride) {
      if constexpr (kWhole) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) x[m].v[j] = Elements::Load(from + j * Simd::kLanes);
      } else {
        x[m] = Packing::Load(from, Packing::Count(many.dim, panel));
      }
    }
  }

  // Calls body(panel, x) with the elements of kRows rows for every panel.
  template <int kRows, class Body>
  static PFM_INLINE void ForPanels(const RowSpan& many, int row, const Body& body) {
    Sixteen x[kRows];
    int panel = 0;
    for (; panel < many.dim / kPanel; ++panel) {
      LoadPanel<kRows, true>(many, row, panel, x);
      body(panel, x);
    }
    if (panel * kPanel < many.dim) {
      LoadPanel<kRows, false>(many, row, panel, x);
      body(panel, x);
    }
  }

  // Calls body(Number<n>, row) for blocks of rows that cover [begin, end), with later rows on their way from memory.
  template <class Body>
  static PFM_INLINE void ForRows(const RowSpan& many, int begin, int end, const Body& body) {
    const bool fetches = many.panel_stride == kPanel;
    const int fetch_end = fetches ? end : begin;
    for (int row = begin; row < begin + kRowsAhead; ++row) Fetch(many, row, fetch_end);
    int row = begin;
    for (; row + kMany <= end; row += kMany) {
      for (int m = 0; m < kMany; ++m) Fetch(many, row + kRowsAhead + m, fetch_end);
      body(Number<kMany>(), row);
    }
    for (; row < end; ++row) body(Number<1>(), row);
  }

  static PFM_INLINE void Fetch(const RowSpan& many, int row, int end) {
    if (row >= end) return;
    const Storage* from = static_cast<const Storage*>(many.data) + row * many.row_stride;
    for (int i = 0; i < many.dim; i += 64 / static_cast<int>(sizeof(Storage))) __builtin_prefetch(from + i, 0, 2);
  }

  template <int kRows, int kFew>
  static PFM_INLINE void DotBlock(const RowSpan& many, int row, const PanelSpan& few, int few_row, float* scores) {
    Float sum[kFew][kRows];
#pragma GCC unroll 4
    for (int f = 0; f < kFew; ++f) {
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) sum[f][m] = Simd::Set(0.0f);
    }
    ForPanels<kRows>(many, row, [&](int panel, const Sixteen* x) {
      const float* from = few.data + (static_cast<int64_t>(panel) * few.rows + few_row) * kPanel;
#pragma GCC unroll 4
      for (int f = 0; f < kFew; ++f) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          const Float y = Simd::Load(from + f * kPanel + j * Simd::kLanes);
#pragma GCC unroll 8
          for (int m = 0; m < kRows; ++m) sum[f][m] = Simd::Fma(x[m].v[j], y, sum[f][m]);
        }
      }
    });
#pragma GCC unroll 4
    for (int f = 0; f < kFew; ++f) {
      float* to = scores + (few_row + f) * kScoreStride;
      if constexpr (kRows % 4 == 0) {
        for (int m = 0; m < kRows; m += 4) {
          Simd::StoreSums(to + m, sum[f][m], sum[f][m + 1], sum[f][m + 2], sum[f][m + 3]);
        }
      } else {
        for (int m = 0; m < kRows; ++m) to[m] = Simd::ReduceAdd(sum[f][m]);
      }
    }
  }

  template <int kRows>
  static PFM_INLINE void DotRows(const RowSpan& many, int row, const PanelSpan& few, int few_begin, int few_end,
                                 float* scores) {
    int f = few_begin;
    for (; f + Simd::kFew <= few_end; f += Simd::kFew) DotBlock<kRows, Simd::kFew>(many, row, few, f, scores);
    for (; f < few_end; ++f) DotBlock<kRows, 1>(many, row, few, f, scores);
  }

  // With many products per row, rows are first copied as float32: they are converted once, and their reads from lines
  // far apart, which fall into few cache sets, are not repeated.
  using Copied = RowProducts<Simd, Float32Elements<Simd>>;
  static constexpr int kCopiedFrom = 2 * Simd::kFew;
  static constexpr int kMostDim = 256;  // which capi.cc checks

  static void Dots(const RowSpan& many, int begin, int end, const PanelSpan& few, int few_begin, int few_end,
                   float* scores) {
    const bool copies = few_end - few_begin > kCopiedFrom;
    ForRows(many, begin, end, [&](auto rows, int row) {
      constexpr int kRows = decltype(rows)::value;
      if (!copies) return DotRows<kRows>(many, row, few, few_begin, few_end, scores + row);
      float copy[kRows * kMostDim];
      ForPanels<kRows>(many, row, [&](int panel, const Sixteen* x) {
        for (int m = 0; m < kRows; ++m) {
          for (int j = 0; j < kVectors; ++j) {
            Simd::Store(copy + m * kMostDim + panel * kPanel + j * Simd::kLanes, x[m].v[j]);
          }
        }
      });
      const RowSpan copied = {copy, kMostDim, kPanel, PaddedDim(many.dim)};
      Copied::template DotRows<kRows>(copied, 0, few, few_begin, few_end, scores + row);
    });
  }

  static void Accumulate(const float* weights, const RowSpan& many, int begin, int end, int few_begin, int few_end,
                         int few_rows, float* out) {
    ForRows(many, begin, end, [&](auto rows, int row) {
      constexpr int kRows = decltype(rows)::value;
      ForPanels<kRows>(many, row, [&](int panel, const Sixteen* x) {
        float* to = out + (static_cast<int64_t>(panel) * few_rows + few_begin) * kPanel;
        const float* from = weights + few_begin * kScoreStride + row;
        for (int f = few_begin; f < few_end; ++f, to += kPanel, from += kScoreStride) {
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) {
            Float sum = Simd::Load(to + j * Simd::kLanes);
#pragma GCC unroll 8
            for (int m = 0; m < kRows; ++m) sum = Simd::Fma(Simd::Set(from[m]), x[m].v[j], sum);
            Simd::Store(to + j * Simd::kLanes, sum);
          }
        }
      });
    });
  }

  // Blocks of rows share the loads of the few rows.
  template <int kRows>
  static PFM_INLINE void CombineBlock(const float* weights, const PanelSpan& few, int dim, Storage* to,
                                      int64_t row_stride) {
    const float* from = few.data;
    for (int panel = 0; panel * kPanel < dim; ++panel) {
      Sixteen sum[kRows];
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sum[m].v[j] = Simd::Set(0.0f);
      }
      for (int f = 0; f < few.rows; ++f, from += kPanel) {
#pragma GCC unroll 8
        for (int m = 0; m < kRows; ++m) {
          const Float weight = Simd::Set(weights[f * kScoreStride + m]);
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) {
            sum[m].v[j] = Simd::Fma(weight, Simd::Load(from + j * Simd::kLanes), sum[m].v[j]);
          }
        }
      }
      const int count = Packing::Count(dim, panel);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) Packing::StoreSixteen(sum[m], to + m * row_stride + panel * kPanel, count);
    }
  }

  static void StoreCombinations(const float* weights, const PanelSpan& few, int rows, int dim, void* out,
                                int64_t row_stride) {
    const RowSpan many = {out, row_stride, kPanel, dim};
    ForRows(many, 0, rows, [&](auto block, int row) {
      CombineBlock<decltype(block)::value>(weights + row, few, dim, static_cast<Storage*>(out) + row * row_stride,
                                           row_stride);
    });
  }

  static bool Finite(const RowSpan& many, int begin, int end) {
    const Float zero = Simd::Set(0.0f);
    Float zeros = zero;  // 0 times the elements: NaN once one is not finite
    ForRows(many, begin, end, [&](auto rows, int row) {
      constexpr int kRows = decltype(rows)::value;
      ForPanels<kRows>(many, row, [&](int, const Sixteen* x) {
        for (int m = 0; m < kRows; ++m) {
          for (int j = 0; j < kVectors; ++j) zeros = Simd::Fma(x[m].v[j], zero, zeros);
        }
      });
    });
    return Simd::ReduceAdd(zeros) == 0.0f;
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_ROW_PRODUCTS_H_
