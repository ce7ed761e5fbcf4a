// softmax_scale in units of log2, for exp2.
#ifndef PFM_CUDA_COMMON_SCORE_SCALE_H_
#define PFM_CUDA_COMMON_SCORE_SCALE_H_

#include "../ptx/types.h"

namespace pfm::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// exp2(score * factor - shift) needs a positive factor, so that the largest score has the largest exponent. Any other
// scale is multiplied into the scores beforehand.
struct ScoreScale {
  float before, factor;

  PFM_DEVICE explicit ScoreScale(float softmax_scale)
      : before(softmax_scale > 0.0f ? 1.0f : softmax_scale * kLog2E),
        factor(softmax_scale > 0.0f ? softmax_scale * kLog2E : 1.0f) {}

  PFM_DEVICE bool ChangesScores() const { return before != 1.0f; }
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_SCORE_SCALE_H_
