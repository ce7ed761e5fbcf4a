// Arguments common to the backward kernels of all architectures: the problem, its mask, rows and sums.
#ifndef PFM_CUDA_BACKWARD_BACKWARD_ARGUMENTS_H_
#define PFM_CUDA_BACKWARD_BACKWARD_ARGUMENTS_H_

#include <cstdint>

#include "../../core/dropout.h"
#include "../../flashmask.h"
#include "../common/elements.h"
#include "../common/head_groups.h"
#include "../common/mask_table.h"

namespace pfm::cuda {

constexpr int kRowsPerBlock = 64;  // of PrepareRows; divides every query tile

struct BackwardArguments {
  pfm_params params;
  MaskTable mask;
  DropoutStream dropout;
  int64_t padded_rows;  // Sq rounded up to kRowsPerBlock
  float* lse;          // [B * Hq][padded row] in units of log2; +inf for rows that see no key: probabilities become 0
  float* delta;        // [B * Hq][padded row]: rowsum(dout * out) - dlse, so that dS = P * (dP - delta)
  float* dsink;        // [B * Hq][block of rows]
  float* dquery;       // sums in the order of dquery_sums.h, or null: a pass of its own
  int32_t* turns;      // [B * Hq][block of kRowsPerBlock rows], or null: dquery is added in any order
  int32_t* ticket;     // the next place in the order of work; null without turns
  int32_t padded_dim;  // head dim of the instantiation
  int32_t row_blocks;  // padded_rows / kRowsPerBlock

  // Query heads of a group go to `splits` blocks where there would be too few: each leaves its dkey and dvalue as
  // float32 [split][B * Hkv][padded key][padded_dim], and a kernel of its own sums them in order.
  int32_t splits;
  HeadGroups groups;  // of (batch, key-value head, split), each the work of one block per key tile
  float* dkey_parts;
  float* dvalue_parts;

  PFM_HOST_DEVICE int32_t heads_per_split() const {
    return static_cast<int32_t>(params.heads_q / params.heads_kv) / splits;
  }
};

// Whether any key tile may add to the query tile of this padded row. If none does, its sums of dquery are neither
// cleared nor added to nor read: the count includes the live tiles of every key tile.
PFM_DEVICE inline bool IsReached(const BackwardArguments& arguments, int64_t batch, int64_t head, int64_t row) {
  const MaskTable& mask = arguments.mask;
  const int64_t first = mask.MaskOf(batch, static_cast<int32_t>(head)) * (mask.query_tiles + 1);
  return ptx::LoadGlobal(mask.work + first + row / mask.tile_q) > 0;
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_BACKWARD_ARGUMENTS_H_
