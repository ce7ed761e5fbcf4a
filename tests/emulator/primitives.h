// Bodies of csrc/cuda/ptx/ptx.h in the emulator. Included by it only.
#ifndef PFM_EMULATOR_PRIMITIVES_H_
#define PFM_EMULATOR_PRIMITIVES_H_

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "collectives.h"
#include "counts.h"
#include "global_memory.h"
#include "machine.h"
#include "shared_memory.h"

namespace pfm::cuda::ptx {

inline int ThreadIndex() { return emulator::current->index; }
inline int LaneIndex() { return emulator::current->lane; }
inline int BlockIndex() { return static_cast<int>(emulator::current->block->index); }

inline SharedAddress DynamicShared() { return emulator::kDynamicShared; }

template <class T>
inline T LoadShared(SharedAddress address, Where where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "a load or store of 4, 8 or 16 bytes");
  T value;
  std::memcpy(&value, emulator::ReadShared(address, sizeof(T), where), sizeof(T));
  return value;
}

template <class T>
inline void StoreShared(SharedAddress address, const T& value, Where where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16, "a load or store of 4, 8 or 16 bytes");
  std::memcpy(emulator::WriteShared(address, sizeof(T), where), &value, sizeof(T));
}

inline int32_t AtomicAddShared(SharedAddress address, int32_t value, Where where) {
  uint8_t* at = emulator::AtomicShared(address, 4, where);
  int32_t before;
  std::memcpy(&before, at, 4);
  const uint32_t after = static_cast<uint32_t>(before) + static_cast<uint32_t>(value);
  std::memcpy(at, &after, 4);
  return before;
}

template <class T>
inline T LoadGlobal(const T* address, Where where) {
  emulator::CountLoad();
  emulator::Global().Read(address, sizeof(T), where);
  return *address;
}

template <class T>
inline void StoreGlobal(T* address, const typename SameType<T>::Type& value, Where where) {
  emulator::Global().Write(address, sizeof(T), where);
  *address = value;
}

inline int32_t AtomicAdd(int32_t* address, int32_t value, Where where) {
  emulator::Global().Atomic(address, sizeof(int32_t), where);
  const int32_t before = *address;
  *address = before + value;
  return before;
}

inline float AtomicAdd(float* address, float value, Where where) {
  emulator::Global().Atomic(address, sizeof(float), where);
  const float before = *address;
  *address = before + value;
  return before;
}

inline bool HasVectorReductions() { return emulator::CurrentOptions().compute_capability >= 90; }

inline void AtomicAddQuad(float* address, const float (&values)[4], Where where) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) emulator::machine.Fail(where, "misaligned AtomicAddQuad");
  for (int i = 0; i < 4; ++i) {
    emulator::Global().Atomic(address + i, sizeof(float), where);
    address[i] += values[i];
  }
}

inline void Add(float* address, float value, Where where) {
  emulator::Global().Read(address, sizeof(float), where);
  const float sum = *address + value;
  emulator::Global().Write(address, sizeof(float), where);
  *address = sum;
}

inline void AddQuad(float* address, const float (&values)[4], Where where) {
  float sums[4];
  emulator::Global().Read(address, sizeof(sums), where);
  std::memcpy(sums, address, sizeof(sums));
  for (int i = 0; i < 4; ++i) sums[i] += values[i];
  emulator::Global().Write(address, sizeof(sums), where);
  std::memcpy(address, sums, sizeof(sums));
}

inline int32_t LoadAcquire(const int32_t* address, Where where) {
  emulator::machine.Poll(where);
  emulator::Global().Acquire(address, where);
  return *address;
}

inline void StoreRelease(int32_t* address, int32_t value, Where where) {
  emulator::Global().Release(address, where);
  *address = value;
}

inline void CopyAsync16(SharedAddress to, const void* from, bool exists, Where where) {
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    emulator::machine.Fail(where, "misaligned source of an asynchronous copy of 16 bytes");
  }
  emulator::StartCopy(to, exists ? from : nullptr, where);
}

inline void CommitCopies(Where) { emulator::CommitCopies(); }

template <int kGroups>
inline void WaitCopies(Where) {
  emulator::WaitCopies(kGroups);
}

inline void SyncThreads(Where where) { emulator::machine.SyncThreads(where); }

inline void SyncWarp(Where where) { emulator::machine.Arrive(emulator::Collective::kSyncWarp, 0, nullptr, where); }

