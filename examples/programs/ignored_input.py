# The input is larger than a pipe holds, so the writer is still writing when this program ends.
print("not interested")
