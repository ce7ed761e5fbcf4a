#include "simd_avx2.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

constexpr PackKernels kAvx2Pack = MakePackKernels<Avx2>();
constexpr ProductKernels kAvx2Products = MakeProductKernels<Avx2>();
constexpr RowKernels kAvx2Rows = MakeRowKernels<Avx2>();
constexpr SoftmaxKernels kAvx2Softmax = MakeSoftmaxKernels<Avx2>();

}  // namespace pfm::cpu