inline void NamedBarrierSync(int barrier, int threads, Where where) {
  emulator::NamedBarrierOperands operands = {barrier, threads, true};
  emulator::machine.Arrive(emulator::Collective::kNamedBarrier, 1, &operands, where);
}

inline void NamedBarrierArrive(int barrier, int threads, Where where) {
  emulator::NamedBarrierOperands operands = {barrier, threads, false};
  emulator::machine.Arrive(emulator::Collective::kNamedBarrier, 0, &operands, where);
}

inline void LoadMatrices(uint32_t (&fragment)[4], SharedAddress row, Where where) {
  emulator::LoadMatricesOperands operands = {fragment, row};
  emulator::machine.Arrive(emulator::Collective::kLoadMatrices, 0, &operands, where);
}

inline void LoadMatricesTransposed(uint32_t (&fragment)[4], SharedAddress row, Where where) {
  emulator::LoadMatricesOperands operands = {fragment, row};
  emulator::machine.Arrive(emulator::Collective::kLoadMatricesTransposed, 0, &operands, where);
}

template <class T>
inline void Mma16x8x16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Where where) {
  static_assert(std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>, "Float16 or BFloat16");
  emulator::MmaOperands operands = {sums, a, {b0, b1}};
  emulator::machine.Arrive(emulator::Collective::kMma,
                           std::is_same_v<T, BFloat16> ? emulator::kMmaBFloat16 : emulator::kMmaFloat16, &operands,
                           where);
}

template <class T>
inline T Shuffle(T value, int lane, Where where) {
  static_assert(sizeof(T) == 4, "one register");
  emulator::ShuffleOperands operands = {0, lane & 31, 0};
  std::memcpy(&operands.value, &value, 4);
  emulator::machine.Arrive(emulator::Collective::kShuffle, 0, &operands, where);
  T result;
  std::memcpy(&result, &operands.result, 4);
  return result;
}

template <class T>
inline T ShuffleXor(T value, int lanes, Where where) {
  return Shuffle(value, LaneIndex() ^ lanes, where);
}

inline uint32_t Ballot(bool predicate, Where where) {
  emulator::BallotOperands operands = {predicate, 0};
  emulator::machine.Arrive(emulator::Collective::kBallot, 0, &operands, where);
  return operands.result;
}

inline int32_t ReduceMin(int32_t value, Where where) {
  emulator::ReduceOperands operands = {value, 0};
  emulator::machine.Arrive(emulator::Collective::kReduceMin, 0, &operands, where);
  return operands.result;
}

inline int32_t ReduceMax(int32_t value, Where where) {
  emulator::ReduceOperands operands = {value, 0};
  emulator::machine.Arrive(emulator::Collective::kReduceMax, 0, &operands, where);
  return operands.result;
}

// Treats subnormal inputs and results as zero, as .ftz specifies.
inline float FlushSubnormal(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}

inline float Exp2(float value) { return FlushSubnormal(std::exp2(FlushSubnormal(value))); }
inline float Log2(float value) { return std::log2(FlushSubnormal(value)); }
inline float Maximum(float a, float b) { return std::fmax(a, b); }
inline float Infinity() { return std::numeric_limits<float>::infinity(); }
inline int LowestBit(uint32_t bits) { return __builtin_ctz(bits); }
inline int PopulationCount(uint32_t bits) { return __builtin_popcount(bits); }

template <class T>
inline uint32_t Pack(float low, float high) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return emulator::ToBFloat16(low) | static_cast<uint32_t>(emulator::ToBFloat16(high)) << 16;
  } else {
    static_assert(std::is_same_v<T, Float16>, "Float16 or BFloat16");
    return emulator::ToFloat16(low) | static_cast<uint32_t>(emulator::ToFloat16(high)) << 16;
  }
}

template <class T>
inline void Unpack(uint32_t word, float* low, float* high) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    *low = emulator::FromBFloat16(static_cast<uint16_t>(word));
    *high = emulator::FromBFloat16(static_cast<uint16_t>(word >> 16));
  } else {
    static_assert(std::is_same_v<T, Float16>, "Float16 or BFloat16");
    *low = emulator::FromFloat16(static_cast<uint16_t>(word));
    *high = emulator::FromFloat16(static_cast<uint16_t>(word >> 16));
  }
}

}  // namespace pfm::cuda::ptx

#endif  // PFM_EMULATOR_PRIMITIVES_H_
