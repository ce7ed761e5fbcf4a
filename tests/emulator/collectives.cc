#include "collectives.h"

#include <algorithm>
#include <cstring>

#include "async.h"
#include "shared_memory.h"

namespace pfm::emulator {

namespace {

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class Operands>
Operands& OperandOf(Warp& warp, int lane) {
  return *static_cast<Operands*>(warp.operand[lane]);
}

// A and B as matrices, from the fragments of the lanes (layout in ptx.h).
struct Matrices {
  float a[16][16];
  float b[16][8];
};

// Both compile to vector code for either instruction set. Products of 16-bit floats are exact in float32, so a fused
// multiply-add gives the same sums.
__attribute__((target_clones("avx2", "default"))) void Widen(const uint16_t* from, float* to, int count,
                                                             bool is_bfloat16) {
  if (is_bfloat16) {
    for (int i = 0; i < count; ++i) to[i] = FloatOf(static_cast<uint32_t>(from[i]) << 16);
    return;
  }
  // The exponent is rebased by a multiplication, which also makes subnormals right.
  constexpr float kRebase = 0x1p112f;
  for (int i = 0; i < count; ++i) {
    const uint32_t magnitude = static_cast<uint32_t>(from[i] & 0x7fff) << 13;
    const uint32_t sign = static_cast<uint32_t>(from[i] & 0x8000) << 16;
    const uint32_t finite = BitsOf(FloatOf(magnitude) * kRebase);
    const uint32_t special = magnitude | 0x7f800000;
    to[i] = FloatOf(sign | (magnitude >= 0x0f800000 ? special : finite));
  }
}

__attribute__((target_clones("avx2", "default"))) void Multiply(const Matrices& in, float (&product)[16][8]) {
  for (int m = 0; m < 16; ++m) {
    float sums[8] = {};
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) sums[n] += in.a[m][k] * in.b[k][n];
    }
    std::memcpy(product[m], sums, sizeof sums);
  }
}

void ExecuteMma(Warp& warp) {
  uint16_t a[16][16], b[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const MmaOperands& operands = OperandOf<MmaOperands>(warp, lane);
    const int g = lane / 4, q = 2 * (lane % 4);
    std::memcpy(&a[g][q], &operands.a[0], 4);
    std::memcpy(&a[g + 8][q], &operands.a[1], 4);
    std::memcpy(&a[g][q + 8], &operands.a[2], 4);
    std::memcpy(&a[g + 8][q + 8], &operands.a[3], 4);
    for (int half = 0; half < 2; ++half) {
      b[q + 8 * half][g] = static_cast<uint16_t>(operands.b[half]);
      b[q + 8 * half + 1][g] = static_cast<uint16_t>(operands.b[half] >> 16);
    }
  }
  Matrices in;
  Widen(&a[0][0], &in.a[0][0], 256, warp.detail == kMmaBFloat16);
  Widen(&b[0][0], &in.b[0][0], 128, warp.detail == kMmaBFloat16);
  float product[16][8];
  Multiply(in, product);
  for (int lane = 0; lane < kLanes; ++lane) {
    float* sums = OperandOf<MmaOperands>(warp, lane).sums;
    const int g = lane / 4, q = 2 * (lane % 4);
    sums[0] += product[g][q];
    sums[1] += product[g][q + 1];
    sums[2] += product[g + 8][q];
    sums[3] += product[g + 8][q + 1];
  }
}

// Largest number of different rows of one 8x8 matrix that fall into the same 16 bytes of the 128-byte wide memory.
int PassesFor(const SharedAddress (&row)[kLanes], int matrix) {
  int most = 1;
  for (int r = 0; r < 8; ++r) {
    int same = 1;
    for (int other = 0; other < r; ++other) {
      const SharedAddress x = row[8 * matrix + r], y = row[8 * matrix + other];
      same += x != y && x / 16 % 8 == y / 16 % 8;
    }
    most = std::max(most, same);
  }
  return most;
}

