#include "simd_avx512.h"
#include "softmax.h"
#include "tile_kernels.h"

namespace pfm::cpu {

// The products stay those of AVX2: on a processor that runs a 512-bit FMA in two halves they are at its peak.
const TileKernels* Avx512TileKernels() {
  static const TileKernels kTable = [] {
    TileKernels table = *Avx2TileKernels();
    table.name = "avx512";
    table.shape = Softmax<Avx512>::Shape;
    table.mask = Softmax<Avx512>::ApplyMask;
    table.softmax = Softmax<Avx512>::Forward;
    table.softmax_backward = Softmax<Avx512>::Backward;
    table.softmax_backward_dropout = Softmax<Avx512>::BackwardDropout;
    table.dropout_keep = Softmax<Avx512>::DropoutKeep;
    table.scale_by = Softmax<Avx512>::ScaleBy;
    return table;
  }();
  return &kTable;
}

}  // namespace pfm::cpu
