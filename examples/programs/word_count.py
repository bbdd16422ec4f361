import collections
import re

TEXT = """
Whoever keeps bees keeps time by the bees. In the morning the bees go out,
in the evening the bees come home, and whoever counts the bees that go out
counts the bees that come home. On some days one is missing.
"""

words = re.findall(r"[a-z]+", TEXT.lower())
print(len(words), "words,", len(set(words)), "different")
for word, count in sorted(collections.Counter(words).items(), key=lambda item: (-item[1], item[0]))[:4]:
    print(count, word)
