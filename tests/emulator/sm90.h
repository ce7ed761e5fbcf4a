// Bodies of csrc/cuda/ptx/sm90.h in the emulator. Included by it only.
#ifndef PFM_EMULATOR_SM90_H_
#define PFM_EMULATOR_SM90_H_

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "async.h"

namespace pfm::cuda::ptx {

inline LaunchStatus EncodeTensorMap(TensorMap* map, const TensorShape& shape) {
  const char* complaint = ComplaintAbout(shape);
  if (complaint != nullptr) return {1, complaint};
  map->shape = shape;
  return {};
}

inline void MbarrierInit(SharedAddress barrier, int arrivals, Where where) {
  emulator::MbarrierInit(barrier, arrivals, where);
}
inline void FenceMbarrierInit() { emulator::FenceMbarrierInit(); }
inline void MbarrierArrive(SharedAddress barrier, Where where) { emulator::MbarrierArrive(barrier, 0, where); }
inline void MbarrierArriveExpectBytes(SharedAddress barrier, int bytes, Where where) {
  emulator::MbarrierArrive(barrier, bytes, where);
}
inline bool MbarrierTest(SharedAddress barrier, int parity, Where where) {
  emulator::machine.Poll(where);
  return emulator::MbarrierTest(barrier, parity, where);
}
inline void MbarrierWait(SharedAddress barrier, int parity, Where where) {
  emulator::MbarrierWait(barrier, parity, where);
}
inline void FenceProxyAsync() { emulator::FenceProxyAsync(); }

// Chunks of a box in shared memory, and its bytes in global memory without those outside the tensor.
struct BoxPlan {
  std::vector<SharedAddress> chunks;
  std::vector<emulator::Piece> pieces;
};

inline BoxPlan PlanBox(SharedAddress shared, const TensorMap& map, const int* coordinate, int rank, Where where) {
  const TensorShape& shape = map.shape;
  if (rank != shape.rank) emulator::machine.Fail(where, "a tensor map of another number of dimensions");
  const int span = SwizzleSpan(shape.swizzle);
  if (shared % (span == 0 ? 128u : 8u * span) != 0) {
    emulator::machine.Fail(where, "misaligned box in shared memory: expected a multiple of " +
                                      std::to_string(span == 0 ? 128 : 8 * span) + " bytes");
  }
  BoxPlan plan;
  const int element = ElementBytes(shape.type);
  const size_t row_bytes = static_cast<size_t>(shape.box[0]) * element;
  size_t rows = 1;
  for (int d = 1; d < rank; ++d) rows *= static_cast<size_t>(shape.box[d]);
  for (size_t byte = 0; byte < rows * row_bytes; byte += 16) {
    plan.chunks.push_back(emulator::Swizzle(shared + static_cast<uint32_t>(byte), span));
  }
  const int64_t first = std::max<int64_t>(0, -int64_t{coordinate[0]});
  const int64_t end = std::min<int64_t>(shape.box[0], shape.size[0] - coordinate[0]);
  for (size_t row = 0; row < rows && first < end; ++row) {
    int64_t offset = (coordinate[0] + first) * element;
    bool exists = true;
    size_t rest = row;
    for (int d = 1; d < rank; ++d) {
      const int64_t at = coordinate[d] + static_cast<int64_t>(rest % static_cast<size_t>(shape.box[d]));
      rest /= static_cast<size_t>(shape.box[d]);
      exists = exists && at >= 0 && at < shape.size[d];
      offset += at * shape.stride[d];
    }
    if (!exists) continue;
    plan.pieces.push_back({static_cast<uint8_t*>(const_cast<void*>(shape.base)) + offset,
                           row * row_bytes + static_cast<size_t>(first * element),
                           static_cast<uint32_t>((end - first) * element)});
  }
  return plan;
}

inline BoxPlan PlanBulk(SharedAddress shared, const void* global, int bytes, Where where) {
  if (bytes <= 0 || bytes % 16 != 0 || shared % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    emulator::machine.Fail(where, "misaligned bulk copy: addresses and size are multiples of 16");
  }
  BoxPlan plan;
  for (int byte = 0; byte < bytes; byte += 16) plan.chunks.push_back(shared + static_cast<uint32_t>(byte));
  plan.pieces.push_back({static_cast<uint8_t*>(const_cast<void*>(global)), 0, static_cast<uint32_t>(bytes)});
  return plan;
}

template <int kRank>
inline void TmaLoad(SharedAddress to, const TensorMap& from, const int (&coordinate)[kRank], SharedAddress barrier,
                    Where where) {
  BoxPlan plan = PlanBox(to, from, coordinate, kRank, where);
  emulator::StartLoad(std::move(plan.chunks), std::move(plan.pieces), barrier, where);
}

inline void BulkLoad(SharedAddress to, const void* from, int bytes, SharedAddress barrier, Where where) {
  BoxPlan plan = PlanBulk(to, from, bytes, where);
  emulator::StartLoad(std::move(plan.chunks), std::move(plan.pieces), barrier, where);
}

template <int kRank>
inline void TmaStore(const TensorMap& to, const int (&coordinate)[kRank], SharedAddress from, Where where) {
  BoxPlan plan = PlanBox(from, to, coordinate, kRank, where);
  emulator::StartStore(std::move(plan.chunks), std::move(plan.pieces), false, where);
}

inline void BulkReduceAdd(float* to, SharedAddress from, int bytes, Where where) {
  BoxPlan plan = PlanBulk(from, to, bytes, where);
  emulator::StartStore(std::move(plan.chunks), std::move(plan.pieces), true, where);
}

inline void BulkCommit() { emulator::BulkCommit(); }

template <int kGroups>
inline void BulkWaitRead(Where) {
  emulator::WaitStores(kGroups, true);
}

template <int kGroups>
inline void BulkWait(Where) {
  emulator::WaitStores(kGroups, false);
}

inline bool ElectOne(Where where) { return emulator::ElectOne(where); }

template <int kRegisters>
inline void SetMaxRegistersUp(Where where) {
  emulator::SetRegisters(kRegisters, true, where);
}

template <int kRegisters>
inline void SetMaxRegistersDown(Where where) {
  emulator::SetRegisters(kRegisters, false, where);
}

inline int32_t Fresh(int32_t value) { return value; }

inline void WarpgroupFence(Where where) { emulator::FenceWarpgroup(where); }
inline void WarpgroupCommit(Where where) { emulator::CommitWarpgroup(where); }

template <int kGroups>
inline void WarpgroupWait(Where where) {
  emulator::WaitWarpgroup(kGroups, where);
}

template <int kCount>
inline void Settle(float (&sums)[kCount]) {
  static_cast<void>(sums);
}

template <int kCount>
inline void Discard(float (&sums)[kCount]) {
  std::fill_n(sums, kCount, std::numeric_limits<float>::quiet_NaN());
}

template <class T, int kColumns, Major kA, Major kB>
inline void Wgmma(float (&sums)[kColumns / 2], uint64_t a, uint64_t b, bool accumulates, Where where) {
  static_assert(kColumns % 8 == 0 && kColumns >= 8 && kColumns <= 256, "a multiple of 8 up to 256");
  emulator::WgmmaOperands operands = {};
  operands.sums = sums;
  operands.columns = kColumns;
  operands.a_descriptor = a;
  operands.b_descriptor = b;
  operands.a_transposed = kA == Major::kMN;
  operands.b_transposed = kB == Major::kMN;
  operands.accumulates = accumulates;
  operands.is_bfloat16 = std::is_same_v<T, BFloat16>;
  emulator::MultiplyWarpgroup(operands, where);
}

template <class T, int kColumns, Major kB>
inline void Wgmma(float (&sums)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, bool accumulates, Where where) {
  static_assert(kColumns % 8 == 0 && kColumns >= 8 && kColumns <= 256, "a multiple of 8 up to 256");
  emulator::WgmmaOperands operands = {};
  operands.sums = sums;
  operands.columns = kColumns;
  operands.a = a;
  operands.b_descriptor = b;
  operands.b_transposed = kB == Major::kMN;
  operands.accumulates = accumulates;
  operands.is_bfloat16 = std::is_same_v<T, BFloat16>;
  emulator::MultiplyWarpgroup(operands, where);
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_EMULATOR_SM90_H_
