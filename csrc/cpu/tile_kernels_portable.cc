#include "simd_portable.h"
#include "tile_kernels_table.h"

namespace pfm::cpu {

const TileKernels* PortableTileKernels() {
  static constexpr TileKernels kTable = MakeTileKernels<Portable>("portable");
  return &kTable;
}

}  // namespace pfm::cpu
