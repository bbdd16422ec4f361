# Answers known from the standards: CRC-32's check value and the test vectors of FIPS 180.
import base64
import hashlib
import zlib

print("crc32", f"{zlib.crc32(b'123456789'):08x}")
print("adler32", f"{zlib.adler32(b'Wikipedia'):08x}")
print("sha1", hashlib.sha1(b"abc").hexdigest())
print("sha256", hashlib.sha256(b"abc").hexdigest())
data = bytes(range(256)) * 100
packed = zlib.compress(data, 9)
print("zlib", len(packed) < len(data) // 10, zlib.decompress(packed) == data)
print("base64", base64.b64encode(b"any carnal pleas").decode())
