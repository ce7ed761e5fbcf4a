// Hardware primitives of the kernels. Kernels contain no PTX, intrinsics or CUDA variables, and access shared and
// global memory only through the functions below. The same source therefore runs on a GPU (device.h) and, built with
// PFM_EMULATOR, on the CPU (tests/emulator/primitives.h, docs/emulator.md).
//
// Grids and blocks have one dimension; blocks consist of whole warps. "Collective": every lane of the warp executes
// the same call. Functions take the source location of their call as a last, defaulted argument, for reports of the
// emulator.
//
//   template <class T> PFM_KERNEL_BOUNDS(128, 1) void Kernel(PFM_KERNEL_ARGUMENT Arguments arguments)   a kernel;
//       launch.h launches it
//   PFM_DEVICE                                                                a function of a kernel
#ifndef PFM_CUDA_PTX_PTX_H_
#define PFM_CUDA_PTX_PTX_H_

#include "types.h"

namespace pfm::cuda::ptx {

// ---- Thread and block indices

PFM_DEVICE inline int ThreadIndex();
PFM_DEVICE inline int LaneIndex();
PFM_DEVICE inline int BlockIndex();

// ---- Shared memory. T has 4, 8 or 16 bytes; addresses are aligned to its size.

PFM_DEVICE inline SharedAddress DynamicShared();  // its start, 128-byte aligned

template <class T>
PFM_DEVICE inline T LoadShared(SharedAddress address, Where where = Where::Here());
template <class T>
PFM_DEVICE inline void StoreShared(SharedAddress address, const T& value, Where where = Where::Here());

// Returns the old value.
PFM_DEVICE inline int32_t AtomicAddShared(SharedAddress address, int32_t value, Where where = Where::Here());

// ---- Global memory. T has 1, 2, 4, 8 or 16 bytes; addresses are aligned to its size.

template <class T>
PFM_DEVICE inline T LoadGlobal(const T* address, Where where = Where::Here());
template <class T>
PFM_DEVICE inline void StoreGlobal(T* address, const typename SameType<T>::Type& value, Where where = Where::Here());

// Relaxed; returns the old value.
PFM_DEVICE inline int32_t AtomicAdd(int32_t* address, int32_t value, Where where = Where::Here());
PFM_DEVICE inline float AtomicAdd(float* address, float value, Where where = Where::Here());

// Whether AtomicAddQuad is one instruction: in machine code for compute capability 9.0 and later.
PFM_DEVICE inline bool HasVectorReductions();
// address[i] += values[i], each atomically; address is a multiple of 16.
PFM_DEVICE inline void AtomicAddQuad(float* address, const float (&values)[4], Where where = Where::Here());

// The same for callers that order all additions to these floats: the emulator reports additions without an order.
PFM_DEVICE inline void Add(float* address, float value, Where where = Where::Here());
PFM_DEVICE inline void AddQuad(float* address, const float (&values)[4], Where where = Where::Here());

// Order between blocks: writes of a thread before a release are visible to every thread that acquires the released
// value, and so are writes of its block before a SyncThreads that precedes the release.
PFM_DEVICE inline int32_t LoadAcquire(const int32_t* address, Where where = Where::Here());
PFM_DEVICE inline void StoreRelease(int32_t* address, int32_t value, Where where = Where::Here());

// ---- Asynchronous copies (cp.async) of 16 bytes; both addresses are multiples of 16. If `exists` is false, the
// destination becomes zero and the source is not read.

PFM_DEVICE inline void CopyAsync16(SharedAddress to, const void* from, bool exists, Where where = Where::Here());
PFM_DEVICE inline void CommitCopies(Where where = Where::Here());  // this thread's copies so far become a group
// Waits until at most kGroups of this thread's groups are in flight. Other threads see the data after a barrier.
template <int kGroups>
PFM_DEVICE inline void WaitCopies(Where where = Where::Here());

// ---- Barriers

PFM_DEVICE inline void SyncThreads(Where where = Where::Here());  // by all threads of the block, the same call
PFM_DEVICE inline void SyncWarp(Where where = Where::Here());     // collective; orders the lanes' memory accesses
// Barriers 1..15 of `threads` threads (whole warps): NamedBarrierSync arrives and waits, NamedBarrierArrive only
// arrives.
PFM_DEVICE inline void NamedBarrierSync(int barrier, int threads, Where where = Where::Here());
PFM_DEVICE inline void NamedBarrierArrive(int barrier, int threads, Where where = Where::Here());

// ---- Matrix instructions, collective

// ldmatrix .x4: lane 8 m + r gives the address (a multiple of 16) of row r of the m-th 8x8 matrix of 16-bit elements;
// fragment[m] of lane l gets elements 2 (l % 4) and the next of row l / 4 of matrix m.
PFM_DEVICE inline void LoadMatrices(uint32_t (&fragment)[4], SharedAddress row, Where where = Where::Here());
// The same for transposed matrices.
PFM_DEVICE inline void LoadMatricesTransposed(uint32_t (&fragment)[4], SharedAddress row,
                                              Where where = Where::Here());

// mma.m16n8k16 with float32 sums: sums += A B. With g = lane / 4 and q = 2 (lane % 4), a lane holds, low half first,
//   A (16x16): a[0] = (g, q..), a[1] = (g + 8, q..), a[2] = (g, q + 8..), a[3] = (g + 8, q + 8..)
//   B (16x8):  b0 = (q.., g), b1 = (q + 8.., g)
//   sums (16x8): (g, q), (g, q + 1), (g + 8, q), (g + 8, q + 1)
template <class T>
PFM_DEVICE inline void Mma16x8x16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                  Where where = Where::Here());

// ---- Exchange between the lanes of a warp, collective. T has 4 bytes.

template <class T>
PFM_DEVICE inline T Shuffle(T value, int lane, Where where = Where::Here());
template <class T>
PFM_DEVICE inline T ShuffleXor(T value, int lanes, Where where = Where::Here());
PFM_DEVICE inline uint32_t Ballot(bool predicate, Where where = Where::Here());
PFM_DEVICE inline int32_t ReduceMin(int32_t value, Where where = Where::Here());
PFM_DEVICE inline int32_t ReduceMax(int32_t value, Where where = Where::Here());

// ---- Arithmetic. Exp2 and Log2 are the hardware's approximations (relative error about 2^-22).

PFM_DEVICE inline float Exp2(float value);
PFM_DEVICE inline float Log2(float value);
PFM_DEVICE inline float Maximum(float a, float b);  // one instruction; if one operand is NaN, returns the other
PFM_DEVICE inline float Infinity();
PFM_DEVICE inline int LowestBit(uint32_t bits);  // index of the lowest set bit; bits != 0
PFM_DEVICE inline int PopulationCount(uint32_t bits);

// Two floats rounded to nearest even, `low` in the lower half; and back.
template <class T>
PFM_DEVICE inline uint32_t Pack(float low, float high);
template <class T>
PFM_DEVICE inline void Unpack(uint32_t word, float* low, float* high);

}  // namespace pfm::cuda::ptx

#if defined(PFM_EMULATOR)
#include "emulator/primitives.h"
#else
#include "device.h"
#endif

#endif  // PFM_CUDA_PTX_PTX_H_
