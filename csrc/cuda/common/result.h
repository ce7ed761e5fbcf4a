// Status and message of a kernel call.
#ifndef PFM_CUDA_COMMON_RESULT_H_
#define PFM_CUDA_COMMON_RESULT_H_

#include <cstdarg>
#include <cstdio>

#include "../../flashmask.h"

namespace pfm::cuda {

struct Result {
  pfm_status status = PFM_OK;
  char message[256] = "";
};

__attribute__((format(printf, 2, 3))) inline Result Fail(pfm_status status, const char* format, ...) {
  Result result;
  result.status = status;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(result.message, sizeof(result.message), format, arguments);
  va_end(arguments);
  return result;
}

inline bool Failed(const Result& result) { return result.status != PFM_OK; }

// Status: ptx::LaunchStatus
template <class Status>
Result FromLaunch(const char* what, const Status& status) {
  if (status.ok()) return {};
  return Fail(PFM_DEVICE_ERROR, "%s could not be launched: %s", what, status.message);
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_RESULT_H_
