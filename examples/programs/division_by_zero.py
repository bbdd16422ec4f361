numbers = [4, 2, 0]
for n in numbers:
    print(8 // n)
