// Visibility, softmax and its gradient on one score tile.
#ifndef PFM_CPU_SOFTMAX_H_
#define PFM_CPU_SOFTMAX_H_

#include <cstdint>

#include "../core/dropout.h"
#include "tile_kernels.h"

namespace pfm::cpu {

template <class Simd>
struct Softmax {
  using Float = typename Simd::Float;
  using Mask = typename Simd::Mask;
  static constexpr int kLanes = Simd::kLanes;
  static constexpr float kMinusInfinity = -__builtin_inff();

  static int MinInt(int a, int b) { return a < b ? a : b; }
  static int MaxInt(int a, int b) { return a < b ? b : a; }

  // Exact: the rows of a panel run from the first to the last row that sees one of its keys.
  static bool Shape(const ColumnArrays& columns, int64_t key0, int row0, int rows, TileShape* shape) {
    const int row1 = row0 + rows;
    int hidden = 0;
    shape->panel_begin = kKeyPanels;
    shape->panel_end = 0;
    shape->row_begin = kTileQ;
    shape->row_end = 0;
    for (int panel = 0; panel < kKeyPanels; ++panel) {
      const int64_t key = key0 + panel * kPanel;
      int first[kPanel], last[kPanel], hides[kPanel];
      for (int c = 0; c < kPanel; ++c) {
        first[c] = MaxInt(row0, columns.visible_begin[key + c]);
        last[c] = MinInt(row1, columns.visible_end[key + c]);
        hides[c] = (first[c] > row0) | (last[c] < row1);
      }
      for (int h = 0; h < 2 && columns.hole_begin[h] != nullptr; ++h) {
        for (int c = 0; c < kPanel; ++c) {
          const int begin = columns.hole_begin[h][key + c], end = columns.hole_end[h][key + c];
          hides[c] |= (begin < last[c]) & (end > first[c]);
          first[c] = (begin <= first[c]) & (end > first[c]) ? end : first[c];
        }
      }
      for (int h = 1; h >= 0; --h) {
        if (columns.hole_begin[h] == nullptr) continue;
        for (int c = 0; c < kPanel; ++c) {
          const int begin = columns.hole_begin[h][key + c], end = columns.hole_end[h][key + c];
          last[c] = (end >= last[c]) & (begin < last[c]) ? begin : last[c];
        }
      }
      int begin = row1, end = row0;
      for (int c = 0; c < kPanel; ++c) {
        const bool sees = first[c] < last[c];
        begin = sees ? MinInt(begin, first[c]) : begin;
        end = sees ? MaxInt(end, last[c]) : end;
        hidden |= hides[c];
      }
      if (begin >= end) {
        shape->panel[panel] = {0, 0};
        continue;
      }
      shape->panel[panel] = {static_cast<int16_t>(begin - row0), static_cast<int16_t>(end - row0)};
      shape->panel_begin = MinInt(shape->panel_begin, panel);
      shape->panel_end = panel + 1;
      shape->row_begin = MinInt(shape->row_begin, begin - row0);
      shape->row_end = MaxInt(shape->row_end, end - row0);
    }
    shape->masked = hidden != 0;
    return shape->panel_begin < shape->panel_end;
  }

  template <int kHoles>
  static void MaskRows(const ColumnArrays& columns, int64_t key0, int row0, const TileShape& shape, float* scores) {
    const Float hidden = Simd::Set(kMinusInfinity);
    for (int row = shape.row_begin; row < shape.row_end; ++row) {
      for (int c = shape.panel_begin * kPanel; c < shape.panel_end * kPanel; c += kLanes) {
        const int64_t key = key0 + c;
        Mask sees = Simd::InRange(columns.visible_begin + key, columns.visible_end + key, row0 + row);
        for (int h = 0; h < kHoles; ++h) {
          sees =
              Simd::AndNot(Simd::InRange(columns.hole_begin[h] + key, columns.hole_end[h] + key, row0 + row), sees);
        }
        float* s = scores + row * kScoreStride + c;
        Simd::Store(s, Simd::Select(sees, Simd::Load(s), hidden));
      }
    }
  }

  static void ApplyMask(const ColumnArrays& columns, int64_t key0, int row0, const TileShape& shape, float* scores) {
    if (columns.hole_begin[0] == nullptr) {
      MaskRows<0>(columns, key0, row0, shape, scores);
    } else if (columns.hole_begin[1] == nullptr) {
      MaskRows<1>(columns, key0, row0, shape, scores);
    } else {
      MaskRows<2>(columns, key0, row0, shape, scores);
    }
  }

  static void Forward(const TileShape& shape, float* scores, RowState* state) {
    const int begin = shape.panel_begin * kPanel, end = shape.panel_end * kPanel;
    float fall[kTileQ];  // old maximum minus base, <= 0
    float base[kTileQ];  // subtracted from the scores: the maximum, or 0 if no key is visible yet
    for (int row = shape.row_begin; row < shape.row_end; ++row) {
      const float* s = scores + row * kScoreStride;
      Float largest = Simd::Set(state->max[row]);
      for (int c = begin; c < end; c += kLanes) largest = Simd::Max(largest, Simd::Load(s + c));
      const float new_max = Simd::ReduceMax(largest);
      base[row] = new_max == kMinusInfinity ? 0.0f : new_max;
      fall[row] = state->max[row] - base[row];
      state->max[row] = new_max;
    }
    for (int row = shape.row_begin; row < shape.row_end; row += kLanes) {
      float exponent[kLanes];
      const int count = MinInt(kLanes, shape.row_end - row);
      for (int lane = 0; lane < kLanes; ++lane) exponent[lane] = lane < count ? fall[row + lane] : 0.0f;
      Simd::Store(exponent, Simd::Exp(Simd::Load(exponent)));
      for (int lane = 0; lane < count; ++lane) state->rescale[row + lane] = exponent[lane];
    }
    for (int row = shape.row_begin; row < shape.row_end; ++row) {
      float* s = scores + row * kScoreStride;
      const Float offset = Simd::Set(base[row]);
      Float sum = Simd::Set(0.0f);
      for (int c = begin; c < end; c += kLanes) {
        const Float p = Simd::Exp(Simd::Sub(Simd::Load(s + c), offset));
        Simd::Store(s + c, p);
        sum = Simd::Add(sum, p);
      }
      state->sum[row] = state->sum[row] * state->rescale[row] + Simd::ReduceAdd(sum);
    }
  }

