// Small kernels, each in a right version and in a wrong one that a GPU would run without complaint.
//   program list                     the mistakes
//   program order SEED               block and warp of each thread, in the order of their tickets
//   program NAME right|wrong SEED    runs one; prints the report of the emulator, "values" if only the results are
//                                    wrong, or nothing. The exit status is 0 unless nothing could be run.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "array_kernels.h"
#include "barrier_kernels.h"
#include "memory_kernels.h"
#include "pipeline_kernels.h"

namespace {

using namespace pfm::misuse;

constexpr Mistake kMistakes[] = {
    {"removed_barrier", RunCase<RemovedBarrier>},
    {"removed_trailing_barrier", RunCase<RemovedTrailingBarrier>},
    {"removed_warp_barrier", RunCase<RemovedWarpBarrier>},
    {"plain_beside_atomic", RunCase<PlainBesideAtomic>},
    {"shared_out_of_bounds", RunCase<SharedOutOfBounds>},
    {"shared_maximum", RunSharedMaximum},
    {"shared_misaligned", RunCase<SharedMisaligned>},
    {"shared_unwritten", RunCase<SharedUnwritten>},
    {"shared_start_forgotten", RunCase<SharedStartForgotten>},
    {"global_out_of_bounds", RunCase<GlobalOutOfBounds>},
    {"array_overrun", RunArrays<ArrayOverrun>},
    {"array_underrun", RunArrays<ArrayUnderrun>},
    {"array_of_last_call", RunArrays<ArrayOfLastCall>},
    {"global_misaligned", RunCase<GlobalMisaligned>},
    {"global_unwritten", RunCase<GlobalUnwritten>},
    {"output_unwritten", RunCase<OutputUnwritten>},
    {"sum_not_cleared", RunCase<SumNotCleared>},
    {"blocks_write_the_same", RunCase<BlocksWriteTheSame>},
    {"blocks_write_the_same_half", RunCase<BlocksWriteTheSameHalf>},
    {"half_of_anothers_word", RunCase<HalfOfAnothersWord>},
    {"block_reads_what_another_writes", RunCase<BlockReadsWhatAnotherWrites>},
    {"overwritten_after_read", RunCase<OverwrittenAfterRead>},
    {"relaxed_instead_of_release", RunCase<RelaxedInsteadOfRelease>},
    {"release_before_the_data", RunCase<ReleaseBeforeTheData>},
    {"release_without_barrier", RunCase<ReleaseWithoutBarrier>},
    {"acquire_without_barrier", RunCase<AcquireWithoutBarrier>},
    {"missing_wait", RunCase<MissingWait>},
    {"missing_commit", RunCase<MissingCommit>},
    {"wait_too_lenient", RunCase<WaitTooLenient>},
    {"wait_without_barrier", RunCase<WaitWithoutBarrier>},
    {"wrong_stage", RunCase<WrongStage>},
    {"stage_overwritten", RunCase<StageOverwritten>},
    {"copy_source_changed", RunCase<CopySourceChanged>},
    {"copies_left_at_the_end", RunCase<CopiesLeftAtTheEnd>},
    {"no_swizzle", RunCase<NoSwizzle>},
    {"swizzle_of_one_side", RunCase<SwizzleOfOneSide>},
    {"divergent_shuffle", RunCase<DivergentShuffle>},
    {"divergent_kinds", RunCase<DivergentKinds>},
    {"divergent_barrier", RunCase<DivergentBarrier>},
    {"lanes_return_early", RunCase<LanesReturnEarly>},
    {"deadlock_of_named_barriers", RunCase<DeadlockOfNamedBarriers>},
    {"named_barrier_count", RunCase<NamedBarrierCount>},
    {"named_barrier_twice", RunCase<NamedBarrierTwice>},
    {"named_barrier_left", RunCase<NamedBarrierLeft>},
    {"waits_for_nobody", RunCase<WaitsForNobody>},
    {"endless_loop", RunCase<EndlessLoop>},
};

constexpr int kBlocks = 4, kThreads = 64;

void TakeTicket(const Arguments arguments) {
  const int ticket = ptx::AtomicAdd(arguments.flags, 1);
  ptx::StoreGlobal(arguments.out + ticket, static_cast<uint32_t>(ptx::BlockIndex() * 2 + ptx::ThreadIndex() / 32));
  ptx::SyncWarp();
}

int PrintOrder(uint64_t seed) {
  pfm::emulator::CurrentOptions().seed = seed;
  pfm::emulator::Buffer<uint32_t> out("out", kBlocks * kThreads);
  pfm::emulator::Buffer<int32_t> flags("flags", std::vector<int32_t>(1, 0));
  const Arguments arguments = {false, nullptr, out.data(), flags.data()};
  const ptx::LaunchStatus status = ptx::Launch(TakeTicket, kBlocks, kThreads, 0, nullptr, arguments);
  if (!status.ok()) std::printf("%s\n", status.message);
  for (size_t i = 0; i < out.size(); ++i) std::printf("%u ", out[i]);
  return status.ok() ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && std::strcmp(arguments[1], "list") == 0) {
    for (const Mistake& mistake : kMistakes) std::printf("%s\n", mistake.name);
    return 0;
  }
  if (count == 3 && std::strcmp(arguments[1], "order") == 0) {
    return PrintOrder(std::strtoull(arguments[2], nullptr, 10));
  }
  if (count == 4) {
    for (const Mistake& mistake : kMistakes) {
      if (std::strcmp(mistake.name, arguments[1]) != 0) continue;
      const bool wrong = std::strcmp(arguments[2], "wrong") == 0;
      std::printf("%s\n", mistake.run(wrong, std::strtoull(arguments[3], nullptr, 10)).c_str());
      return 0;
    }
  }
  std::fprintf(stderr, "usage: program list | order SEED | NAME right|wrong SEED\n");
  return 2;
}
