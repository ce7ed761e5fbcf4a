#include "simd_avx512.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

constexpr ProductKernels kAvx512Products = MakeProductKernels<Avx512>();
constexpr RowKernels kAvx512Rows = MakeRowKernels<Avx512>();
constexpr SoftmaxKernels kAvx512Softmax = MakeSoftmaxKernels<Avx512>();

}  // namespace pfm::cpu
