// Tables of one instruction set.
#ifndef PFM_CPU_TILE_KERNELS_TABLE_H_
#define PFM_CPU_TILE_KERNELS_TABLE_H_

#include "gemm.h"
#include "pack.h"
#include "row_products.h"
#include "softmax.h"

namespace pfm::cpu {

template <class Simd>
constexpr PackKernels MakePackKernels() {
  using Float32 = Pack<Simd, Float32Elements<Simd>>;
  using Bfloat16 = Pack<Simd, Bfloat16Elements<Simd>>;
  using Float16 = Pack<Simd, Float16Elements<Simd>>;
  return {
      {Float32::Panels, Bfloat16::Panels, Float16::Panels},
      {Float32::Transposed, Bfloat16::Transposed, Float16::Transposed},
      {Float32::Store, Bfloat16::Store, Float16::Store},
      {Float32::RowDots, Bfloat16::RowDots, Float16::RowDots},
  };
}

template <class Simd>
constexpr ProductKernels MakeProductKernels() {
  return {Gemm<Simd>::Multiply, Gemm<Simd>::Accumulate, Gemm<Simd>::AccumulateTransposed};
}

template <class Simd>
constexpr RowKernels MakeRowKernels() {
  using Float32 = RowProducts<Simd, Float32Elements<Simd>>;
  using Bfloat16 = RowProducts<Simd, Bfloat16Elements<Simd>>;
  using Float16 = RowProducts<Simd, Float16Elements<Simd>>;
  return {
      {Float32::Dots, Bfloat16::Dots, Float16::Dots},
      {Float32::Accumulate, Bfloat16::Accumulate, Float16::Accumulate},
      {Float32::StoreCombinations, Bfloat16::StoreCombinations, Float16::StoreCombinations},
      {Float32::Finite, Bfloat16::Finite, Float16::Finite},
  };
}

template <class Simd>
constexpr SoftmaxKernels MakeSoftmaxKernels() {
  return {
      Softmax<Simd>::Shape,          Softmax<Simd>::ApplyMask, Softmax<Simd>::Forward,
      Softmax<Simd>::ForwardColumns, Softmax<Simd>::Backward,  Softmax<Simd>::BackwardDropout,
      Softmax<Simd>::DropoutKeep,    Softmax<Simd>::ScaleBy,
  };
}

}  // namespace pfm::cpu

#endif  // PFM_CPU_TILE_KERNELS_TABLE_H_
