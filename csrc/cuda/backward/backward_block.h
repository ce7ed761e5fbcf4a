// Work of one block in the pass over key tiles.
#ifndef PFM_CUDA_BACKWARD_BACKWARD_BLOCK_H_
#define PFM_CUDA_BACKWARD_BACKWARD_BLOCK_H_

#include <cstdint>

#include "backward_arguments.h"

namespace pfm::cuda {

// Keys and query heads (from first_head on) of a block. Longest first: key tiles seen by many query tiles, by the
// mask of the first head.
struct BackwardBlock {
  int32_t batch, kv_head, first_head, key_tile, split, rank;

  BackwardBlock() = default;

  // index: place in the order of work.
  PFM_DEVICE BackwardBlock(const BackwardArguments& arguments, int32_t index) {
    const HeadGroups::Item item = arguments.groups.At(index, arguments.mask.key_tiles);
    const int32_t kv_heads = static_cast<int32_t>(arguments.params.heads_kv);
    batch = item.head / arguments.splits / kv_heads;
    kv_head = item.head / arguments.splits % kv_heads;
    split = item.head % arguments.splits;
    first_head = (kv_head * arguments.splits + split) * arguments.heads_per_split();
    rank = item.rank;
    key_tile = KeyTileOf(arguments.mask, rank);
  }

  PFM_DEVICE int32_t KeyTileOf(const MaskTable& mask, int32_t of_rank) const {
    return ptx::LoadGlobal(mask.key_order + mask.MaskOf(batch, first_head) * mask.key_tiles + of_rank);
  }
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_BACKWARD_BLOCK_H_
