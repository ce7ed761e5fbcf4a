// Bodies of sm90.h on a GPU. Included by it only.
#ifndef PFM_CUDA_PTX_SM90_DEVICE_H_
#define PFM_CUDA_PTX_SM90_DEVICE_H_

#include <cuda_runtime.h>

#include "sm90_wgmma.h"

namespace pfm::cuda::ptx {

// Looks the driver's function up through the runtime, so that nothing links to the driver library.
inline LaunchStatus EncodeTensorMap(TensorMap* map, const TensorShape& shape) {
  const char* complaint = ComplaintAbout(shape);
  if (complaint != nullptr) return {static_cast<int>(cudaErrorInvalidValue), complaint};
  constexpr unsigned kDriverVersion = 12000;  // the first with tensor maps
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kDriverVersion,
                                                             cudaEnableDefault, &found);
  if (error != cudaSuccess) return {static_cast<int>(error), cudaGetErrorString(error)};
  if (found != cudaDriverEntryPointSuccess) {
    return {static_cast<int>(cudaErrorNotSupported), "the driver has no cuTensorMapEncodeTiled"};
  }
  constexpr CUtensorMapDataType kTypes[] = {CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                            CU_TENSOR_MAP_DATA_TYPE_FLOAT32, CU_TENSOR_MAP_DATA_TYPE_INT32};
  constexpr CUtensorMapSwizzle kSwizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                                              CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  cuuint64_t size[kMaxRank], stride[kMaxRank - 1];
  cuuint32_t box[kMaxRank], step[kMaxRank];
  for (int d = 0; d < shape.rank; ++d) {
    size[d] = static_cast<cuuint64_t>(shape.size[d]);
    if (d > 0) stride[d - 1] = static_cast<cuuint64_t>(shape.stride[d]);
    box[d] = static_cast<cuuint32_t>(shape.box[d]);
    step[d] = 1;
  }
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)(
      map, kTypes[static_cast<int>(shape.type)], static_cast<cuuint32_t>(shape.rank), const_cast<void*>(shape.base),
      size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, kSwizzles[static_cast<int>(shape.swizzle)],
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return {static_cast<int>(cudaErrorInvalidValue), "the driver refuses the tensor map"};
  return {};
}

PFM_DEVICE inline void MbarrierInit(SharedAddress barrier, int arrivals, Where) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
PFM_DEVICE inline void FenceMbarrierInit() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
PFM_DEVICE inline void MbarrierArrive(SharedAddress barrier, Where) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
PFM_DEVICE inline void MbarrierArriveExpectBytes(SharedAddress barrier, int bytes, Where) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// PTX manual, mbarrier.test_wait: try_wait may suspend the thread, test_wait does not.
PFM_DEVICE inline bool MbarrierTest(SharedAddress barrier, int parity, Where) {
  uint32_t complete;
  asm volatile(
      "{\n.reg .pred complete;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
      "selp.u32 %0, 1, 0, complete;\n}"
      : "=r"(complete)
      : "r"(barrier), "r"(parity)
      : "memory");
  return complete != 0;
}
PFM_DEVICE inline void MbarrierWait(SharedAddress barrier, int parity, Where) {
  uint32_t complete = 0;
  while (complete == 0) {
    asm volatile(
        "{\n.reg .pred complete;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
        "selp.u32 %0, 1, 0, complete;\n}"
        : "=r"(complete)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
}
PFM_DEVICE inline void FenceProxyAsync() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

template <int kRank>
PFM_DEVICE inline void TmaLoad(SharedAddress to, const TensorMap& from, const int (&c)[kRank], SharedAddress barrier,
                               Where) {
  static_assert(kRank >= 2 && kRank <= kMaxRank, "2 to 5 dimensions");
  if constexpr (kRank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
        "[%2];" ::"r"(to),
        "l"(&from), "r"(barrier), "r"(c[0]), "r"(c[1])
        : "memory");
  } else if constexpr (kRank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(&from), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2])
        : "memory");
  } else if constexpr (kRank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
        "l"(&from), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
        "l"(&from), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4])
        : "memory");
  }
}

PFM_DEVICE inline void BulkLoad(SharedAddress to, const void* from, int bytes, SharedAddress barrier, Where) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
               : "memory");
}

template <int kRank>
PFM_DEVICE inline void TmaStore(const TensorMap& to, const int (&c)[kRank], SharedAddress from, Where) {
  static_assert(kRank >= 2 && kRank <= kMaxRank, "2 to 5 dimensions");
  if constexpr (kRank == 2) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&to),
                 "r"(from), "r"(c[0]), "r"(c[1])
                 : "memory");
  } else if constexpr (kRank == 3) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&to),
                 "r"(from), "r"(c[0]), "r"(c[1]), "r"(c[2])
                 : "memory");
  } else if constexpr (kRank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&to),
        "r"(from), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(&to),
        "r"(from), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4])
        : "memory");
  }
}

PFM_DEVICE inline void BulkReduceAdd(float* to, SharedAddress from, int bytes, Where) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                   __cvta_generic_to_global(to)),
               "r"(from), "r"(bytes)
               : "memory");
}

PFM_DEVICE inline void BulkCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

template <int kGroups>
PFM_DEVICE inline void BulkWaitRead(Where) {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kGroups) : "memory");
}

template <int kGroups>
PFM_DEVICE inline void BulkWait(Where) {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kGroups) : "memory");
}

PFM_DEVICE inline bool ElectOne(Where) {
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred elected;\n"
      "elect.sync _|elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, elected;\n}"
      : "=r"(elected)::"memory");
  return elected != 0;
}

template <int kRegisters>
PFM_DEVICE inline void SetMaxRegistersUp(Where) {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
PFM_DEVICE inline void SetMaxRegistersDown(Where) {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

PFM_DEVICE inline int32_t Fresh(int32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

PFM_DEVICE inline void WarpgroupFence(Where) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
PFM_DEVICE inline void WarpgroupCommit(Where) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int kGroups>
PFM_DEVICE inline void WarpgroupWait(Where) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}

template <int kCount>
PFM_DEVICE inline void Settle(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

template <int kCount>
PFM_DEVICE inline void Discard(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "=f"(sums[i]));
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_CUDA_PTX_SM90_DEVICE_H_
