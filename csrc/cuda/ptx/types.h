// Types and annotations of ptx.h.
#ifndef PFM_CUDA_PTX_TYPES_H_
#define PFM_CUDA_PTX_TYPES_H_

#include <cstdint>

#if defined(PFM_EMULATOR)
#define PFM_DEVICE
#define PFM_KERNEL_BOUNDS(threads, blocks_per_multiprocessor) inline
#define PFM_KERNEL_ARGUMENT const
#else
#define PFM_DEVICE __device__ __attribute__((always_inline))
#define PFM_KERNEL_BOUNDS(threads, blocks_per_multiprocessor) \
  static __global__ __launch_bounds__(threads, blocks_per_multiprocessor)
#define PFM_KERNEL_ARGUMENT const __grid_constant__
#endif

namespace pfm::cuda::ptx {

// Source location of a call, for reports: a parameter with the default Where::Here().
#if defined(PFM_EMULATOR)
struct Where {
  const char* file;
  int line;

  static constexpr Where Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};
#else
struct Where {
  PFM_DEVICE static constexpr Where Here() { return {}; }
};
#endif

// Element types of Mma16x8x16, Wgmma, Pack and Unpack.
struct Float16;
struct BFloat16;

// Bytes from the start of the block's shared memory window.
using SharedAddress = uint32_t;

struct alignas(16) Vector16 {
  uint32_t word[4];
};

template <class T>
struct SameType {
  using Type = T;
};

}  // namespace pfm::cuda::ptx

#endif  // PFM_CUDA_PTX_TYPES_H_
