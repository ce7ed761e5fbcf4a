// Bodies of launch.h on the CUDA runtime. Included by it only.
#ifndef PFM_CUDA_PTX_DEVICE_LAUNCH_H_
#define PFM_CUDA_PTX_DEVICE_LAUNCH_H_

#include <cuda_runtime.h>

namespace pfm::cuda::ptx {

inline LaunchStatus StatusOf(cudaError_t error) {
  return {static_cast<int>(error), error == cudaSuccess ? "" : cudaGetErrorString(error)};
}

inline LaunchStatus ReadDeviceLimits(DeviceLimits* limits) {
  int device = 0, major = 0, minor = 0;
  cudaError_t error = cudaGetDevice(&device);
  const auto read = [&](int* value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, attribute, device);
  };
  read(&major, cudaDevAttrComputeCapabilityMajor);
  read(&minor, cudaDevAttrComputeCapabilityMinor);
  read(&limits->multiprocessors, cudaDevAttrMultiProcessorCount);
  read(&limits->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  read(&limits->l2_bytes, cudaDevAttrL2CacheSize);
  limits->compute_capability = 10 * major + minor;
  return StatusOf(error);
}

inline LaunchStatus ClearMemory(void* memory, size_t bytes, void* stream) {
  return StatusOf(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(stream)));
}

inline size_t RoomBeforeArray() { return 0; }
inline void StartArrays(void*) {}
inline void NameArray(void*, size_t, const char*) {}

template <class Arguments>
LaunchStatus Launch(void (*kernel)(Arguments), int64_t blocks, int threads, SharedBytes shared, void* stream,
                    const Arguments& arguments) {
  if (blocks == 0) return {};
  if (blocks > INT32_MAX) return {static_cast<int>(cudaErrorInvalidConfiguration), "more than 2^31 - 1 blocks"};
  constexpr int kSharedWithoutAsking = 48 * 1024;
  if (shared.most > kSharedWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, shared.most);
    if (error != cudaSuccess) return StatusOf(error);
  }
  void* pointers[] = {const_cast<Arguments*>(&arguments)};
  return StatusOf(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
                                   dim3(static_cast<unsigned>(threads)), pointers, static_cast<size_t>(shared.used),
                                   static_cast<cudaStream_t>(stream)));
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_CUDA_PTX_DEVICE_LAUNCH_H_
