#include "backward_order.h"

#include "../core/host_device.h"

namespace pfm::cpu {
namespace {

// Enough items for an even share on a workstation's threads.
constexpr int64_t kWantedItems = 32;

// Returns the smallest divisor of `whole` that is at least `wanted`, or `whole`.
int64_t DivisorAtLeast(int64_t whole, int64_t wanted) {
  for (int64_t divisor = Max<int64_t>(1, wanted); divisor < whole; ++divisor) {
    if (whole % divisor == 0) return divisor;
  }
  return whole;
}

}  // namespace

// With few items, the query heads of a kv head are also split into groups, at the cost of one dkey and dvalue per
// group. The split depends on shapes alone, so the sums are the same for any number of threads.
BackwardOrder::BackwardOrder(const pfm_params& params, int64_t key_tiles)
    : heads_q_(params.heads_q), heads_kv_(params.heads_kv), key_tiles_(key_tiles) {
  const int64_t kv_items = Max<int64_t>(1, params.batch * heads_kv_ * key_tiles_);
  groups_ = DivisorAtLeast(heads_q_ / heads_kv_, CeilDiv(kWantedItems, kv_items));
  sequences_ = params.batch * heads_kv_ * groups_;
  side_by_side_ = Max<int64_t>(1, params.num_workers);
}

BackwardItem BackwardOrder::Item(int64_t index) const {
  const int64_t first = index / (side_by_side_ * key_tiles_) * side_by_side_;
  const int64_t width = Min(side_by_side_, sequences_ - first);
  const int64_t rest = index - first * key_tiles_;
  const int64_t sequence = first + rest % width;
  const int64_t heads_per_group = heads_q_ / heads_kv_ / groups_;
  BackwardItem item;
  item.key_tile = rest / width;
  item.group = sequence % groups_;
  item.kv_head = sequence / groups_ % heads_kv_;
  item.batch = sequence / groups_ / heads_kv_;
  item.head_begin = (item.kv_head * groups_ + item.group) * heads_per_group;
  item.head_end = item.head_begin + heads_per_group;
  return item;
}

}  // namespace pfm::cpu
