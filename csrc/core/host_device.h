// Lets the core headers compile as plain C++ and as CUDA without knowing either toolkit.
//
// Always inlined, because files compiled for different instruction sets share these functions: an out-of-line copy
// could hold instructions that the machine at hand lacks.
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
