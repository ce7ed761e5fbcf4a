// Dropout stream: the published Philox vectors, and the layout of the words of a block.
#include "core/dropout.h"

#include <cmath>
#include <cstdint>
#include <cstdio>

#include "check.h"

namespace pfm_test {
namespace {

using pfm::DropoutStream;
using pfm::Philox4;

struct KnownAnswer {
  Philox4 counter;
  uint32_t key0, key1;
  Philox4 expected;
};

// kat_vectors of Random123 (D. E. Shaw Research), philox4x32 with 10 rounds.
constexpr KnownAnswer kKnownAnswers[] = {
    {{{0u, 0u, 0u, 0u}}, 0u, 0u, {{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}}},
    {{{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}},
     0xffffffffu,
     0xffffffffu,
     {{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}}},
    {{{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}},
     0xa4093822u,
     0x299f31d0u,
     {{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}}},
};

void CheckPhilox(Checks* checks) {
  for (const KnownAnswer& known : kKnownAnswers) {
    const Philox4 got = pfm::Philox4x32(known.counter, known.key0, known.key1);
    for (int w = 0; w < 4; ++w) {
      checks->Expect(got.word[w] == known.expected.word[w], "philox4x32-10 known answer",
                     [&] { std::printf("word %d: %08x, expected %08x", w, got.word[w], known.expected.word[w]); });
    }
  }
}

// Iterating over lanes and words, as kernels do, visits every element of the block once and agrees with Keeps.
void CheckLayout(Checks* checks) {
  const DropoutStream stream = pfm::MakeDropout(0.5f, 0x123456789abcdef0u, 0xfedcba9876543210u);
  constexpr uint32_t kHead = 5, kBlockRow = 3, kBlockCol = 70;
  int met[pfm::kDropoutBlock][pfm::kDropoutBlock] = {};
  for (uint32_t lane = 0; lane < pfm::kDropoutLanes; ++lane) {
    const Philox4 bits = stream.Lane(kHead, kBlockRow, kBlockCol, lane);
    for (int word = 0; word < 8; ++word) {
      const int row = static_cast<int>(lane / 4) + word / 2 % 2 * 8;
      const int col = static_cast<int>(lane % 4) * 2 + word % 2 + word / 4 * 8;
      ++met[row][col];
      const bool kept = stream.Keeps(kHead, kBlockRow * 16 + row, kBlockCol * 16 + col);
      checks->Expect(stream.KeepsWord(bits, word) == kept, "KeepsWord is Keeps",
                     [&] { std::printf("lane %u word %d row %d col %d", lane, word, row, col); });
    }
  }
  for (const auto& row : met) {
    for (const int times : row) {
      checks->Expect(times == 1, "every element has one word", [&] { std::printf("%d times", times); });
    }
  }
}

void CheckRates(Checks* checks) {
  constexpr float kRates[] = {0.0f, 0.1f, 0.5f, 0.9f, 0.99999f};
  for (const float p : kRates) {
    const DropoutStream stream = pfm::MakeDropout(p, 42, 7);
    constexpr int kSide = 512;
    int64_t kept = 0;
    for (int row = 0; row < kSide; ++row) {
      for (int col = 0; col < kSide; ++col) kept += stream.Keeps(1, row, col);
    }
    const double n = static_cast<double>(kSide) * kSide;
    const double expected = (1.0 - static_cast<double>(p)) * n;
    const double deviation = 6.0 * std::sqrt(n * p * (1.0 - p)) + n / 65536.0;
    checks->Expect(std::fabs(static_cast<double>(kept) - expected) <= deviation, "share of kept elements",
                   [&] { std::printf("p=%g kept %lld, expected %g", p, static_cast<long long>(kept), expected); });
    checks->Expect(std::fabs(stream.keep_scale * (1.0 - static_cast<double>(p)) - 1.0) < 1e-6, "keep_scale",
                   [&] { std::printf("p=%g scale %g", p, stream.keep_scale); });
  }
  checks->Expect(pfm::MakeDropout(0.0f, 1, 2).keep_below == 65536u, "p = 0 keeps everything", [] {});
  // 1 - p = 0.25 + 2^-17 lies halfway between two words.
  checks->Expect(pfm::MakeDropout(0.75f - 1.0f / 131072, 1, 2).keep_below == 16385u, "rounds half up", [] {});
}

}  // namespace

int TestDropout() {
  Checks checks;
  CheckPhilox(&checks);
  CheckLayout(&checks);
  CheckRates(&checks);
  return checks.Report("dropout");
}

}  // namespace pfm_test
