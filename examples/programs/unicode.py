import unicodedata

print("Grüße, 世界, Привет, مرحبا, 🦀")
print("straße".upper(), "ΟΔΥΣΣΕΥΣ".lower(), "ﬁ".casefold())
accented = "e\u0301"
print(len(accented), len(unicodedata.normalize("NFC", accented)))
print(unicodedata.name("🦀"), len("🦀"), len("🦀".encode()))
