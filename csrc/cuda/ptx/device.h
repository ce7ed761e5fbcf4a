// Bodies of ptx.h on a GPU. Included by it only.
#ifndef PFM_CUDA_PTX_DEVICE_H_
#define PFM_CUDA_PTX_DEVICE_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

namespace pfm::cuda::ptx {

constexpr uint32_t kFullWarp = 0xffffffffu;

PFM_DEVICE inline int ThreadIndex() {
  __builtin_assume(threadIdx.x < 1024);  // nonnegative as an int, so divisions by powers of two become shifts
  return static_cast<int>(threadIdx.x);
}
PFM_DEVICE inline int LaneIndex() { return static_cast<int>(threadIdx.x % 32); }
// Volatile, so that values derived from it in a rare branch are computed there, not kept in registers across a loop.
PFM_DEVICE inline int BlockIndex() {
  int index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  __builtin_assume(index >= 0);
  return index;
}

PFM_DEVICE inline SharedAddress DynamicShared() {
  extern __shared__ __align__(128) unsigned char pfm_dynamic_shared[];
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pfm_dynamic_shared));
}

// T as words, so that one instruction serves every type of a size.
template <class T>
union Words {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "a load or store of 4, 8 or 16 bytes");
  T value;
  uint32_t word[sizeof(T) / 4];
  __device__ Words() {}
};

template <class T>
PFM_DEVICE inline T LoadShared(SharedAddress address, Where) {
  Words<T> result;
  if constexpr (sizeof(T) == 4) {
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(result.word[0]) : "r"(address) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];"
                 : "=r"(result.word[0]), "=r"(result.word[1])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(result.word[0]), "=r"(result.word[1]), "=r"(result.word[2]), "=r"(result.word[3])
                 : "r"(address)
                 : "memory");
  }
  return result.value;
}

template <class T>
PFM_DEVICE inline void StoreShared(SharedAddress address, const T& value, Where) {
  Words<T> words;
  words.value = value;
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(words.word[0]) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(words.word[0]), "r"(words.word[1])
                 : "memory");
  } else {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(words.word[0]), "r"(words.word[1]),
                 "r"(words.word[2]), "r"(words.word[3])
                 : "memory");
  }
}

PFM_DEVICE inline int32_t AtomicAddShared(SharedAddress address, int32_t value, Where) {
  int32_t before;
  asm volatile("atom.shared.add.s32 %0, [%1], %2;" : "=r"(before) : "r"(address), "r"(value) : "memory");
  return before;
}

template <class T>
PFM_DEVICE inline T LoadGlobal(const T* address, Where) {
  return *address;
}

template <class T>
PFM_DEVICE inline void StoreGlobal(T* address, const typename SameType<T>::Type& value, Where) {
  *address = value;
}

PFM_DEVICE inline int32_t AtomicAdd(int32_t* address, int32_t value, Where) { return atomicAdd(address, value); }
PFM_DEVICE inline float AtomicAdd(float* address, float value, Where) { return atomicAdd(address, value); }

PFM_DEVICE inline bool HasVectorReductions() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return true;
#else
  return false;
#endif
}

PFM_DEVICE inline void AtomicAddQuad(float* address, const float (&values)[4], Where) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(address)),
               "f"(values[0]), "f"(values[1]), "f"(values[2]), "f"(values[3])
               : "memory");
#else
  for (int i = 0; i < 4; ++i) atomicAdd(address + i, values[i]);
#endif
}

// Reductions, which need no load and no wait.
PFM_DEVICE inline void Add(float* address, float value, Where where) { AtomicAdd(address, value, where); }
PFM_DEVICE inline void AddQuad(float* address, const float (&values)[4], Where where) {
  AtomicAddQuad(address, values, where);
}

PFM_DEVICE inline int32_t LoadAcquire(const int32_t* address, Where) {
  int32_t value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
               : "=r"(value)
               : "l"(__cvta_generic_to_global(address))
               : "memory");
  return value;
}

PFM_DEVICE inline void StoreRelease(int32_t* address, int32_t value, Where) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(__cvta_generic_to_global(address)), "r"(value) : "memory");
}

PFM_DEVICE inline void CopyAsync16(SharedAddress to, const void* from, bool exists, Where) {
  const int bytes = exists ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(bytes)
               : "memory");
}

PFM_DEVICE inline void CommitCopies(Where) { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kGroups>
PFM_DEVICE inline void WaitCopies(Where) {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

PFM_DEVICE inline void SyncThreads(Where) { __syncthreads(); }
PFM_DEVICE inline void SyncWarp(Where) { __syncwarp(); }

PFM_DEVICE inline void NamedBarrierSync(int barrier, int threads, Where) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

PFM_DEVICE inline void NamedBarrierArrive(int barrier, int threads, Where) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

PFM_DEVICE inline void LoadMatrices(uint32_t (&fragment)[4], SharedAddress row, Where) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
}

PFM_DEVICE inline void LoadMatricesTransposed(uint32_t (&fragment)[4], SharedAddress row, Where) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
}

template <class T>
PFM_DEVICE inline void Mma16x8x16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Where) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    static_assert(std::is_same_v<T, Float16>, "Float16 or BFloat16");
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

template <class T>
PFM_DEVICE inline T Shuffle(T value, int lane, Where) {
  static_assert(sizeof(T) == 4, "one register");
  return __shfl_sync(kFullWarp, value, lane);
}

template <class T>
PFM_DEVICE inline T ShuffleXor(T value, int lanes, Where) {
  static_assert(sizeof(T) == 4, "one register");
  return __shfl_xor_sync(kFullWarp, value, lanes);
}

PFM_DEVICE inline uint32_t Ballot(bool predicate, Where) { return __ballot_sync(kFullWarp, predicate); }
PFM_DEVICE inline int32_t ReduceMin(int32_t value, Where) { return __reduce_min_sync(kFullWarp, value); }
PFM_DEVICE inline int32_t ReduceMax(int32_t value, Where) { return __reduce_max_sync(kFullWarp, value); }

PFM_DEVICE inline float Exp2(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

PFM_DEVICE inline float Log2(float value) {
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

PFM_DEVICE inline float Maximum(float a, float b) { return fmaxf(a, b); }
PFM_DEVICE inline float Infinity() { return __int_as_float(0x7f800000); }
PFM_DEVICE inline int LowestBit(uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }
PFM_DEVICE inline int PopulationCount(uint32_t bits) { return __popc(bits); }

template <class T>
PFM_DEVICE inline uint32_t Pack(float low, float high) {
  uint32_t word;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  } else {
    static_assert(std::is_same_v<T, Float16>, "Float16 or BFloat16");
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  }
  return word;
}

template <class T>
PFM_DEVICE inline void Unpack(uint32_t word, float* low, float* high) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    *low = __uint_as_float(word << 16);
    *high = __uint_as_float(word & 0xffff0000u);
  } else {
    static_assert(std::is_same_v<T, Float16>, "Float16 or BFloat16");
    const __half_raw halves[2] = {{static_cast<unsigned short>(word)}, {static_cast<unsigned short>(word >> 16)}};
    *low = __half2float(__half(halves[0]));
    *high = __half2float(__half(halves[1]));
  }
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_CUDA_PTX_DEVICE_H_
