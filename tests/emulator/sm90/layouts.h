// One wgmma instruction on matrices that the host lays out in shared memory, element by element, as specified in
// sm90.h.
#ifndef PFM_EMULATOR_SM90_LAYOUTS_H_
#define PFM_EMULATOR_SM90_LAYOUTS_H_

#include <cmath>
#include <cstdio>
#include <type_traits>
#include <vector>

#include "cuda/ptx/sm90.h"
#include "emulator/conformance/device_array.h"
#include "emulator/conformance/probe.h"

namespace pfm::sm90 {

namespace ptx = cuda::ptx;
using conformance::BitCast;
using conformance::DeviceArray;

constexpr int kDepth = 16, kRows = 64;

// Layout of a matrix of `size` (M or N) by 16 in shared memory: offsets of elements, and parameters of the
// descriptor.
struct Layout {
  int size;
  ptx::Major major;
  ptx::Swizzle swizzle;

  int Span() const { return swizzle == ptx::Swizzle::kNone ? 16 : ptx::SwizzleSpan(swizzle); }
  int Pattern() const { return 8 * Span(); }  // bytes of 8 rows of a span
  bool IsK() const { return major == ptx::Major::kK; }
  // Order of the patterns: kK along M or N (not swizzled: first along K); kMN along K first.
  int Leading() const { return IsK() ? (Span() == 16 ? Pattern() : 16) : LeadingOfMN(); }
  int LeadingOfMN() const { return Span() == 16 ? Pattern() : 2 * Pattern(); }
  int Stride() const { return Span() == 16 ? 2 * Pattern() : Pattern(); }
  int Bytes() const { return IsK() ? size / 8 * Stride() : (size * 2 + Span() - 1) / Span() * 2 * Pattern(); }

  int ByteOf(int mn, int k) const {
    const int row = IsK() ? mn % 8 : k % 8;                                    // of the pattern
    const int along = IsK() ? (Span() == 16 ? k % 8 : k) : mn % (Span() / 2);  // elements in the row
    const int second = IsK() ? (Span() == 16 ? k / 8 * Leading() : 0) : k / 8;
    const int start = IsK() ? mn / 8 * Stride() + second
                            : mn / (Span() / 2) * (Span() == 16 ? Stride() : Leading()) +
                                  second * (Span() == 16 ? Leading() : Stride());
    const int fold = swizzle == ptx::Swizzle::k128 ? row : swizzle == ptx::Swizzle::k64 ? row / 2 : row / 4;
    const int chunk = 2 * along / 16 ^ (Span() == 16 ? 0 : fold);
    return start + row * Span() + chunk * 16 + 2 * along % 16;
  }
};

struct LayoutArguments {
  const uint32_t* images;  // A, then B at 1024-byte multiples
  int bytes, b_at;
  int a_leading, a_stride, b_leading, b_stride;
  float* out;  // [64][columns], 1 at the start
  const uint32_t* a_registers;
};

template <class T, int kColumns, ptx::Major kA, ptx::Major kB, ptx::Swizzle kSwizzle, bool kFromRegisters>
PFM_KERNEL_BOUNDS(128, 1)
void MultiplyOnce(PFM_KERNEL_ARGUMENT LayoutArguments in) {
  const ptx::SharedAddress start = (ptx::DynamicShared() + 1023) / 1024 * 1024;
  const int thread = ptx::ThreadIndex(), lane = ptx::LaneIndex(), warp = thread / 32;
  for (int word = thread; word < in.bytes / 4; word += 128) {
    ptx::StoreShared(start + 4 * word, ptx::LoadGlobal(in.images + word));
  }
  ptx::FenceProxyAsync();
  ptx::SyncThreads();
  float sums[kColumns / 2];
  for (float& sum : sums) sum = 1.0f;
  uint32_t a[4];
  for (int r = 0; r < 4; ++r) a[r] = ptx::LoadGlobal(in.a_registers + 4 * thread + r);
  const uint64_t b = ptx::MatrixDescriptor(start + in.b_at, in.b_leading, in.b_stride, kSwizzle);
  ptx::WarpgroupFence();
  if constexpr (kFromRegisters) {
    ptx::Wgmma<T, kColumns, kB>(sums, a, b, true);
  } else {
    ptx::Wgmma<T, kColumns, kA, kB>(sums, ptx::MatrixDescriptor(start, in.a_leading, in.a_stride, kSwizzle), b, true);
  }
  ptx::WarpgroupCommit();
  ptx::WarpgroupWait<0>();
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = 16 * warp + lane / 4 + 8 * (i / 2 % 2), column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    ptx::StoreGlobal(in.out + row * kColumns + column, sums[i]);
  }
}

// Bits of a small integer in T.
template <class T>
uint16_t BitsOf(int value) {
  const uint32_t bits = BitCast<uint32_t>(static_cast<float>(value));
  if (std::is_same_v<T, ptx::BFloat16>) return static_cast<uint16_t>(bits >> 16);
  const uint32_t magnitude = value == 0 ? 0 : ((bits & 0x7fffffff) - (112u << 23)) >> 13;
  return static_cast<uint16_t>(bits >> 16 & 0x8000) | static_cast<uint16_t>(magnitude);
}

