// The product of gemm.h and its mistakes, on a GPU or in the emulator.
//   program MISTAKE SEED    prints the report, "values" if only the results are wrong, or nothing
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "emulator/conformance/device_array.h"
#include "gemm.h"

namespace {

using namespace pfm::sm90;

constexpr int kRows = 100, kDepth = 552;  // ragged: the last tiles exceed the matrices

uint16_t BFloat16Of(int value) {
  const float number = static_cast<float>(value);
  uint32_t bits;
  static_assert(sizeof bits == sizeof number, "the same bits");
  __builtin_memcpy(&bits, &number, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);
}

int AAt(int row, int k) { return (row * 7 + k * 3) % 11 - 5; }
int BAt(int k, int column) { return (k * 5 + column * 2) % 13 - 6; }

template <Mistake kMistake>
void Run() {
  std::vector<uint16_t> a, b;
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < kDepth; ++k) a.push_back(BFloat16Of(AAt(row, k)));
  }
  for (int k = 0; k < kDepth; ++k) {
    for (int column = 0; column < kColumns; ++column) b.push_back(BFloat16Of(BAt(k, column)));
  }
  using pfm::conformance::Require;
  pfm::conformance::DeviceArray<uint16_t> a_device("a", a), b_device("b", b);
  pfm::conformance::DeviceArray<float> c_device("c", static_cast<size_t>(kRows) * kColumns);
  Arguments arguments = {};
  arguments.depth = kDepth;
  const int box_rows = kTileRows - (kMistake == Mistake::kSmallBox ? 1 : 0);
  const ptx::TensorShape shapes[] = {{a_device.data(),
                                      ptx::ElementType::kBFloat16,
                                      2,
                                      {kDepth, kRows},
                                      {2, 2 * kDepth},
                                      {kTileDepth, box_rows},
                                      ptx::Swizzle::k128},
                                     {b_device.data(),
                                      ptx::ElementType::kBFloat16,
                                      2,
                                      {kColumns, kDepth},
                                      {2, 2 * kColumns},
                                      {kColumns / 2, kTileDepth},
                                      ptx::Swizzle::k128},
                                     {c_device.data(),
                                      ptx::ElementType::kFloat32,
                                      2,
                                      {kColumns, kRows},
                                      {4, 4 * kColumns},
                                      {kColumns, kTileRows},
                                      ptx::Swizzle::kNone}};
  Require("a", ptx::EncodeTensorMap(&arguments.a, shapes[0]));
  Require("b", ptx::EncodeTensorMap(&arguments.b, shapes[1]));
  Require("c", ptx::EncodeTensorMap(&arguments.c, shapes[2]));
  const int blocks = (kRows + kTileRows - 1) / kTileRows;
  pfm::conformance::Run("Gemm", Gemm<kMistake>, blocks, kThreads, kSharedBytes, arguments);
  const std::vector<float> c = c_device.Read();
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      int sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += AAt(row, k) * BAt(k, column);
      if (c[row * kColumns + column] == static_cast<float>(sum)) continue;
      std::printf("values\n");
      return;
    }
  }
}

struct Named {
  const char* name;
  void (*run)();
};

constexpr Named kRuns[] = {
    {"none", Run<Mistake::kNone>},
    {"released_after_barrier", Run<Mistake::kReleasedAfterBarrier>},
#if defined(PFM_EMULATOR)
    {"wrong_phase", Run<Mistake::kWrongPhase>},
    {"no_expected_bytes", Run<Mistake::kNoExpectedBytes>},
    {"no_empty_wait", Run<Mistake::kNoEmptyWait>},
    {"early_release", Run<Mistake::kEarlyRelease>},
    {"early_release_of_one_warp", Run<Mistake::kEarlyReleaseOfOneWarp>},
    {"released_by_one_warp", Run<Mistake::kReleasedByOneWarp>},
    {"released_for_another", Run<Mistake::kReleasedForAnother>},
    {"too_few_arrivals", Run<Mistake::kTooFewArrivals>},
    {"no_proxy_fence", Run<Mistake::kNoProxyFence>},
    {"no_wait", Run<Mistake::kNoWait>},
    {"no_warpgroup_fence", Run<Mistake::kNoWarpgroupFence>},
    {"swapped_swizzle", Run<Mistake::kSwappedSwizzle>},
    {"swapped_major", Run<Mistake::kSwappedMajor>},
    {"small_box", Run<Mistake::kSmallBox>},
    {"no_barrier_fence", Run<Mistake::kNoBarrierFence>},
    {"too_many_arrivals", Run<Mistake::kTooManyArrivals>},
    {"wrong_direction", Run<Mistake::kWrongDirection>},
    {"no_store_wait", Run<Mistake::kNoStoreWait>},
    {"no_sync", Run<Mistake::kNoSync>},
    {"overwritten_barrier", Run<Mistake::kOverwrittenBarrier>},
    {"no_commit", Run<Mistake::kNoCommit>},
    {"changed_in_flight", Run<Mistake::kChangedInFlight>},
#endif
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
#if defined(PFM_EMULATOR)
  pfm::emulator::CurrentOptions().seed = std::strtoull(arguments[2], nullptr, 10);
#endif
  for (const Named& run : kRuns) {
    if (std::string(run.name) != arguments[1]) continue;
    run.run();
    return 0;
  }
  return 2;
}
