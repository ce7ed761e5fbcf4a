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
  int l2_bytes;
};

// Dynamic shared memory of a block. `most` is a property of the kernel, the same for every launch on a device: it is
// set before each launch, and another thread may launch the same kernel with fewer bytes in between.
struct SharedBytes {
  int used, most;

  SharedBytes(int bytes) : SharedBytes(bytes, bytes) {}
  SharedBytes(int used_bytes, int most_bytes) : used(used_bytes), most(most_bytes) {}
};

// Of the current device.
LaunchStatus ReadDeviceLimits(DeviceLimits* limits);

// Sets bytes to zero, in stream order.
LaunchStatus ClearMemory(void* memory, size_t bytes, void* stream);

// Hooks for the arrays within a workspace: the emulator pads and names them, on a GPU they do nothing.
size_t RoomBeforeArray();  // a multiple of any alignment
void StartArrays(void* memory);
void NameArray(void* array, size_t bytes, const char* name);

// kernel<<<blocks, threads, shared.used, stream>>>(arguments), or nothing if blocks is 0.
template <class Arguments>
LaunchStatus Launch(void (*kernel)(Arguments), int64_t blocks, int threads, SharedBytes shared, void* stream,
                    const Arguments& arguments);

}  // namespace pfm::cuda::ptx

#if defined(PFM_EMULATOR)
#include "emulator/launch.h"
#else
#include "device_launch.h"
#endif

#endif  // PFM_CUDA_PTX_LAUNCH_H_
