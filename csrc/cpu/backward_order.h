// In which order threads take the key tiles of the backward pass. Results do not depend on it.
#ifndef PFM_CPU_BACKWARD_ORDER_H_
#define PFM_CPU_BACKWARD_ORDER_H_

#include <cstdint>

#include "../flashmask.h"

namespace pfm::cpu {

// One key tile, against the query heads of one group of a kv head.
struct BackwardItem {
  int64_t batch, kv_head, group;
  int64_t head_begin, head_end;  // query heads
  int64_t key_tile;
};

// The key tiles of some query heads add to the same dquery, one after another. Such a sequence is run from its first
// key tile to its last; as many sequences as there are threads advance side by side, so that a thread seldom finds
// another one at the dquery it wants.
class BackwardOrder {
 public:
  BackwardOrder(const pfm_params& params, int64_t key_tiles);

  int64_t groups() const { return groups_; }  // of query heads that share a kv head: partial sums of dkey and dvalue
  int64_t items() const { return sequences_ * key_tiles_; }
  BackwardItem Item(int64_t index) const;

 private:
  int64_t heads_q_, heads_kv_, key_tiles_;
  int64_t groups_;
  int64_t sequences_, side_by_side_;
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_BACKWARD_ORDER_H_