  // Lanes are rows. The scores of a lane beyond the last row are undefined, and so is what becomes of them.
  static void ForwardColumns(int keys, int rows, float sink, float* scores, float* max, float* sum) {
    const Float hidden = Simd::Set(kMinusInfinity);
    for (int row = 0; row < rows; row += kLanes) {
      Float largest = Simd::Set(sink);
      for (int key = 0; key < keys; ++key)
        largest = Simd::Max(largest, Simd::Load(scores + key * kScoreStride + row));
      const Float base = Simd::Select(Simd::Equal(largest, hidden), Simd::Set(0.0f), largest);
      Float total = Simd::Exp(Simd::Sub(Simd::Set(sink), base));
      for (int key = 0; key < keys; ++key) {
        float* s = scores + key * kScoreStride + row;
        const Float p = Simd::Exp(Simd::Sub(Simd::Load(s), base));
        Simd::Store(s, p);
        total = Simd::Add(total, p);
      }
      Simd::Store(max + row, base);
      Simd::Store(sum + row, total);
    }
  }

  template <bool kMasked, bool kDropout>
  static void BackwardRows(const TileShape& shape, const float* lse, const float* delta, const float* keep,
                           float* scores, float* dweights) {
    const Float hidden = Simd::Set(kMinusInfinity);
    const Float zero = Simd::Set(0.0f);
    for (int row = shape.row_begin; row < shape.row_end; ++row) {
      const Float row_lse = Simd::Set(lse[row]);
      const Float row_delta = Simd::Set(delta[row]);
      for (int c = shape.panel_begin * kPanel; c < shape.panel_end * kPanel; c += kLanes) {
        float* s = scores + row * kScoreStride + c;
        float* d = dweights + row * kScoreStride + c;
        const Float score = Simd::Load(s);
        const Float p = Simd::Exp(Simd::Sub(score, row_lse));
        Float dweight = Simd::Load(d);
        Float weight = p;
        if (kDropout) {
          const Float factor = Simd::Load(keep + row * kScoreStride + c);
          dweight = Simd::Mul(dweight, factor);
          weight = Simd::Mul(weight, factor);
        }
        Float dscore = Simd::Mul(p, Simd::Sub(dweight, row_delta));
        // The dweight of a hidden pair may be undefined, so select zero instead of multiplying by it.
        if (kMasked) dscore = Simd::Select(Simd::Equal(score, hidden), zero, dscore);
        Simd::Store(d, dscore);
        Simd::Store(s, weight);
      }
    }
  }

  static void Backward(const TileShape& shape, const float* lse, const float* delta, float* scores, float* dweights) {
    const auto rows = shape.masked ? BackwardRows<true, false> : BackwardRows<false, false>;
    rows(shape, lse, delta, nullptr, scores, dweights);
  }

  static void BackwardDropout(const TileShape& shape, const float* lse, const float* delta, const float* keep,
                              float* scores, float* dweights) {
    const auto rows = shape.masked ? BackwardRows<true, true> : BackwardRows<false, true>;
    rows(shape, lse, delta, keep, scores, dweights);
  }

  // One 16 x 16 block at a time; core/dropout.h defines the layout of its words.
  static void DropoutKeep(const DropoutStream& stream, uint32_t head, int64_t row0, int64_t key0,
                          const TileShape& shape, float* keep) {
    for (int r = shape.row_begin / kDropoutBlock * kDropoutBlock; r < shape.row_end; r += kDropoutBlock) {
      for (int panel = shape.panel_begin; panel < shape.panel_end; ++panel) {
        const uint32_t block_row = static_cast<uint32_t>((row0 + r) / kDropoutBlock);
        const uint32_t block_col = static_cast<uint32_t>(key0 / kDropoutBlock + panel);
        Philox4 bits[kDropoutLanes];
        for (int lane = 0; lane < kDropoutLanes; ++lane) {
          bits[lane] = stream.Lane(head, block_row, block_col, static_cast<uint32_t>(lane));
        }
        float* block = keep + r * kScoreStride + panel * kPanel;
        for (int lane = 0; lane < kDropoutLanes; ++lane) {
          for (int word = 0; word < 8; ++word) {
            const int row = lane / 4 + word / 2 % 2 * 8;
            const int col = lane % 4 * 2 + word / 4 * 8 + word % 2;
            block[row * kScoreStride + col] = stream.KeepsWord(bits[lane], word) ? stream.keep_scale : 0.0f;
          }
        }
      }
    }
  }

  static void ScaleBy(const TileShape& shape, const float* factor, float* scores) {
    for (int row = shape.row_begin; row < shape.row_end; ++row) {
      for (int c = shape.panel_begin * kPanel; c < shape.panel_end * kPanel; c += kLanes) {
        float* s = scores + row * kScoreStride + c;
        Simd::Store(s, Simd::Mul(Simd::Load(s), Simd::Load(factor + row * kScoreStride + c)));
      }
    }
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_SOFTMAX_H_
