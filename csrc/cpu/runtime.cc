// Thread count and instruction set of this process.
#include <omp.h>
#include <pthread.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstring>

#include "attention.h"
#include "parallel.h"
#include "tile_kernels.h"

namespace pfm::cpu {
namespace {

std::atomic<bool> forked{false};

[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked = true; });

struct InstructionSet {
  TileKernels kernels;
  bool available;  // by name
  bool pays;       // where none is named
};

#if defined(__x86_64__)
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

// Requires VBMI2 to exclude the first AVX-512 processors, which lower their clock for 512-bit instructions.
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vbmi2");
}

// Whether 512-bit FMAs run at twice the rate of 256-bit ones. CPUID does not tell. AVX512-FP16 came with Sapphire
// Rapids, which has two units of 512 bits; Zen 4 splits them, and AVX2 products reach its peak.
bool HasWideFma() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned kAvx512Fp16 = 1u << 23;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAvx512Fp16) != 0;
}

// Best first.
const InstructionSet kInstructionSets[] = {
    {{kAvx2Pack, kAvx512Products, kAvx512Rows, kAvx512Softmax, "avx512"}, HasAvx512(), HasWideFma()},
    {{kAvx2Pack, kAvx2Products, kAvx512Rows, kAvx512Softmax, "avx512_fma256"}, HasAvx512(), true},
    {{kAvx2Pack, kAvx2Products, kAvx2Rows, kAvx2Softmax, "avx2"}, HasAvx2(), true},
    {{kPortablePack, kPortableProducts, kPortableRows, kPortableSoftmax, "portable"}, true, true},
};
#else
const InstructionSet kInstructionSets[] = {
    {{kPortablePack, kPortableProducts, kPortableRows, kPortableSoftmax, "portable"}, true, true},
};
#endif

const TileKernels* Find(const char* name) {
  for (const InstructionSet& set : kInstructionSets) {
    if (!set.available) continue;
    if (*name == '\0' ? set.pays : std::strcmp(name, set.kernels.name) == 0) return &set.kernels;
  }
  return nullptr;
}

std::atomic<const TileKernels*> in_use{Find("")};

}  // namespace

bool InForkedChild() { return forked; }

int ThreadInTeam() { return omp_get_thread_num(); }

int DefaultThreads() { return InForkedChild() ? 1 : omp_get_max_threads(); }

const TileKernels& Kernels() { return *in_use; }

const char* IsaName() { return Kernels().name; }

bool SetIsa(const char* name) {
  const TileKernels* kernels = Find(name);
  if (kernels != nullptr) in_use = kernels;
  return kernels != nullptr;
}

}  // namespace pfm::cpu
