// What the sm90 forward kernel is given.
#ifndef PFM_CUDA_SM90_FORWARD_ARGUMENTS_H_
#define PFM_CUDA_SM90_FORWARD_ARGUMENTS_H_

#include "../common/mask_table.h"
#include "../ptx/tensor_map.h"

namespace pfm::cuda::sm90 {

// A work item is a query tile of one head of one batch. Heads are taken in groups whose keys and values stay in the
// second-level cache together, and the longest query tiles of a group come first.
struct WorkOrder {
  int32_t items;
  int32_t heads_q, query_heads;  // per batch, of all batches
  int32_t heads_per_group;       // query heads
  int32_t* next;                 // the first item that no block has taken; zero at the start
};

struct ForwardArguments {
  ptx::TensorMap query, out;  // boxes of 64 rows
  ptx::TensorMap key, value;  // boxes of a key tile
  MaskTable mask;
  WorkOrder work;
  int32_t heads_per_kv_head;
  float scale;  // of scores, in units of log2; positive
  const float* sink;
  float* lse;
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_ARGUMENTS_H_
