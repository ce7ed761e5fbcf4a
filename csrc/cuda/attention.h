// The CUDA implementation of the C ABI. Parameters are validated before they get here, except for what only this
// device refuses: Supported says so. Calls only enqueue work on params.stream.
#ifndef PFM_CUDA_ATTENTION_H_
#define PFM_CUDA_ATTENTION_H_

#include <cstddef>

#include "../flashmask.h"

namespace pfm::cuda {

struct Result {
  pfm_status status = PFM_OK;
  char message[256] = "";
};

// What these kernels refuse although it is valid: float32, head dims that are no multiple of 8, and, with
// check_pointers, rows that are not aligned to 16 bytes.
Result Supported(const pfm_params& params, bool check_pointers);

// Bytes on the current device.
Result ForwardWorkspace(const pfm_params& params, size_t* bytes);
Result BackwardWorkspace(const pfm_params& params, size_t* bytes);

Result Forward(const pfm_params& params);
Result Backward(const pfm_params& params);

}  // namespace pfm::cuda

#endif  // PFM_CUDA_ATTENTION_H_
