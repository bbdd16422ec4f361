import os
import pathlib
import tempfile

with tempfile.TemporaryDirectory(dir=".") as folder:
    root = pathlib.Path(folder)
    for n in range(1, 21):
        (root / f"{n:02}.txt").write_text("line\n" * n)
    names = sorted(path.name for path in root.iterdir())
    lines = sum(len(path.read_text().splitlines()) for path in root.iterdir())
    print(len(names), "files from", names[0], "to", names[-1])
    print(lines, "lines")
    (root / "20.txt").rename(root / "renamed.txt")
    with open(root / "renamed.txt", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    print((root / "renamed.txt").stat().st_size, "bytes, ending in", (root / "renamed.txt").read_text()[-5:])
print("gone" if not root.exists() else "still there")
