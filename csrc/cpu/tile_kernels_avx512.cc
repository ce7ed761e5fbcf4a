#include "simd_avx512.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

// No products of packed tiles: a processor that splits 512-bit FMAs in two reaches its peak with the AVX2 products.
constexpr RowKernels kAvx512Rows = MakeRowKernels<Avx512>();
constexpr SoftmaxKernels kAvx512Softmax = MakeSoftmaxKernels<Avx512>();

}  // namespace pfm::cpu
