// How the backward pass is cut into independent pieces. The cut depends on shapes and mask alone, never on the number
// of threads, so partial sums are added in the same order on every machine.
#ifndef PFM_CPU_BACKWARD_SPLIT_H_
#define PFM_CPU_BACKWARD_SPLIT_H_

#include <cstdint>

#include "mask_plan.h"

namespace pfm::cpu {

// One piece: some query heads of one kv head x a run of key tiles.
struct BackwardPiece {
  int64_t batch, kv_head;
  int64_t group, chunk;          // which part of the query heads, which run of key tiles
  int64_t head_begin, head_end;  // query heads
  int64_t key_tile_begin, key_tile_end;
};

class BackwardSplit {
 public:
  BackwardSplit(const pfm_params& params, const MaskPlan& mask, Arena* arena);

  // Balances the chunks; after MaskPlan::Build.
  void Build();

  int64_t groups() const { return groups_; }  // partial sums of dkey and dvalue
  int64_t chunks() const { return chunks_; }  // partial sums of dquery
  int64_t pieces() const { return params_.batch * params_.heads_kv * groups_ * chunks_; }

  const BackwardPiece& Piece(int64_t index) const { return pieces_[index]; }

 private:
  const pfm_params& params_;
  const MaskPlan& mask_;
  int64_t groups_, chunks_;
  BackwardPiece* pieces_;
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_BACKWARD_SPLIT_H_
