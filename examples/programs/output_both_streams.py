# Neither stream is over the limit, both together are.
import sys

sys.stdout.write("o" * 39_999 + "\n")
sys.stdout.flush()
sys.stderr.write("e" * 39_999 + "\n")
sys.stderr.flush()
