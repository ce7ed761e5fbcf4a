// wgmma, issued by four warps together and waited for by each. Products are computed when the last of the four has
// issued the instruction; until a warp waits, its sums are NaN. Operands must not change until all four have waited:
// a wait covers the products of its own warp, and every warp counts as a reader of both operands.
#include <algorithm>
#include <cstring>
#include <deque>

#include "async.h"
#include "collectives.h"
#include "emulator.h"
#include "shared_memory.h"

namespace pfm::emulator {

namespace {

constexpr int kWarps = 4, kRows = 64, kDepth = 16;
int64_t products = 0;                     // under Mutex()
constexpr uint32_t kPoison = 0x7fa0dead;  // a signalling NaN: arithmetic changes its bits

// Sums of a warp with instructions in flight.
struct Sums {
  float* registers[kLanes];
  std::vector<float> value;  // [lane][per lane]
  int64_t last_instruction;
};

struct Instruction {
  WgmmaOperands operands;
  Where where;
  int issued = 0;                     // warps
  int waited = 0;                     // bits: warps
  std::vector<SharedAddress> chunks;  // that it reads
  uint32_t a[kWarps][kLanes][4];      // from registers, at the issue
  const uint32_t* a_registers[kWarps][kLanes];
  const float* sums[kWarps];  // of lane 0
  int64_t group[kWarps];
};

struct WarpState {
  int64_t issued = 0, groups = 0;  // so far
  bool fenced = false;
  std::vector<Sums> sums;
};

}  // namespace

struct WarpgroupState {
  WarpState warps[kWarps];
  std::deque<Instruction> instructions;  // that some warp has not waited for
  int64_t first = 0;                     // number of instructions[0]
};

namespace {

WarpgroupState& Warpgroup(const Warp& warp, Where where) {
  const int group = warp.index / kWarps;
  if (static_cast<size_t>(group * kWarps + kWarps) > warp.block->warps.size()) {
    machine.Fail(where, "a warpgroup instruction outside a whole warpgroup");
  }
  std::shared_ptr<WarpgroupState>& state = Async().warpgroups[group];
  if (state == nullptr) state = std::make_shared<WarpgroupState>();
  return *state;
}

Sums* SumsOf(WarpState& state, const float* registers) {
  for (Sums& sums : state.sums) {
    if (sums.registers[0] == registers) return &sums;
  }
  return nullptr;
}

// Descriptor of a matrix in shared memory (PTX manual, "Matrix descriptor").
struct Descriptor {
  explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4) {
    const int mode = static_cast<int>(bits >> 62);
    span = mode == 0 ? 0 : 256 >> mode;
  }
  SharedAddress start;
  uint32_t leading, stride;
  int span;  // bytes of a row of the swizzled pattern; 0: none

