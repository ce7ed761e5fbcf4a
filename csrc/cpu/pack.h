// Conversion between tensors of any dtype and the float32 panels of the matrix products.
#ifndef PFM_CPU_PACK_H_
#define PFM_CPU_PACK_H_

#include <cstdint>

#include "gemm.h"
#include "tile_kernels.h"

namespace pfm::cpu {

template <class Simd>
struct Float32Elements {
  using Storage = float;
  static typename Simd::Float Load(const float* p) { return Simd::Load(p); }
  static void Store(float* p, typename Simd::Float v) { Simd::Store(p, v); }
};

template <class Simd>
struct Bfloat16Elements {
  using Storage = uint16_t;
  static typename Simd::Float Load(const uint16_t* p) { return Simd::LoadBfloat16(p); }
  static void Store(uint16_t* p, typename Simd::Float v) { Simd::StoreBfloat16(p, v); }
};

template <class Simd>
struct Float16Elements {
  using Storage = uint16_t;
  static typename Simd::Float Load(const uint16_t* p) { return Simd::LoadFloat16(p); }
  static void Store(uint16_t* p, typename Simd::Float v) { Simd::StoreFloat16(p, v); }
};

template <class Simd, class Elements>
struct Pack {
  using Float = typename Simd::Float;
  using Storage = typename Elements::Storage;
  static constexpr int kVectors = kPanel / Simd::kLanes;

  // Sixteen elements of a row, padded with zeros.
  struct Sixteen {
    Float v[kVectors];
  };

  static Sixteen Load(const Storage* src, int count) {
    Storage padded[kPanel] = {};
    if (count < kPanel) {
      for (int i = 0; i < count; ++i) padded[i] = src[i];
      src = padded;
    }
    Sixteen values;
    for (int j = 0; j < kVectors; ++j) values.v[j] = Elements::Load(src + j * Simd::kLanes);
    return values;
  }

  static PFM_INLINE void StoreSixteen(const Sixteen& values, Storage* to, int count) {
    Storage part[kPanel];
    Storage* target = count == kPanel ? to : part;
    for (int j = 0; j < kVectors; ++j) Elements::Store(target + j * Simd::kLanes, values.v[j]);
    if (count < kPanel) {
      for (int i = 0; i < count; ++i) to[i] = part[i];
    }
  }

  // Prefetch distance in rows. Rows of one head are far apart in memory, which defeats hardware prefetching.
  static constexpr int kRowsAhead = 8;

  static PFM_INLINE void FetchRow(const void* base, int64_t row_stride, int row, int rows, int dim) {
    if (row >= rows) return;
    const Storage* from = static_cast<const Storage*>(base) + row * row_stride;
    for (int i = 0; i < dim; i += 64 / static_cast<int>(sizeof(Storage))) __builtin_prefetch(from + i);
  }

  static void FetchFirstRows(const void* base, int64_t row_stride, int rows, int dim) {
    for (int row = 0; row < kRowsAhead; ++row) FetchRow(base, row_stride, row, rows, dim);
  }

  static int Count(int dim, int panel) { return dim - panel * kPanel < kPanel ? dim - panel * kPanel : kPanel; }

  static bool Panels(const void* src, int64_t row_stride, int rows, int dim, float scale, float* dst,
                     int panel_rows) {
    const Float factor = Simd::Set(scale);
    const Float zero = Simd::Set(0.0f);
    Float zeros[kVectors];  // 0 times the elements: NaN once one is not finite
    for (Float& lanes : zeros) lanes = zero;
    FetchFirstRows(src, row_stride, rows, dim);
    for (int row = 0; row < rows; ++row) {
      FetchRow(src, row_stride, row + kRowsAhead, rows, dim);
      const Storage* from = static_cast<const Storage*>(src) + row * row_stride;
      for (int panel = 0; panel < PaddedDim(dim) / kPanel; ++panel) {
        const Sixteen values = Load(from + panel * kPanel, Count(dim, panel));
        float* to = dst + (static_cast<int64_t>(panel) * panel_rows + row) * kPanel;
        for (int j = 0; j < kVectors; ++j) {
          const Float scaled = Simd::Mul(values.v[j], factor);
          Simd::Store(to + j * Simd::kLanes, scaled);
          zeros[j] = Simd::Fma(scaled, zero, zeros[j]);
        }
      }
    }
    for (int panel = 0; panel < PaddedDim(dim) / kPanel; ++panel) {
      float* rest = dst + (static_cast<int64_t>(panel) * panel_rows + rows) * kPanel;
      for (int i = 0; i < (panel_rows - rows) * kPanel; ++i) rest[i] = 0.0f;
    }
    Float sum = zero;
    for (const Float& lanes : zeros) sum = Simd::Add(sum, lanes);
    return Simd::ReduceAdd(sum) == 0.0f;
  }

