# Each stream is below the limit, but both together are above it.
import sys

sys.stdout.write("o" * 39_999 + "\n")
sys.stdout.flush()
sys.stderr.write("e" * 39_999 + "\n")
sys.stderr.flush()
