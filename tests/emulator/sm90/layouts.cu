// Every shape, source, major order and swizzle of wgmma; prints what is wrong.
#include "layouts.h"

int main() { return pfm::sm90::CheckLayouts() ? 0 : 1; }
