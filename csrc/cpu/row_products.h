// Products of a few packed rows with many rows in the layout and type of their tensor, which are read once.
#ifndef PFM_CPU_ROW_PRODUCTS_H_
#define PFM_CPU_ROW_PRODUCTS_H_

#include <cstdint>
#include <type_traits>

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
  static constexpr int kSums = Simd::kSums;  // accumulators of a block

  // Compile-time number.
  template <int kValue>
  struct Number {
    static constexpr int value = kValue;
  };

  template <bool kWhole>
  static PFM_INLINE Sixteen LoadPanel(const RowSpan& many, const Storage* row, int panel) {
    const Storage* from = row + panel * many.panel_stride;
    if constexpr (!kWhole) return Packing::Load(from, Packing::Count(many.dim, panel));
    Sixteen x;
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) x.v[j] = Elements::Load(from + j * Simd::kLanes);
    return x;
  }

  static PFM_INLINE const Storage* Row(const RowSpan& many, int row) {
    return static_cast<const Storage*>(many.data) + row * many.row_stride;
  }

  // Rows that are read again while their lines are in L1.
  static constexpr int kBlock = 16;

  // Calls body(row, count) for blocks of rows that cover [begin, end).
  template <class Body>
  static PFM_INLINE void ForBlocks(int begin, int end, const Body& body) {
    for (int row = begin; row < end; row += kBlock) body(row, Least(kBlock, end - row));
  }

  static int Least(int a, int b) { return a < b ? a : b; }

  // Prefetch distance in rows, into L2: rows of one head are often 4096 bytes apart, and L1 has few places for them.
  // Each load fetches one later line, because a burst of prefetches waits for line fill buffers. Rows beyond the tile
  // are usually the first ones of the next tile; a prefetch beyond the tensor has no effect.
  static constexpr int kRowsAhead = 16;

  template <bool kWrites = false>
  static PFM_INLINE void FetchAhead(const Storage* row, int64_t row_stride, int panel) {
    constexpr int kLine = 64 / static_cast<int>(sizeof(Storage));
    const int element = panel * kPanel;
    if (element % kLine == 0) __builtin_prefetch(row + kRowsAhead * row_stride + element, kWrites, 2);
  }

  // Calls body(Number<n>, f) for blocks of 8, 4, 2 and 1 few rows that cover [begin, end).
  template <class Body>
  static PFM_INLINE void ForFew(int begin, int end, const Body& body) {
    int f = begin;
    for (; f + kMostFew <= end; f += kMostFew) body(Number<kMostFew>(), f);
    if constexpr (kMostFew > 4) {
      if (f + 4 <= end) body(Number<4>(), f), f += 4;
    }
    if (f + 2 <= end) body(Number<2>(), f), f += 2;
    if (f < end) body(Number<1>(), f);
  }
  static constexpr int kMostFew = kSums < 8 ? kSums : 8;

  // kSums products: of kFew rows with kSums / kFew of `many`, of which `count` exist. Every product has the same
  // order of additions, wherever its rows are.
  template <int kFew, bool kAll>
  static PFM_INLINE void DotBlock(const RowSpan& many, int row, int count, const PanelSpan& few, int few_row,
                                  float* scores) {
    constexpr int kMany = kSums / kFew;
    const Storage* from[kMany];
    for (int m = 0; m < kMany; ++m) from[m] = Row(many, row + (kAll ? m : Least(m, count - 1)));  // the last repeats
    Float sum[kFew * kMany];
#pragma GCC unroll 16
    for (int i = 0; i < kFew * kMany; ++i) sum[i] = Simd::Set(0.0f);
    const float* with = few.data + few_row * kPanel;
    const auto add = [&](auto whole, int panel) {
      Sixteen x[kMany];
#pragma GCC unroll 16
      for (int m = 0; m < kMany; ++m) {
        x[m] = LoadPanel<decltype(whole)::value>(many, from[m], panel);
        FetchAhead(from[m], many.row_stride, panel);
      }
#pragma GCC unroll 8
      for (int f = 0; f < kFew; ++f) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          const Float y = Simd::Load(with + f * kPanel + j * Simd::kLanes);
#pragma GCC unroll 16
          for (int m = 0; m < kMany; ++m) sum[f * kMany + m] = Simd::Fma(x[m].v[j], y, sum[f * kMany + m]);
        }
      }
      with += few.rows * kPanel;
    };
    int panel = 0;
    for (; panel < many.dim / kPanel; ++panel) add(std::true_type(), panel);
    if (panel * kPanel < many.dim) add(std::false_type(), panel);
    float* to = scores + few_row * kScoreStride + row;
    if constexpr (kAll) return Simd::template StoreSums<kMany>(to, kScoreStride, sum);
    float sums[kSums];
    Simd::template StoreSums<kMany>(sums, kMany, sum);
    for (int f = 0; f < kFew; ++f, to += kScoreStride) {
      for (int m = 0; m < count; ++m) to[m] = sums[f * kMany + m];
    }
  }

  static void Dots(const RowSpan& many, int begin, int end, const PanelSpan& few, int few_begin, int few_end,
                   float* scores) {
    ForBlocks(begin, end, [&](int block, int rows) {
      ForFew(few_begin, few_end, [&](auto few_rows, int f) {
        constexpr int kFew = decltype(few_rows)::value, kMany = kSums / kFew;
        int row = block;
        for (; row + kMany <= block + rows; row += kMany) {
          DotBlock<kFew, true>(many, row, kMany, few, f, scores);
        }
        if (row < block + rows) DotBlock<kFew, false>(many, row, block + rows - row, few, f, scores);
      });
    });
  }

  // Panels that the accumulators of a block have room for.
  static constexpr int Clamp(int panels) { return panels < 1 ? 1 : panels < 8 ? panels : 8; }

  // Adds to kPanels panels of kFew rows.
  template <int kFew, int kPanels, bool kWhole>
  static PFM_INLINE void AccumulateBlock(const float* weights, const RowSpan& many, int row, int rows, int panel,
                                         int few_rows, const float* rescale, float* out) {
    const int64_t stride = static_cast<int64_t>(few_rows) * kPanel;
    Sixteen sum[kFew][kPanels];
#pragma GCC unroll 8
    for (int f = 0; f < kFew; ++f) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          sum[f][p].v[j] = Simd::Load(out + p * stride + f * kPanel + j * Simd::kLanes);
          if (rescale != nullptr) sum[f][p].v[j] = Simd::Mul(sum[f][p].v[j], Simd::Set(rescale[f]));
        }
      }
    }
    const Storage* from = Row(many, row);
    for (int m = 0; m < rows; ++m, from += many.row_stride) {
      Sixteen x[kPanels];
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) {
        x[p] = LoadPanel<kWhole>(many, from, panel + p);
        FetchAhead(from, many.row_stride, panel + p);
      }
