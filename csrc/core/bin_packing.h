// Bin packing of lengths into bins of equal capacity. Every length lies in [0, capacity]; the caller checks that.
#ifndef PFM_CORE_BIN_PACKING_H_
#define PFM_CORE_BIN_PACKING_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace pfm {

// Next fit, in the given order: an item that does not fit closes the bin and opens the next. Writes the bin of every
// item and returns the number of bins.
inline int64_t PackInOrder(const int64_t* lengths, int64_t count, int64_t capacity, int64_t* bins) {
  int64_t bin = -1;
  int64_t room = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (bin < 0 || lengths[i] > room) {
      ++bin;
      room = capacity;
    }
    room -= lengths[i];
    bins[i] = bin;
  }
  return bin + 1;
}

// First fit decreasing: items from longest to shortest, ties in the given order, each into the first bin with room.
// Uses at most 11/9 of the fewest possible bins, plus 6/9 (Dosa, 2007). A tournament tree over the room left in the
// bins finds the first bin in O(log count).
inline int64_t PackFirstFitDecreasing(const int64_t* lengths, int64_t count, int64_t capacity, int64_t* bins) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });

  size_t leaves = 1;
  while (leaves < static_cast<size_t>(count)) leaves *= 2;
  std::vector<int64_t> most_room(2 * leaves, capacity);  // node i has children 2i and 2i + 1
  int64_t used = 0;
  for (const int64_t item : order) {
    size_t node = 1;
    while (node < leaves) node = most_room[2 * node] >= lengths[item] ? 2 * node : 2 * node + 1;
    bins[item] = static_cast<int64_t>(node - leaves);
    used = std::max(used, bins[item] + 1);
    most_room[node] -= lengths[item];
    for (node /= 2; node > 0; node /= 2) most_room[node] = std::max(most_room[2 * node], most_room[2 * node + 1]);
  }
  return used;
}

}  // namespace pfm

#endif  // PFM_CORE_BIN_PACKING_H_
