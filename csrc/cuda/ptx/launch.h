// Host interface to the device: limits, clearing memory, launches. Nothing here waits for the device.
#ifndef PFM_CUDA_PTX_LAUNCH_H_
#define PFM_CUDA_PTX_LAUNCH_H_

#include <cstddef>
#include <cstdint>

namespace pfm::cuda::ptx {

struct LaunchStatus {
  int code = 0;              // 0: success, else a cudaError_t or, in the emulator, 1
  const char* message = "";  // lives as long as the process, or until the next launch

  bool ok() const { return code == 0; }
};

struct DeviceLimits {
  int compute_capability;  // 10 * major + minor
  int multiprocessors;
  int shared_bytes;  // maximum per block
};

// Of the current device.
LaunchStatus ReadDeviceLimits(DeviceLimits* limits);

// Sets bytes to zero, in stream order.
LaunchStatus ClearMemory(void* memory, size_t bytes, void* stream);

// Hooks for the arrays within a workspace: the emulator pads and names them, on a GPU they do nothing.
size_t RoomBeforeArray();  // a multiple of any alignment
void StartArrays(void* memory);
void NameArray(void* array, size_t bytes, const char* name);

// kernel<<<blocks, threads, shared_bytes, stream>>>(arguments), or nothing if blocks is 0.
template <class Arguments>
LaunchStatus Launch(void (*kernel)(Arguments), int64_t blocks, int threads, int shared_bytes, void* stream,
                    const Arguments& arguments);

}  // namespace pfm::cuda::ptx

#if defined(PFM_EMULATOR)
#include "emulator/launch.h"
#else
#include "device_launch.h"
#endif

#endif  // PFM_CUDA_PTX_LAUNCH_H_
