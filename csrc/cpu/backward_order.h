// Order in which threads process the key tiles of the backward pass. Results do not depend on it.
#ifndef PFM_CPU_BACKWARD_ORDER_H_
#define PFM_CPU_BACKWARD_ORDER_H_

#include <cstdint>

#include "../flashmask.h"

namespace pfm::cpu {

// Work item: one key tile and the query heads of one group of a kv head.
struct BackwardItem {
  int64_t batch, kv_head, group;
  int64_t head_begin, head_end;  // query heads
  int64_t key_tile;
};

// Items of one sequence (all key tiles of one group of query heads) add to the same dquery in order. As many
// sequences as there are threads advance together, so that threads rarely wait for each other's dquery.
class BackwardOrder {
 public:
  BackwardOrder(const pfm_params& params, int64_t key_tiles);

  int64_t groups() const { return groups_; }  // per kv head; each has partial sums of dkey, dvalue
  int64_t items() const { return sequences_ * key_tiles_; }
  BackwardItem Item(int64_t index) const;

 private:
  int64_t heads_q_, heads_kv_, key_tiles_;
  int64_t groups_;
  int64_t sequences_, side_by_side_;
};

}  // namespace pfm::cpu

#endif  // PFM_CPU_BACKWARD_ORDER_H_
