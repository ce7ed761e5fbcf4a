// Order of work items over heads. Blocks that run at the same time should share what they read: heads are processed
// in groups whose tensors fit the L2 cache together, and within a group the longest tiles of all heads come first.
#ifndef PFM_CUDA_COMMON_HEAD_GROUPS_H_
#define PFM_CUDA_COMMON_HEAD_GROUPS_H_

#include <cstdint>

#include "../../core/host_device.h"
#include "../ptx/types.h"

namespace pfm::cuda {

// Budget for what the heads of a group share: half of the L2 cache of an H100 (50 MB), whose two halves may each hold
// a copy. The rest is for what is not shared and for lines about to be evicted.
constexpr int64_t kCachedBytes = 24 << 20;

// The same on a device with an L2 cache of this size, and the budget if key tiles take turns at dquery: more heads
// then run at once, so that fewer blocks of one head wait for each other.
constexpr int64_t CachedBytes(int64_t l2_bytes) { return l2_bytes / 2; }
constexpr int64_t TurnCachedBytes(int64_t l2_bytes) { return l2_bytes / 5 * 4; }

struct HeadGroups {
  int32_t heads;            // over all batches
  int32_t heads_per_group;  // the last group may have fewer

  // As many heads per group as fit `cached_bytes`, where `sharing` heads share tensors of `bytes`; at least
  // `sharing`.
  static HeadGroups Make(int64_t heads, int64_t bytes, int64_t sharing, int64_t cached_bytes) {
    const int64_t fitting = Max<int64_t>(1, cached_bytes / Max<int64_t>(1, bytes)) * sharing;
    return {static_cast<int32_t>(heads), static_cast<int32_t>(Min(fitting, heads))};
  }

  struct Item {
    int32_t head;
    int32_t rank;  // among the tiles of the head
  };

  // Item `index` of heads * tiles. Ranks of a head ascend with the index.
  PFM_DEVICE Item At(int32_t index, int32_t tiles) const {
    const int32_t group_items = heads_per_group * tiles;
    const int32_t first = index / group_items * heads_per_group;
    const int32_t in_group = Min(heads_per_group, heads - first);
    return {first + index % group_items % in_group, index % group_items / in_group};
  }
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_HEAD_GROUPS_H_
