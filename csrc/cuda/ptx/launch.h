// What the host asks of a device: launches, clearing memory, limits. Nothing here waits for the device.
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
  int shared_bytes;  // the most that one block may ask for
};

// Of the current device.
LaunchStatus ReadDeviceLimits(DeviceLimits* limits);

// Sets bytes to zero, in the order of the stream.
LaunchStatus ClearMemory(void* memory, size_t bytes, void* stream);

// Of memory that the library divides into arrays. What checks accesses keeps room in front of each and knows it by
// name; a GPU needs neither.
size_t RoomBeforeArray();  // a multiple of any alignment
void StartArrays(void* memory);
void NameArray(void* array, size_t bytes, const char* name);

// kernel<<<blocks, threads, shared_bytes, stream>>>(arguments). No block: nothing happens.
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