  // Address of 8 elements from (mn, k) on, along k or, if transposed, along mn.
  SharedAddress Chunk(int mn, int k, bool transposed) const {
    uint32_t offset;
    if (!transposed) {
      offset = span == 0 ? mn / 8 * stride + mn % 8 * 16 + k / 8 * leading
                         : mn / 8 * stride + mn % 8 * static_cast<uint32_t>(span) + k / 8 * 16;
    } else if (span == 0) {
      offset = mn / 8 * stride + k % 8 * 16 + k / 8 * leading;
    } else {
      const int wide = span / 2;
      offset = mn / wide * leading + mn % wide * 2 + k % 8 * static_cast<uint32_t>(span) + k / 8 * stride;
    }
    return Swizzle(start + offset, span);
  }
};

void CheckDescriptor(uint64_t bits, Where where) {
  constexpr uint64_t kUnused = uint64_t{3} << 14 | uint64_t{3} << 30 | uint64_t{0xffff} << 46;
  if ((bits & kUnused) != 0) machine.Fail(where, "a matrix descriptor with bits set that have to be zero");
}

template <class Visit>
void ForChunks(uint64_t bits, int size, bool transposed, Visit visit) {
  const Descriptor descriptor(bits);
  if (!transposed) {
    for (int mn = 0; mn < size; ++mn) {
      for (int k = 0; k < kDepth; k += 8) visit(descriptor.Chunk(mn, k, false), mn, k);
    }
  } else {
    for (int k = 0; k < kDepth; ++k) {
      for (int mn = 0; mn < size; mn += 8) visit(descriptor.Chunk(mn, k, true), mn, k);
    }
  }
}

// [mn][k]
std::vector<float> ReadMatrix(const Block& block, uint64_t bits, int size, bool transposed, bool is_bfloat16) {
  std::vector<float> matrix(static_cast<size_t>(size) * kDepth);
  ForChunks(bits, size, transposed, [&](SharedAddress chunk, int mn, int k) {
    uint16_t element[8];
    std::memcpy(element, block.shared.data() + (chunk - kDynamicShared), sizeof element);
    for (int i = 0; i < 8; ++i) {
      const float value = is_bfloat16 ? FromBFloat16(element[i]) : FromFloat16(element[i]);
      matrix[transposed ? (mn + i) * kDepth + k : mn * kDepth + k + i] = value;
    }
  });
  return matrix;
}

// Lane l of warp w holds sums (16 w + l / 4 + 8 (i / 2 % 2), 8 (i / 4) + 2 (l % 4) + i % 2), and of A the same rows:
// register r has columns 2 (l % 4) + 8 (r / 2) and the next of row 16 w + l / 4 + 8 (r % 2).
void Multiply(const Block& block, WarpgroupState& group, const Instruction& in) {
  const WgmmaOperands& operands = in.operands;
  const int columns = operands.columns;
  std::vector<float> a(kRows * kDepth);
  if (operands.a == nullptr) {
    a = ReadMatrix(block, operands.a_descriptor, kRows, operands.a_transposed, operands.is_bfloat16);
  } else {
    for (int i = 0; i < kWarps * kLanes * 8; ++i) {
      const int w = i / 256, lane = i / 8 % 32, r = i / 2 % 4, half = i % 2;
      const uint16_t bits = static_cast<uint16_t>(in.a[w][lane][r] >> 16 * half);
      const int row = 16 * w + lane / 4 + 8 * (r % 2), k = 2 * (lane % 4) + 8 * (r / 2) + half;
      a[row * kDepth + k] = operands.is_bfloat16 ? FromBFloat16(bits) : FromFloat16(bits);
    }
  }
  const std::vector<float> b =
      ReadMatrix(block, operands.b_descriptor, columns, operands.b_transposed, operands.is_bfloat16);
  std::vector<float> b_rows(static_cast<size_t>(kDepth) * columns), product(static_cast<size_t>(kRows) * columns);
  for (int n = 0; n < columns; ++n) {
    for (int k = 0; k < kDepth; ++k) b_rows[k * columns + n] = b[n * kDepth + k];
  }
  for (int m = 0; m < kRows; ++m) {
    for (int k = 0; k < kDepth; ++k) {
      const float factor = a[m * kDepth + k];
      for (int n = 0; n < columns; ++n) product[m * columns + n] += factor * b_rows[k * columns + n];
    }
  }
  for (int w = 0; w < kWarps; ++w) {
    std::vector<float>& value = SumsOf(group.warps[w], in.sums[w])->value;
    const int per_lane = columns / 2;
    for (int i = 0; i < kLanes * per_lane; ++i) {
      const int lane = i / per_lane, r = i % per_lane;
      const int row = 16 * w + lane / 4 + 8 * (r / 2 % 2), column = 8 * (r / 4) + 2 * (lane % 4) + r % 2;
      value[i] = (operands.accumulates ? value[i] : 0.0f) + product[row * columns + column];
    }
  }
}

bool IsSameInstruction(const WgmmaOperands& a, const WgmmaOperands& b) {
  return a.columns == b.columns && (a.a == nullptr) == (b.a == nullptr) && a.a_descriptor == b.a_descriptor &&
         a.b_descriptor == b.b_descriptor && a.a_transposed == b.a_transposed && a.b_transposed == b.b_transposed &&
         a.accumulates == b.accumulates && a.is_bfloat16 == b.is_bfloat16;
}

// Puts the sums of the warp in flight: from now on its registers must not be accessed.
void TakeSums(Warp& warp, WarpState& state, int64_t number, int per_lane) {
  const auto lane_operands = [&](int lane) { return static_cast<WgmmaOperands*>(warp.operand[lane]); };
  Sums* sums = SumsOf(state, lane_operands(0)->sums);
  if (sums == nullptr) {
    state.sums.push_back({});
    sums = &state.sums.back();
    for (int lane = 0; lane < kLanes; ++lane) {
      sums->registers[lane] = lane_operands(lane)->sums;
      sums->value.insert(sums->value.end(), sums->registers[lane], sums->registers[lane] + per_lane);
      for (int i = 0; i < per_lane; ++i) std::memcpy(sums->registers[lane] + i, &kPoison, 4);
    }
  } else if (sums->value.size() != static_cast<size_t>(kLanes * per_lane)) {
    machine.Fail(warp.where, "sums of another shape are in flight in these registers");
  }
  sums->last_instruction = number;
}

void ExecuteMultiply(Warp& warp) {
  WarpgroupState& group = Warpgroup(warp, warp.where);
  const int w = warp.index % kWarps;
  WarpState& state = group.warps[w];
  const WgmmaOperands& operands = *static_cast<WgmmaOperands*>(warp.operand[0]);
  if (!state.fenced) machine.Fail(warp.where, "no WarpgroupFence before this instruction since the last wait");
  for (int lane = 1; lane < kLanes; ++lane) {
    if (!IsSameInstruction(*static_cast<WgmmaOperands*>(warp.operand[lane]), operands)) {
      machine.Fail(warp.where, "lanes of a warp give different descriptors");
    }
  }
  const int64_t number = state.issued++;
  const size_t index = static_cast<size_t>(number - group.first);
  if (index == group.instructions.size()) {
    group.instructions.emplace_back();
    group.instructions.back().operands = operands;
    group.instructions.back().where = warp.where;
  }
  Instruction& instruction = group.instructions[index];
  if (!IsSamePlace(instruction.where, warp.where) || !IsSameInstruction(instruction.operands, operands)) {
    machine.Fail(warp.where, "warps of a warpgroup in different instructions: another one in that of " +
                                 Describe(instruction.where) + ", or with other descriptors");
  }
  const bool is_first = instruction.issued == 0;
  const auto read = [&](SharedAddress chunk, int, int) {
    BeginAsyncRead(chunk, warp.where);
    if (is_first) instruction.chunks.push_back(chunk);
  };
  CheckDescriptor(operands.b_descriptor, warp.where);
  ForChunks(operands.b_descriptor, operands.columns, operands.b_transposed, read);
  if (operands.a == nullptr) {
    CheckDescriptor(operands.a_descriptor, warp.where);
    ForChunks(operands.a_descriptor, kRows, operands.a_transposed, read);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t* a = static_cast<WgmmaOperands*>(warp.operand[lane])->a;
    instruction.a_registers[w][lane] = a;
    if (a != nullptr) std::memcpy(instruction.a[w][lane], a, sizeof instruction.a[w][lane]);
  }
  instruction.group[w] = state.groups;
  instruction.sums[w] = operands.sums;
  TakeSums(warp, state, number, operands.columns / 2);
  if (++instruction.issued == kWarps) {
    Multiply(*warp.block, group, instruction);
    ++products;
  }
}

// Ends the instructions of the groups before `end` for this warp.
void Retire(Warp& warp, int64_t end) {
  WarpgroupState& group = Warpgroup(warp, warp.where);
  const int w = warp.index % kWarps;
  WarpState& state = group.warps[w];
  int64_t number = group.first;
  for (Instruction& instruction : group.instructions) {
    if (number >= state.issued || instruction.group[w] >= end) break;
    ++number;
    if ((instruction.waited >> w & 1) != 0) continue;
    for (int lane = 0; lane < kLanes && instruction.a_registers[w][lane] != nullptr; ++lane) {
      if (std::memcmp(instruction.a[w][lane], instruction.a_registers[w][lane], sizeof instruction.a[w][lane]) != 0) {
        machine.Fail(instruction.where, "the operand in registers was changed while this instruction was in flight");
      }
    }
    for (const SharedAddress chunk : instruction.chunks) EndAsyncRead(chunk, true, instruction.where);
    instruction.waited |= 1 << w;
  }
  for (size_t i = 0; i < state.sums.size();) {
    Sums& sums = state.sums[i];
    if (sums.last_instruction >= number) {
      ++i;
      continue;
    }
    const size_t per_lane = sums.value.size() / kLanes;
    for (size_t r = 0; r < sums.value.size(); ++r) {
      float* const at = sums.registers[r / per_lane] + r % per_lane;
      if (std::memcmp(at, &kPoison, 4) != 0) machine.Fail(warp.where, "sums were changed before this wait");
      *at = sums.value[r];
    }
    state.sums.erase(state.sums.begin() + static_cast<std::ptrdiff_t>(i));
  }
  while (!group.instructions.empty() && group.instructions.front().waited == (1 << kWarps) - 1) {
    group.instructions.pop_front();
    ++group.first;
  }
}

bool AreIssued(const Thread& thread, int64_t end, Where where) {
  WarpgroupState& group = Warpgroup(*thread.warp, where);
  const int w = thread.warp->index % kWarps;
  int64_t number = group.first;
  for (const Instruction& instruction : group.instructions) {
    if (number++ >= group.warps[w].issued || instruction.group[w] >= end) break;
    if (instruction.issued != kWarps) return false;
  }
  return true;
}

WarpState& StateOf(Warp& warp) { return Warpgroup(warp, warp.where).warps[warp.index % kWarps]; }

struct WaitOperands : AsyncOperands {
  int64_t end;
};

}  // namespace

