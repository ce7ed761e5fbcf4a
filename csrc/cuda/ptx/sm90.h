// Hardware primitives of compute capability 9.0 beyond ptx.h, built for sm_90a: mbarriers, bulk and tensor copies,
// wgmma, register reallocation. sm90_device.h has the bodies for a GPU, tests/emulator/sm90.h those for the CPU.
//
// Sources of the rules: PTX manual, "mbarrier", "Tensors", "Asynchronous warpgroup level matrix instructions".
#ifndef PFM_CUDA_PTX_SM90_H_
#define PFM_CUDA_PTX_SM90_H_

#include "launch.h"
#include "ptx.h"
#include "tensor_map.h"

namespace pfm::cuda::ptx {

// ---- mbarriers: 8 bytes of shared memory. A phase is complete when `arrivals` threads have arrived and all expected
// bytes have been copied. Phases are counted from 0; even phases have parity 0.

PFM_DEVICE inline void MbarrierInit(SharedAddress barrier, int arrivals, Where where = Where::Here());
PFM_DEVICE inline void FenceMbarrierInit();  // by the thread that initialised, before a SyncThreads
// Orders the accesses of this thread alone; a SyncWarp before it orders those of the other lanes.
PFM_DEVICE inline void MbarrierArrive(SharedAddress barrier, Where where = Where::Here());
PFM_DEVICE inline void MbarrierArriveExpectBytes(SharedAddress barrier, int bytes, Where where = Where::Here());
// Whether the phase of this parity is complete; true for parity 1 on a new mbarrier. Does not wait.
PFM_DEVICE inline bool MbarrierTest(SharedAddress barrier, int parity, Where where = Where::Here());
PFM_DEVICE inline void MbarrierWait(SharedAddress barrier, int parity, Where where = Where::Here());

// Orders earlier writes of this thread to shared memory before accesses by copies and wgmma behind the next barrier.
// Every writing thread needs it.
PFM_DEVICE inline void FenceProxyAsync();

// ---- Copies to shared memory, issued by one thread, completed on an mbarrier. The box starts at the coordinates
// (innermost first); elements outside the tensor become zero and count as copied. A swizzled box is aligned to 8
// rows.

template <int kRank>
PFM_DEVICE inline void TmaLoad(SharedAddress to, const TensorMap& from, const int (&coordinate)[kRank],
                               SharedAddress barrier, Where where = Where::Here());
// Addresses and size are multiples of 16.
PFM_DEVICE inline void BulkLoad(SharedAddress to, const void* from, int bytes, SharedAddress barrier,
                                Where where = Where::Here());

// ---- Copies from shared memory, issued by one thread. Elements outside the tensor are skipped.

template <int kRank>
PFM_DEVICE inline void TmaStore(const TensorMap& to, const int (&coordinate)[kRank], SharedAddress from,
                                Where where = Where::Here());
// Adds float32 values, each atomically. Addresses and size are multiples of 16.
PFM_DEVICE inline void BulkReduceAdd(float* to, SharedAddress from, int bytes, Where where = Where::Here());

PFM_DEVICE inline void BulkCommit();  // closes a group of this thread's stores
// Wait for all but the newest kGroups groups of this thread: BulkWaitRead until their shared memory has been read and
// may be overwritten, BulkWait until they are complete.
template <int kGroups>
PFM_DEVICE inline void BulkWaitRead(Where where = Where::Here());
template <int kGroups>
PFM_DEVICE inline void BulkWait(Where where = Where::Here());

// ---- Warps

PFM_DEVICE inline bool ElectOne(
    Where where = Where::Here());  // collective; true for one lane of a warp, always the same
// Collective over a warpgroup. Threads start with 65536 / threads registers, rounded down to a multiple of 8.
template <int kRegisters>
PFM_DEVICE inline void SetMaxRegistersUp(Where where = Where::Here());
template <int kRegisters>
PFM_DEVICE inline void SetMaxRegistersDown(Where where = Where::Here());

// Returns the value, opaque to the compiler: results derived from it are recomputed instead of kept in registers
// throughout a loop.
PFM_DEVICE inline int32_t Fresh(int32_t value);

// ---- wgmma, collective over a warpgroup: sums (64 x kColumns) = A (64 x 16) B (16 x kColumns), added to the sums
// before if `accumulates`. Until the wait for its group, sums, registers of A (which must outlive the wait) and the
// operands in shared memory must not be touched. Lane l of the w-th warp holds
//   sums[i] = (16 w + l / 4 + 8 (i / 2 % 2), 8 (i / 4) + 2 (l % 4) + i % 2)
//   a[r], low half first = (16 w + l / 4 + 8 (r % 2), 2 (l % 4) + 8 (r / 2) and the next)

// Contiguous index in shared memory: that of the sum, or the row of A or column of B.
enum class Major { kK, kMN };

// Descriptor of a matrix in shared memory, whose start lies in a swizzle pattern aligned to 8 rows. In bytes:
//   kK, swizzled     8 rows (of M or N) of the span make a pattern, `stride` from one to the next; leading is unused.
//                    16 further columns of K are 32 bytes further.
//   kMN, swizzled    8 rows (of K) of the span make a pattern; `stride` to the next 8 of K, `leading` to the next
//                    span / 2 of M or N.
//   not swizzled     8 rows of 16 bytes make a pattern. kK: `leading` to the next 8 of K, `stride` to the next 8 of M
//                    or N. kMN: the same.
PFM_DEVICE inline uint64_t MatrixDescriptor(SharedAddress start, uint32_t leading, uint32_t stride, Swizzle swizzle) {
  const uint64_t mode = swizzle == Swizzle::k128 ? 1 : swizzle == Swizzle::k64 ? 2 : swizzle == Swizzle::k32 ? 3 : 0;
  return mode << 62 | static_cast<uint64_t>(stride >> 4 & 0x3fff) << 32 |
         static_cast<uint64_t>(leading >> 4 & 0x3fff) << 16 | (start >> 4 & 0x3fff);
}

PFM_DEVICE inline void WarpgroupFence(Where where = Where::Here());  // before the first instruction after a wait
PFM_DEVICE inline void WarpgroupCommit(Where where = Where::Here());
template <int kGroups>
PFM_DEVICE inline void WarpgroupWait(Where where = Where::Here());

// Keeps uses of these registers behind the preceding wait, across which the compiler might move them.
template <int kCount>
PFM_DEVICE inline void Settle(float (&sums)[kCount]);

// Marks old contents as dead before the first instruction of new sums, so that they occupy no registers until then.
template <int kCount>
PFM_DEVICE inline void Discard(float (&sums)[kCount]);

// kColumns: 32, 64, 80, 96, 128, 176, 192 or 256. T: Float16 or BFloat16.
template <class T, int kColumns, Major kA, Major kB>
PFM_DEVICE inline void Wgmma(float (&sums)[kColumns / 2], uint64_t a, uint64_t b, bool accumulates,
                             Where where = Where::Here());
template <class T, int kColumns, Major kB>
PFM_DEVICE inline void Wgmma(float (&sums)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, bool accumulates,
                             Where where = Where::Here());

}  // namespace pfm::cuda::ptx

#if defined(PFM_EMULATOR)
#include "emulator/sm90.h"
#else
#include "sm90_device.h"
#endif

#endif  // PFM_CUDA_PTX_SM90_H_
