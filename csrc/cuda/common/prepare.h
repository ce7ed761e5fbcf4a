// Mask preparation on the device: startend_row_indices to a MaskTable. No host synchronisation, no device globals;
// everything is written by every launch, so the workspace may hold anything before and a graph may replay it.
#ifndef PFM_CUDA_COMMON_PREPARE_H_
#define PFM_CUDA_COMMON_PREPARE_H_

#include "../../flashmask.h"
#include "../ptx/launch.h"
#include "arena.h"
#include "mask_table.h"

namespace pfm::cuda {

// The table for tiles of tile_q x tile_k, with its arrays taken from the arena. Both tile sizes divide 128.
MaskTable TakeMaskTable(const pfm_params& params, int tile_q, int tile_k, Arena* arena);
// Has PrepareMask order the key tiles too.
void TakeKeyOrder(MaskTable* table, Arena* arena);

// Fills the table on params.stream.
ptx::LaunchStatus PrepareMask(const pfm_params& params, const MaskTable& table);

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_PREPARE_H_