template <class T, int kColumns, ptx::Major kA, ptx::Major kB, ptx::Swizzle kSwizzle, bool kFromRegisters>
bool CheckLayout(uint32_t seed) {
  conformance::Random random(seed);
  const Layout a = {kRows, kA, kSwizzle}, b = {kColumns, kB, kSwizzle};
  const int b_at = (a.Bytes() + 1023) / 1024 * 1024, bytes = b_at + b.Bytes();
  std::vector<uint16_t> image(static_cast<size_t>(bytes) / 2);
  std::vector<int> a_value(kRows * kDepth), b_value(kColumns * kDepth);
  std::vector<uint32_t> registers(4 * 128);
  for (int i = 0; i < kRows * kDepth; ++i) {
    const int row = i / kDepth, k = i % kDepth;
    a_value[i] = random.Below(17) - 8;
    image[a.ByteOf(row, k) / 2] = BitsOf<T>(a_value[i]);
    const int thread = row / 16 * 32 + row % 8 * 4 + k % 8 / 2, r = row / 8 % 2 + k / 8 * 2;
    registers[4 * thread + r] |= static_cast<uint32_t>(BitsOf<T>(a_value[i])) << 16 * (k % 2);
  }
  for (int i = 0; i < kColumns * kDepth; ++i) {
    b_value[i] = random.Below(17) - 8;
    image[(b_at + b.ByteOf(i / kDepth, i % kDepth)) / 2] = BitsOf<T>(b_value[i]);
  }
  std::vector<uint32_t> words(image.size() / 2);
  for (size_t w = 0; w < words.size(); ++w) {
    words[w] = image[2 * w] | static_cast<uint32_t>(image[2 * w + 1]) << 16;
  }
  DeviceArray<uint32_t> images("images", words), a_registers("registers", registers);
  DeviceArray<float> out("out", static_cast<size_t>(kRows) * kColumns);
  const LayoutArguments arguments = {images.data(), bytes,      b_at,       a.Leading(),       a.Stride(),
                                     b.Leading(),   b.Stride(), out.data(), a_registers.data()};
  // Not swizzled and kMN, stride and leading step along M or N and along K.
  conformance::Run("MultiplyOnce", MultiplyOnce<T, kColumns, kA, kB, kSwizzle, kFromRegisters>, 1, 128, bytes + 1024,
                   arguments);
  const std::vector<float> result = out.Read();
  for (int i = 0; i < kRows * kColumns; ++i) {
    int sum = 1;
    for (int k = 0; k < kDepth; ++k) sum += a_value[i / kColumns * kDepth + k] * b_value[i % kColumns * kDepth + k];
    if (result[i] == static_cast<float>(sum)) continue;
    std::printf("columns %d, majors %d %d, swizzle %d, registers %d: %g at %d, expected %d\n", kColumns,
                static_cast<int>(kA), static_cast<int>(kB), ptx::SwizzleSpan(kSwizzle), kFromRegisters, result[i], i,
                sum);
    return false;
  }
  return true;
}

template <class T, int kColumns, ptx::Major kA, ptx::Major kB, ptx::Swizzle kSwizzle>
bool CheckBothSources(uint32_t seed) {
  const bool shared = CheckLayout<T, kColumns, kA, kB, kSwizzle, false>(seed);
  return CheckLayout<T, kColumns, kA, kB, kSwizzle, true>(seed + 1) && shared;
}

template <ptx::Major kA, ptx::Major kB>
bool CheckSwizzles() {
  bool right = CheckBothSources<ptx::Float16, 64, kA, kB, ptx::Swizzle::kNone>(1);
  right = CheckBothSources<ptx::BFloat16, 64, kA, kB, ptx::Swizzle::k32>(3) && right;
  right = CheckBothSources<ptx::Float16, 96, kA, kB, ptx::Swizzle::k64>(5) && right;
  return CheckBothSources<ptx::BFloat16, 128, kA, kB, ptx::Swizzle::k128>(7) && right;
}

inline bool CheckLayouts() {
  constexpr ptx::Major kK = ptx::Major::kK, kMN = ptx::Major::kMN;
  constexpr ptx::Swizzle k128 = ptx::Swizzle::k128;
  bool right = CheckSwizzles<kK, kK>();
  right = CheckSwizzles<kK, kMN>() && right;
  right = CheckSwizzles<kMN, kK>() && right;
  right = CheckSwizzles<kMN, kMN>() && right;
  right = CheckBothSources<ptx::Float16, 32, kK, kK, k128>(9) && right;
  right = CheckBothSources<ptx::BFloat16, 80, kK, kK, k128>(11) && right;
  right = CheckBothSources<ptx::Float16, 176, kK, kK, k128>(13) && right;
  right = CheckBothSources<ptx::BFloat16, 192, kK, kMN, k128>(15) && right;
  return CheckBothSources<ptx::Float16, 256, kK, kMN, k128>(17) && right;
}

}  // namespace pfm::sm90

#endif  // PFM_EMULATOR_SM90_LAYOUTS_H_
