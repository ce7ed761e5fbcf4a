// Float32 sums of dquery in the workspace: blocks of 16 rows x 8 columns, [B * Hq][padded row / 16][column / 8]. The
// 128 sums of a block lie in one of two orders of the accumulators of m16n8k16:
//   in quads       [lane][accumulator]: a lane adds its four accumulators by one vector reduction
//   in lane order  [accumulator][lane]: a scalar reduction of a warp covers four whole sectors of 32 bytes
// Without vector reductions, quads would cost sixteen sectors per reduction and use a quarter of each.
#ifndef PFM_CUDA_BACKWARD_DQUERY_SUMS_H_
#define PFM_CUDA_BACKWARD_DQUERY_SUMS_H_

#include <cstdint>

#include "backward_arguments.h"

namespace pfm::cuda {

// Of a block.
constexpr int kBlockFloats = 16 * 8;

PFM_DEVICE inline float* DqueryBlock(const BackwardArguments& arguments, int64_t row_block, int column_block) {
  return arguments.dquery + (row_block * (arguments.padded_dim / 8) + column_block) * kBlockFloats;
}

// Place in a block of an accumulator, 0 to 3, of a lane.
PFM_HOST_DEVICE int PlaceInBlock(bool in_quads, int lane, int accumulator) {
  return in_quads ? 4 * lane + accumulator : 32 * accumulator + lane;
}

// Address of a lane's four accumulators of a block in quads.
PFM_DEVICE inline float* DqueryFragment(const BackwardArguments& arguments, int64_t row_block, int column_block,
                                        int lane) {
  return arguments.dquery + ((row_block * (arguments.padded_dim / 8) + column_block) * 32 + lane) * 4;
}

// Loads row 0 to 15 of a block: eight columns. They belong to the four lanes of a group, two columns per lane.
PFM_DEVICE inline void LoadBlockRow(const float* block, bool in_quads, int row, float (&sums)[8]) {
  const int first_lane = row % 8 * 4, first_accumulator = row / 8 * 2;
  if (in_quads) {
#pragma unroll
    for (int quad = 0; quad < 4; ++quad) {
      const float* at = block + PlaceInBlock(true, first_lane + quad, first_accumulator);
      const FloatPair pair = ptx::LoadGlobal(reinterpret_cast<const FloatPair*>(at));
      sums[2 * quad] = pair.first;
      sums[2 * quad + 1] = pair.second;
    }
  } else {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const float* at = block + PlaceInBlock(false, first_lane, first_accumulator + odd);
      const FloatQuad lanes = ptx::LoadGlobal(reinterpret_cast<const FloatQuad*>(at));
#pragma unroll
      for (int quad = 0; quad < 4; ++quad) sums[2 * quad + odd] = lanes.value[quad];
    }
  }
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_DQUERY_SUMS_H_
