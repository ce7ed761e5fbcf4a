// Operands of the warp collectives. Each lane keeps them on its stack and passes their address to its warp; the last
// lane to arrive executes the operation for all.
#ifndef PFM_EMULATOR_COLLECTIVES_H_
#define PFM_EMULATOR_COLLECTIVES_H_

#include <cstdint>

#include "machine.h"

namespace pfm::emulator {

enum MmaType : int { kMmaFloat16, kMmaBFloat16 };  // detail of kMma

struct MmaOperands {
  float* sums;
  const uint32_t* a;
  uint32_t b[2];
};

struct LoadMatricesOperands {
  uint32_t* fragment;
  SharedAddress row;
};

struct ShuffleOperands {
  uint32_t value;
  int source;
  uint32_t result;
};

struct BallotOperands {
  bool predicate;
  uint32_t result;
};

struct ReduceOperands {
  int32_t value;
  int32_t result;
};

struct NamedBarrierOperands {
  int barrier, threads;
  bool waits;
};

float FromFloat16(uint16_t bits);
float FromBFloat16(uint16_t bits);
// Round to nearest, ties to even.
uint16_t ToFloat16(float value);
uint16_t ToBFloat16(float value);

}  // namespace pfm::emulator

#endif  // PFM_EMULATOR_COLLECTIVES_H_
