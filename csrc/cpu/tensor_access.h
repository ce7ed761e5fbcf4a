// Addresses and per-call constants of forward and backward.
#ifndef PFM_CPU_TENSOR_ACCESS_H_
#define PFM_CPU_TENSOR_ACCESS_H_

#include <cstdint>

#include "../core/dropout.h"
#include "../flashmask.h"

namespace pfm::cpu {

// Address of element [batch, seq, head, 0].
inline void* At(const pfm_tensor& tensor, int32_t dtype, int64_t batch, int64_t seq, int64_t head) {
  const int64_t element_size = dtype == PFM_FLOAT32 ? 4 : 2;
  return static_cast<char*>(tensor.data) +
         element_size * (batch * tensor.stride_batch + seq * tensor.stride_seq + head * tensor.stride_head);
}

inline DropoutStream DropoutOf(const pfm_params& params) {
  const uint64_t seed = params.seed_offset != nullptr ? params.seed_offset[0] : params.seed;
  const uint64_t offset = params.seed_offset != nullptr ? params.seed_offset[1] : params.offset;
  return MakeDropout(params.dropout, seed, offset, params.dropout_row, params.dropout_key);
}

inline uint32_t DropoutHead(const pfm_params& params, int64_t batch, int64_t head) {
  return static_cast<uint32_t>(batch * params.heads_q + head);
}

}  // namespace pfm::cpu

#endif  // PFM_CPU_TENSOR_ACCESS_H_
