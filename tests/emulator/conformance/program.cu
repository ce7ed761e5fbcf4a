// Every primitive of csrc/cuda/ptx/ptx.h against plain C++, on a GPU (compiled by nvcc) or in the emulator (compiled
// by the host compiler with PFM_EMULATOR).
//   program list            the probes
//   program check PROBE     runs one probe; the exit status says whether all results are right
//   program write FILE      runs all probes and writes their results for run.py
#include <cstdio>
#include <cstring>

#include "arithmetic_probes.h"
#include "memory_probes.h"
#include "warp_probes.h"

namespace {

using namespace pfm::conformance;

constexpr Probe kProbes[] = {
    {"places", ProbePlaces},
    {"shared_moves", ProbeSharedMoves},
    {"global_moves", ProbeGlobalMoves},
    {"atomics", ProbeAtomics},
    {"chain", ProbeChain},
    {"copies", ProbeCopies},
    {"barriers", ProbeBarriers},
    {"lanes", ProbeLanes},
    {"matrices", ProbeMatrices},
    {"products", ProbeProducts},
    {"functions", ProbeFunctions},
    {"maximum", ProbeMaximum},
    {"conversions", ProbeConversions},
};

int List() {
  for (const Probe& probe : kProbes) std::printf("%s\n", probe.name);
  return 0;
}

int Check(const char* name) {
  for (const Probe& probe : kProbes) {
    if (std::strcmp(probe.name, name) != 0) continue;
    Recorder recorder(nullptr);
    probe.run(recorder);
    return recorder.failures() == 0 ? 0 : 1;
  }
  std::fprintf(stderr, "no probe '%s'\n", name);
  return 2;
}

int WriteAll(const char* path) {
  std::FILE* file = std::fopen(path, "wb");
  if (file == nullptr) Stop(path, "can not be written");
  Recorder recorder(file);
  for (const Probe& probe : kProbes) probe.run(recorder);
  return std::fclose(file) == 0 && recorder.failures() == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && std::strcmp(arguments[1], "list") == 0) return List();
  if (count == 3 && std::strcmp(arguments[1], "check") == 0) return Check(arguments[2]);
  if (count == 3 && std::strcmp(arguments[1], "write") == 0) return WriteAll(arguments[2]);
  std::fprintf(stderr, "usage: program list | check PROBE | write FILE\n");
  return 2;
}
