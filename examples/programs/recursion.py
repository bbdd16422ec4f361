def down(n):
    return 1 + down(n + 1)


print("going down")
down(0)