void ExecuteLoadMatrices(Warp& warp) {
  const bool transposed = warp.collective == Collective::kLoadMatricesTransposed;
  SharedAddress row[kLanes];
  uint16_t element[kLanes][8];
  Thread* const last = current;
  for (int lane = 0; lane < kLanes; ++lane) {
    current = &warp.block->threads[warp.index * kLanes + lane];  // whose address it is
    row[lane] = OperandOf<LoadMatricesOperands>(warp, lane).row;
    std::memcpy(element[lane], ReadSharedByWarp(row[lane], 16, warp.where), 16);
  }
  current = last;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const int passes = PassesFor(row, matrix);
    if (passes > 1) {
      machine.Fail(warp.where, "bank conflict: rows of matrix " + std::to_string(matrix) + " need " +
                                   std::to_string(passes) + " passes, the first at byte " +
                                   std::to_string(row[8 * matrix] - kDynamicShared) + " of shared memory");
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    uint32_t* fragment = OperandOf<LoadMatricesOperands>(warp, lane).fragment;
    const int g = lane / 4, q = 2 * (lane % 4);
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto* rows = element + 8 * matrix;
      const uint16_t low = transposed ? rows[q][g] : rows[g][q];
      const uint16_t high = transposed ? rows[q + 1][g] : rows[g][q + 1];
      fragment[matrix] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

void ExecuteShuffle(Warp& warp) {
  for (int lane = 0; lane < kLanes; ++lane) {
    ShuffleOperands& operands = OperandOf<ShuffleOperands>(warp, lane);
    operands.result = OperandOf<ShuffleOperands>(warp, operands.source).value;
  }
}

void ExecuteBallot(Warp& warp) {
  uint32_t ballot = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    ballot |= static_cast<uint32_t>(OperandOf<BallotOperands>(warp, lane).predicate) << lane;
  }
  for (int lane = 0; lane < kLanes; ++lane) OperandOf<BallotOperands>(warp, lane).result = ballot;
}

void ExecuteReduce(Warp& warp) {
  int32_t least = INT32_MAX, largest = INT32_MIN;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int32_t value = OperandOf<ReduceOperands>(warp, lane).value;
    least = std::min(least, value);
    largest = std::max(largest, value);
  }
  const int32_t result = warp.collective == Collective::kReduceMin ? least : largest;
  for (int lane = 0; lane < kLanes; ++lane) OperandOf<ReduceOperands>(warp, lane).result = result;
}

void ExecuteNamedBarrier(Warp& warp) {
  const NamedBarrierOperands first = OperandOf<NamedBarrierOperands>(warp, 0);
  for (int lane = 1; lane < kLanes; ++lane) {
    const NamedBarrierOperands& other = OperandOf<NamedBarrierOperands>(warp, lane);
    if (other.barrier != first.barrier || other.threads != first.threads) {
      machine.Fail(warp.where, "lanes of a warp at different named barriers");
    }
  }
  machine.ArriveAtNamedBarrier(warp, first.barrier, first.threads, first.waits, warp.where);
}

}  // namespace

void Execute(Warp& warp) {
  switch (warp.collective) {
    case Collective::kNone:
      break;
    case Collective::kMma:
      ExecuteMma(warp);
      break;
    case Collective::kLoadMatrices:
    case Collective::kLoadMatricesTransposed:
      ExecuteLoadMatrices(warp);
      break;
    case Collective::kShuffle:
      ExecuteShuffle(warp);
      break;
    case Collective::kBallot:
      ExecuteBallot(warp);
      break;
    case Collective::kReduceMin:
    case Collective::kReduceMax:
      ExecuteReduce(warp);
      break;
    case Collective::kSyncWarp:
      machine.AdvanceEpoch(*warp.block, warp.index, warp.where);
      break;
    case Collective::kNamedBarrier:
      ExecuteNamedBarrier(warp);
      break;
    case Collective::kAsync:
      ExecuteAsync(warp);
      break;
  }
}

float FromFloat16(uint16_t bits) {
  float value;
  Widen(&bits, &value, 1, false);
  return value;
}

float FromBFloat16(uint16_t bits) { return FloatOf(static_cast<uint32_t>(bits) << 16); }

uint16_t ToFloat16(float value) {
  const uint32_t bits = BitsOf(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;                                 // result of cvt for every NaN
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and above
  if (magnitude < 0x38800000) {  // subnormal: adding 1/2 makes float32 round at the last place of the result
    return static_cast<uint16_t>(sign | (BitsOf(FloatOf(magnitude) + 0.5f) - BitsOf(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

uint16_t ToBFloat16(float value) {
  const uint32_t bits = BitsOf(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace pfm::emulator
