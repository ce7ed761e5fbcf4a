"""What the tests share: the C ABI on NumPy arrays, dense NumPy attention, random masks, and the error rule."""