int64_t WarpgroupProducts() {
  const std::lock_guard<std::recursive_mutex> lock(Mutex());
  return products;
}

void FenceWarpgroup(Where where) {
  AsyncOperands operands = {[](Warp& warp) { StateOf(warp).fenced = true; }};
  machine.Arrive(Collective::kAsync, 1, &operands, where);
}

void CommitWarpgroup(Where where) {
  AsyncOperands operands = {[](Warp& warp) { ++StateOf(warp).groups; }};
  machine.Arrive(Collective::kAsync, 2, &operands, where);
}

void WaitWarpgroup(int groups, Where where) {
  const WarpgroupState& group = Warpgroup(*current->warp, where);
  WaitOperands operands;
  operands.end = group.warps[current->warp->index % kWarps].groups - groups;
  while (!AreIssued(*current, operands.end, where)) machine.Poll(where);
  operands.execute = [](Warp& warp) {
    StateOf(warp).fenced = false;
    Retire(warp, static_cast<WaitOperands*>(static_cast<AsyncOperands*>(warp.operand[0]))->end);
  };
  machine.Arrive(Collective::kAsync, 3, static_cast<AsyncOperands*>(&operands), where);
}

void MultiplyWarpgroup(WgmmaOperands operands, Where where) {
  operands.execute = ExecuteMultiply;
  machine.Arrive(Collective::kAsync, 4, &operands, where);
}

bool HasWarpgroupWork(const Thread& thread) {
  const auto& groups = thread.block->async->warpgroups;
  const auto found = groups.find(thread.warp->index / kWarps);
  return found != groups.end() && !found->second->warps[thread.warp->index % kWarps].sums.empty();
}

}  // namespace pfm::emulator
