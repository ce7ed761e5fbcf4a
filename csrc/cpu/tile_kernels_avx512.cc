#include "simd_avx512.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

// No products: on a processor that runs a 512-bit FMA in two halves those of AVX2 are at its peak.
constexpr SoftmaxKernels kAvx512Softmax = MakeSoftmaxKernels<Avx512>();

}  // namespace pfm::cpu
