# The input is larger than a pipe holds, so whoever writes it is still writing when this ends.
print("not interested")
