from decimal import Decimal, getcontext
from fractions import Fraction

print(0.1 + 0.2, Decimal("0.1") + Decimal("0.2"), Fraction(1, 10) + Fraction(2, 10))
getcontext().prec = 50
print(Decimal(2).sqrt())
