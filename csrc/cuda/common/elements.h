// Elements of the tensors of the C ABI: 16-bit numbers, moved 16 bytes at a time.
#ifndef PFM_CUDA_COMMON_ELEMENTS_H_
#define PFM_CUDA_COMMON_ELEMENTS_H_

#include <cstdint>

#include "../../flashmask.h"
#include "../ptx/types.h"
#include "limits.h"

namespace pfm::cuda {

// Two adjacent float32 values.
struct alignas(8) FloatPair {
  float first, second;
};

// Four adjacent float32 values.
struct alignas(16) FloatQuad {
  float value[4];
};

// Address of element [batch, seq, head, 0].
PFM_DEVICE inline char* RowOf(const pfm_tensor& tensor, int64_t batch, int64_t seq, int64_t head) {
  return static_cast<char*>(tensor.data) +
         (batch * tensor.stride_batch + seq * tensor.stride_seq + head * tensor.stride_head) * kElementBytes;
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_ELEMENTS_H_
