"""Polish cardinal numbers in words, 0 to 9999, and back: 245 ↔ „dwieście czterdzieści pięć”.

The nominative as it is counted; after „przez” and in sums the same forms serve as the accusative.
"""

UNITS = (
    "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście trzynaście czternaście "
    "piętnaście szesnaście siedemnaście osiemnaście dziewiętnaście"
).split()
TENS = ("dwadzieścia trzydzieści czterdzieści pięćdziesiąt sześćdziesiąt siedemdziesiąt osiemdziesiąt dziewięćdziesiąt").split()
HUNDREDS = "sto dwieście trzysta czterysta pięćset sześćset siedemset osiemset dziewięćset".split()
LARGEST = 9999

_VALUES = {
    **{word: value for value, word in enumerate(UNITS)},
    **{word: 10 * value for value, word in enumerate(TENS, 2)},
    **{word: 100 * value for value, word in enumerate(HUNDREDS, 1)},
}


def _below_thousand(number: int) -> list[str]:
    words = [HUNDREDS[number // 100 - 1]] if number >= 100 else []
    rest = number % 100
    if rest >= 20:
        words.append(TENS[rest // 10 - 2])
        rest %= 10
    return words + [UNITS[rest]] if rest else words


def to_words(number: int) -> str:
    """The number in words.

    Raises: ValueError outside 0 … 9999.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"expected a number from 0 to {LARGEST}, got {number}")
    if number == 0:
        return UNITS[0]
    thousands, rest = divmod(number, 1000)
    words = []
    if thousands == 1:
        words = ["tysiąc"]
    elif thousands:
        words = [UNITS[thousands], "tysiące" if thousands in (2, 3, 4) else "tysięcy"]
    return " ".join(words + _below_thousand(rest))


def from_words(text: str) -> int:
    """The number that the words name; only the spelling that `to_words` writes counts, in any case and spacing.

    Raises: ValueError for anything else.
    """
    words = text.lower().split()
    number = 0
    for word in words:
        if word in ("tysiąc", "tysiące", "tysięcy"):
            number = 1000 * max(number, 1)
        elif word in _VALUES:
            number += _VALUES[word]
        else:
            raise ValueError(f"expected a Polish number in words, got {text!r}: {word!r} is not a part of one")
    if not words or number > LARGEST or to_words(number) != " ".join(words):
        raise ValueError(f"expected a Polish number in words, got {text!r}")
    return number
