#include "simd_portable.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

constexpr PackKernels kPortablePack = MakePackKernels<Portable>();
constexpr ProductKernels kPortableProducts = MakeProductKernels<Portable>();
constexpr RowKernels kPortableRows = MakeRowKernels<Portable>();
constexpr SoftmaxKernels kPortableSoftmax = MakeSoftmaxKernels<Portable>();

}  // namespace pfm::cpu
