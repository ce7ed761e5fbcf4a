#include "counts.h"

#include <algorithm>

namespace pfm::emulator {

std::vector<LaunchCounts>& Counts() {
  static std::vector<LaunchCounts> counts;
  return counts;
}

void CountLoad() {
  int64_t& most = Counts().back().loads[current->warp->index];
  most = std::max(most, ++current->loads);
}

void CountWait() {
  Block& block = *current->block;
  int64_t bytes = 0;
  for (const Copy& copy : current->copies) bytes += copy.from == nullptr ? 0 : sizeof(copy.bytes);
  if (bytes <= current->most_in_flight) return;
  block.bytes_in_flight += bytes - current->most_in_flight;
  current->most_in_flight = bytes;
  CountInFlight(block.bytes_in_flight);
}

void CountInFlight(int64_t bytes) {
  int64_t& most = Counts().back().bytes_in_flight;
  most = std::max(most, bytes);
}

}  // namespace pfm::emulator
