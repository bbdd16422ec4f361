# The sieve of Eratosthenes.
LIMIT = 50_000
sieve = bytearray([1]) * LIMIT
sieve[0:2] = b"\0\0"
for n in range(2, int(LIMIT**0.5) + 1):
    if sieve[n]:
        sieve[n * n :: n] = bytes(len(range(n * n, LIMIT, n)))
primes = [n for n in range(LIMIT) if sieve[n]]
print(len(primes), "primes below", LIMIT)
print("first:", *primes[:10])
print("last:", primes[-1])
