// Function annotations with which the core headers compile both as C++ and as CUDA.
//
// The functions are always inlined because files compiled for different instruction sets share them: the linker could
// otherwise keep an out-of-line copy with instructions that this processor lacks.
#ifndef PFM_CORE_HOST_DEVICE_H_
#define PFM_CORE_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define PFM_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PFM_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace pfm {

template <class T>
PFM_HOST_DEVICE constexpr T Min(T a, T b) {
  return b < a ? b : a;
}

template <class T>
PFM_HOST_DEVICE constexpr T Max(T a, T b) {
  return a < b ? b : a;
}

template <class T>
PFM_HOST_DEVICE constexpr T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

template <class T>
PFM_HOST_DEVICE constexpr T RoundUp(T a, T b) {
  return CeilDiv(a, b) * b;
}

}  // namespace pfm

#endif  // PFM_CORE_HOST_DEVICE_H_
