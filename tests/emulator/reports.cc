// Parts of reports: source locations, names, and waiting threads.
#include <cstring>

#include "machine.h"

namespace pfm::emulator {

namespace {

// Source locations by number, in a table with open addressing; number 0 is no location.
constexpr uint32_t kMaxSites = 1 << 14;
Where sites[kMaxSites];

}  // namespace

const char* NameOf(Collective collective) {
  switch (collective) {
    case Collective::kNone:
      return "nothing";
    case Collective::kMma:
      return "Mma16x8x16";
    case Collective::kLoadMatrices:
      return "LoadMatrices";
    case Collective::kLoadMatricesTransposed:
      return "LoadMatricesTransposed";
    case Collective::kShuffle:
      return "Shuffle";
    case Collective::kBallot:
      return "Ballot";
    case Collective::kReduceMin:
      return "ReduceMin";
    case Collective::kReduceMax:
      return "ReduceMax";
    case Collective::kSyncWarp:
      return "SyncWarp";
    case Collective::kNamedBarrier:
      return "NamedBarrierSync or NamedBarrierArrive";
    case Collective::kAsync:
      return "an instruction of a warp or warpgroup";
  }
  return "?";
}

Site SiteOf(Where where) {
  uint32_t site = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(where.file) * 31 + where.line * 2654435761u);
  for (uint32_t tries = 0; tries < kMaxSites; ++tries) {
    site = (site + 1) % kMaxSites;
    if (site == 0) continue;
    if (sites[site].file == nullptr) sites[site] = where;
    if (sites[site].file == where.file && sites[site].line == where.line) return static_cast<Site>(site);
  }
  return 0;
}

Where PlaceOf(Site site) { return sites[site]; }

std::string Describe(Where where) {
  if (where.file == nullptr) return "?";
  const char* slash = std::strrchr(where.file, '/');
  return std::string(slash == nullptr ? where.file : slash + 1) + ":" + std::to_string(where.line);
}

void Machine::ReportDeadlock() {
  std::string message = "deadlock:";
  for (const auto& block : resident_) {
    if (block == nullptr) continue;
    // One entry per location where threads of a warp wait.
    for (const Warp& warp : block->warps) {
      uint32_t left = ~warp.exited;
      while (left != 0) {
        const Thread& first = block->threads[warp.index * kLanes + __builtin_ctz(left)];
        uint32_t same = 0;
        for (int lane = 0; lane < kLanes; ++lane) {
          const Thread& thread = block->threads[warp.index * kLanes + lane];
          const bool waits_there =
              thread.waits_for == first.waits_for && IsSamePlace(thread.waits_at, first.waits_at);
          if ((left >> lane & 1) != 0 && waits_there) same |= 1u << lane;
        }
        left &= ~same;
        message += " block " + std::to_string(block->index) + ", thread " + std::to_string(first.index) + " and " +
                   std::to_string(__builtin_popcount(same) - 1) + " more lanes of warp " +
                   std::to_string(warp.index) + " wait in " + first.waits_for + " at " + Describe(first.waits_at) +
                   ";";
      }
      if (warp.exited != 0) {
        message += " block " + std::to_string(block->index) + ", " + std::to_string(__builtin_popcount(warp.exited)) +
                   " lanes of warp " + std::to_string(warp.index) + " have returned;";
      }
    }
  }
  throw Error(message);
}

}  // namespace pfm::emulator
