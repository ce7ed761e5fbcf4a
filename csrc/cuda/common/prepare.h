// Mask preparation on the device: turns startend_row_indices into a MaskTable, without host synchronisation or device
// globals. Every launch writes the whole table, so the workspace needs no initialisation and CUDA graphs can replay
// it.
#ifndef PFM_CUDA_COMMON_PREPARE_H_
#define PFM_CUDA_COMMON_PREPARE_H_

#include "../../flashmask.h"
#include "../ptx/launch.h"
#include "arena.h"
#include "mask_table.h"

namespace pfm::cuda {

// Table for tiles of tile_q x tile_k, with arrays allocated from the arena. Both sizes divide 128.
MaskTable TakeMaskTable(const pfm_params& params, int tile_q, int tile_k, Arena* arena);
// Allocate what only some kernels read, so that PrepareMask computes it too: an order of the tiles, bounds of groups.
void TakeQueryOrder(MaskTable* table, Arena* arena);
void TakeKeyOrder(MaskTable* table, Arena* arena);
void TakeKeyGroups(MaskTable* table, Arena* arena);

// Fills the table on params.stream.
ptx::LaunchStatus PrepareMask(const pfm_params& params, const MaskTable& table);

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_PREPARE_H_