#pragma GCC unroll 8
      for (int f = 0; f < kFew; ++f) {
        const Float weight = Simd::Set(weights[f * kScoreStride + m]);
#pragma GCC unroll 16
        for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) sum[f][p].v[j] = Simd::Fma(weight, x[p].v[j], sum[f][p].v[j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int f = 0; f < kFew; ++f) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          Simd::Store(out + p * stride + f * kPanel + j * Simd::kLanes, sum[f][p].v[j]);
        }
      }
    }
  }

  static void Accumulate(const float* weights, const RowSpan& many, int begin, int end, int few_begin, int few_end,
                         int few_rows, const float* rescale, float* out) {
    ForBlocks(begin, end, [&](int row, int rows) {
      ForFew(few_begin, few_end, [&](auto few, int f) {
        constexpr int kFew = decltype(few)::value, kPanels = Clamp(kSums / kVectors / kFew);
        const float* from = weights + f * kScoreStride + row;
        const float* factors = row == begin && rescale != nullptr ? rescale + f : nullptr;
        const auto to = [&](int panel) { return out + (static_cast<int64_t>(panel) * few_rows + f) * kPanel; };
        int panel = 0;
        for (; panel + kPanels <= many.dim / kPanel; panel += kPanels) {
          AccumulateBlock<kFew, kPanels, true>(from, many, row, rows, panel, few_rows, factors, to(panel));
        }
        for (; panel < many.dim / kPanel; ++panel) {
          AccumulateBlock<kFew, 1, true>(from, many, row, rows, panel, few_rows, factors, to(panel));
        }
        if (panel * kPanel < many.dim) {
          AccumulateBlock<kFew, 1, false>(from, many, row, rows, panel, few_rows, factors, to(panel));
        }
      });
    });
  }

  // kPanels panels of kRows rows.
  template <int kRows, int kPanels, bool kWhole>
  static PFM_INLINE void CombineBlock(const float* weights, const PanelSpan& few, int dim, int panel, Storage* to,
                                      int64_t row_stride) {
    const int64_t stride = static_cast<int64_t>(few.rows) * kPanel;
    const float* from = few.data + panel * stride;
    Sixteen sum[kRows][kPanels];
#pragma GCC unroll 16
    for (int i = 0; i < kRows * kPanels; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i / kPanels][i % kPanels].v[j] = Simd::Set(0.0f);
    }
    for (int f = 0; f < few.rows; ++f, from += kPanel) {
      Sixteen x[kPanels];
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) x[p].v[j] = Simd::Load(from + p * stride + j * Simd::kLanes);
      }
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m) {
        const Float weight = Simd::Set(weights[f * kScoreStride + m]);
#pragma GCC unroll 16
        for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) sum[m][p].v[j] = Simd::Fma(weight, x[p].v[j], sum[m][p].v[j]);
        }
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 16
      for (int p = 0; p < kPanels; ++p) {
        Storage* at = to + m * row_stride + (panel + p) * kPanel;
        FetchAhead<true>(to + m * row_stride, row_stride, panel + p);
        Packing::StoreSixteen(sum[m][p], at, kWhole ? kPanel : Packing::Count(dim, panel + p));
      }
    }
  }

  template <int kRows>
  static PFM_INLINE void CombineRows(const float* weights, const PanelSpan& few, int dim, Storage* to,
                                     int64_t row_stride) {
    constexpr int kPanels = Clamp(kSums / kVectors / 4);
    int panel = 0;
    for (; panel + kPanels <= dim / kPanel; panel += kPanels) {
      CombineBlock<kRows, kPanels, true>(weights, few, dim, panel, to, row_stride);
    }
    for (; panel < dim / kPanel; ++panel) CombineBlock<kRows, 1, true>(weights, few, dim, panel, to, row_stride);
    if (panel * kPanel < dim) CombineBlock<kRows, 1, false>(weights, few, dim, panel, to, row_stride);
  }

  static void StoreCombinations(const float* weights, const PanelSpan& few, int rows, int dim, void* out,
                                int64_t row_stride) {
    constexpr int kRows = 4;
    int row = 0;
    const auto at = [&] { return static_cast<Storage*>(out) + row * row_stride; };
    for (; row + kRows <= rows; row += kRows) CombineRows<kRows>(weights + row, few, dim, at(), row_stride);
    for (; row < rows; ++row) CombineRows<1>(weights + row, few, dim, at(), row_stride);
  }

  static bool Finite(const RowSpan& many, int begin, int end) {
    const Float zero = Simd::Set(0.0f);
    Float zeros = zero;  // 0 times the elements: NaN once one is not finite
    const auto add = [&](const Sixteen& x) {
      for (int j = 0; j < kVectors; ++j) zeros = Simd::Fma(x.v[j], zero, zeros);
    };
    for (int row = begin; row < end; ++row) {
      const Storage* from = Row(many, row);
      int panel = 0;
      for (; panel < many.dim / kPanel; ++panel) {
        FetchAhead(from, many.row_stride, panel);
        add(LoadPanel<true>(many, from, panel));
      }
      if (panel * kPanel < many.dim) add(LoadPanel<false>(many, from, panel));
    }
    return Simd::ReduceAdd(zeros) == 0.0f;
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_ROW_PRODUCTS_H_