  static void Transposed(const void* src, int64_t row_stride, int keys, int dim, float* dst) {
    const int padded = PaddedDim(dim);
    for (int key_panel = 0; key_panel < kKeyPanels; ++key_panel) {
      for (int c = 0; c < kPanel; ++c) FetchRow(src, row_stride, (key_panel + 1) * kPanel + c, keys, dim);
      for (int d = 0; d < padded; d += kPanel) {
        float block[kPanel][kPanel] = {};
        for (int c = 0; c < kPanel && key_panel * kPanel + c < keys; ++c) {
          const Storage* from = static_cast<const Storage*>(src) + (key_panel * kPanel + c) * row_stride;
          const Sixteen values = Load(from + d, Count(dim, d / kPanel));
          for (int j = 0; j < kVectors; ++j) Simd::Store(&block[c][j * Simd::kLanes], values.v[j]);
        }
        float* to = dst + (static_cast<int64_t>(key_panel) * padded + d) * kPanel;
        for (int i = 0; i < kPanel; ++i) {
          for (int c = 0; c < kPanel; ++c) to[i * kPanel + c] = block[c][i];
        }
      }
    }
  }

  static void Store(const float* src, int panel_rows, int rows, int dim, const float* row_scale, float scale,
                    void* dst, int64_t row_stride) {
    for (int row = 0; row < rows; ++row) {
      FetchRow(dst, row_stride, row + kRowsAhead, rows, dim);
      const Float factor = Simd::Set(row_scale == nullptr ? scale : row_scale[row] * scale);
      Storage* to = static_cast<Storage*>(dst) + row * row_stride;
      for (int panel = 0; panel < PaddedDim(dim) / kPanel; ++panel) {
        const float* from = src + (static_cast<int64_t>(panel) * panel_rows + row) * kPanel;
        Sixteen values;
        for (int j = 0; j < kVectors; ++j) values.v[j] = Simd::Mul(Simd::Load(from + j * Simd::kLanes), factor);
        StoreSixteen(values, to + panel * kPanel, Count(dim, panel));
      }
    }
  }

  static void RowDots(const void* a, int64_t a_stride, const void* b, int64_t b_stride, int rows, int dim,
                      float* dot) {
    FetchFirstRows(a, a_stride, rows, dim);
    FetchFirstRows(b, b_stride, rows, dim);
    for (int row = 0; row < rows; ++row) {
      FetchRow(a, a_stride, row + kRowsAhead, rows, dim);
      FetchRow(b, b_stride, row + kRowsAhead, rows, dim);
      const Storage* left = static_cast<const Storage*>(a) + row * a_stride;
      const Storage* right = static_cast<const Storage*>(b) + row * b_stride;
      Float sum = Simd::Set(0.0f);
      for (int panel = 0; panel < PaddedDim(dim) / kPanel; ++panel) {
        const Sixteen x = Load(left + panel * kPanel, Count(dim, panel));
        const Sixteen y = Load(right + panel * kPanel, Count(dim, panel));
        for (int j = 0; j < kVectors; ++j) sum = Simd::Fma(x.v[j], y.v[j], sum);
      }
      dot[row] = Simd::ReduceAdd(sum);
    }
  }
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_PACK_H_
