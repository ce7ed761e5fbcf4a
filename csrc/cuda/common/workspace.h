// Checks of the workspace passed with a call.
#ifndef PFM_CUDA_COMMON_WORKSPACE_H_
#define PFM_CUDA_COMMON_WORKSPACE_H_

#include <cstdint>

#include "arena.h"
#include "result.h"

namespace pfm::cuda {

inline Result CheckWorkspace(const pfm_params& params, size_t needed) {
  if (params.workspace_size < needed) {
    return Fail(PFM_WORKSPACE_TOO_SMALL, "workspace_size is %zu, expected at least %zu", params.workspace_size,
                needed);
  }
  if (needed != 0 && params.workspace == nullptr) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is null, expected %zu bytes", needed);
  }
  if (needed != 0 && reinterpret_cast<uintptr_t>(params.workspace) % Arena::kAlignment != 0) {
    return Fail(PFM_INVALID_ARGUMENT, "workspace is at %p, expected a multiple of %zu bytes", params.workspace,
                Arena::kAlignment);
  }
  return {};
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_WORKSPACE_H_
