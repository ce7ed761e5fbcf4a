// Arithmetic on accumulators between the products of the sm90 backward.
#ifndef PFM_CUDA_SM90_BACKWARD_SCORES_H_
#define PFM_CUDA_SM90_BACKWARD_SCORES_H_

#include <cstdint>

#include "../backward/dquery_sums.h"
#include "../common/score_scale.h"
#include "backward_arguments.h"
#include "backward_shared.h"
#include "wgmma_tiles.h"

namespace pfm::cuda::sm90 {

// Softmax of 16 queries. scores: S^T in, P^T out.
template <int kCount>
PFM_DEVICE inline void Exponentiate(const ScoreScale& scale, ptx::SharedAddress lse, int step,
                                    float (&scores)[kCount]) {
#pragma unroll
  for (int n = 2 * step; n < 2 * step + 2; ++n) {
    const FloatPair shift = LoadRowPair(lse, n);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float& score = scores[4 * n + e];
      score = ptx::Exp2(score * scale.factor - (e % 2 == 0 ? shift.first : shift.second));
    }
  }
}

// Gradient of the softmax of 16 queries. dscores: dP^T in, dS^T out.
template <int kCount>
PFM_DEVICE inline void Differentiate(const float (&probabilities)[kCount], ptx::SharedAddress delta, int step,
                                     float (&dscores)[kCount]) {
#pragma unroll
  for (int n = 2 * step; n < 2 * step + 2; ++n) {
    const FloatPair mean = LoadRowPair(delta, n);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float& dscore = dscores[4 * n + e];
      dscore = probabilities[4 * n + e] * (dscore - (e % 2 == 0 ? mean.first : mean.second));
    }
  }
}

// Adds 64 rows of dquery of a tile, from first_row and first_column on. The sums lie in the order of the
// accumulators, so a lane adds four neighbours at once and a warp 512 bytes. Compared with a bulk reduction this
// saves a barrier and the way through shared memory, 4 to 8 bytes per pair of what bounds this kernel. Which one
// costs less is to be measured.
template <DquerySums kDquerySums, int kRow, int kCount>
PFM_DEVICE inline void AddQueryGradient(const BackwardArguments& common, const BackwardShared<kRow>& shared,
                                        const typename BackwardShared<kRow>::Stages& stages, int first_row,
                                        int first_column, const float (&sums)[kCount]) {
  if constexpr (kDquerySums == DquerySums::kInTurn) stages.WaitAlong(shared.turns());
  const int32_t first_row_block = ptx::LoadShared<LiveTile>(shared.tile(stages.stage())).row_block + first_row / 16;
  const int warp = ptx::ThreadIndex() / 32 % 4;
  float* const first = DqueryFragment(common, first_row_block + warp, first_column / 8, ptx::LaneIndex());
#pragma unroll
  for (int n = 0; n < kCount / 4; ++n) {
    const float quad[4] = {sums[4 * n], sums[4 * n + 1], sums[4 * n + 2], sums[4 * n + 3]};
    float* const to = first + n * kBlockFloats;  // an offset in the instruction
    if constexpr (kDquerySums == DquerySums::kInTurn) {
      ptx::AddQuad(to, quad);
    } else {
      ptx::AtomicAddQuad(to, quad);
    }
  }
}

// Releases a tile. Called by every consumer warp; collective.
template <DquerySums kDquerySums, int kRow>
PFM_DEVICE inline void FinishStage(const BackwardShared<kRow>& shared,
                                   const typename BackwardShared<kRow>::Stages& stages) {
  ArriveByWarp(kDquerySums == DquerySums::kInTurn ? stages.Along(shared.added()) : stages.empty());
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_SCORES_H_
