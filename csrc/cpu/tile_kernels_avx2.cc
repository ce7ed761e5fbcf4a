#include "simd_avx2.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

const TileKernels* Avx2TileKernels() {
  static constexpr TileKernels kTable = MakeTileKernels<Avx2>("avx2");
  return &kTable;
}

}  // namespace pfm::cpu
