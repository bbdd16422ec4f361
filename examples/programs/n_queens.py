# All ways to put eight queens on a board, as columns by row.
def place(size, columns=()):
    row = len(columns)
    if row == size:
        yield columns
        return
    for column in range(size):
        if all(column != c and abs(column - c) != row - r for r, c in enumerate(columns)):
            yield from place(size, columns + (column,))


solutions = list(place(8))
print(len(solutions), "solutions")
print("first:", *solutions[0])
