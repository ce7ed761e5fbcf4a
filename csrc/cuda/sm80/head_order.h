// Groups of query heads whose keys and values fit the L2 cache together, for kernels that own a query tile.
#ifndef PFM_CUDA_SM80_HEAD_ORDER_H_
#define PFM_CUDA_SM80_HEAD_ORDER_H_

#include "../../flashmask.h"
#include "../common/head_groups.h"
#include "../common/limits.h"

namespace pfm::cuda::sm80 {

inline HeadGroups QueryHeadGroups(const pfm_params& params, int64_t l2_bytes) {
  const int64_t bytes_per_head = params.seqlen_k * (params.head_dim + params.head_dim_v) * kElementBytes;
  return HeadGroups::Make(params.batch * params.heads_q, bytes_per_head, params.heads_q / params.heads_kv,
                          CachedBytes(l2_bytes));
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_HEAD_ORDER_H_
