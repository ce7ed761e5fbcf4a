// Arguments of the sm90 forward kernel.
#ifndef PFM_CUDA_SM90_FORWARD_ARGUMENTS_H_
#define PFM_CUDA_SM90_FORWARD_ARGUMENTS_H_

#include "../common/head_groups.h"
#include "../common/mask_table.h"
#include "../ptx/tensor_map.h"

namespace pfm::cuda::sm90 {

// Order of the work items. An item is a query tile of one (batch, head). Heads are processed in groups whose keys and
// values fit the L2 cache together; within a group the longest query tiles come first.
struct WorkOrder {
  int32_t items;
  int32_t heads_q;    // query heads per batch
  HeadGroups groups;  // of query heads
  int32_t* next;      // next item to hand out; zero at launch
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
