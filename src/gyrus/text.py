"""Numbers in words, as every table and sentence writes them."""

from __future__ import annotations


def p_value_text(p_value: float) -> str:
    """A p-value with its relation, never rounded to 0 or 1: "p = 0.03", "p < 0.001", "p > 0.99".

    Example:
        >>> [p_value_text(value) for value in (0.00004, 0.0012, 0.0312, 0.4567, 0.999)]
        ['p < 0.001', 'p = 0.001', 'p = 0.031', 'p = 0.46', 'p > 0.99']
    """
    if p_value < 0.001:
        return "p < 0.001"
    if p_value > 0.99:
        return "p > 0.99"
    return f"p = {p_value:.2f}" if p_value >= 0.1 else f"p = {p_value:.3f}"


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun, and its verb if any: "1 image", "2,000 images", "1 pair is", "3 pairs are".

    Args:
        count: The number.
        one: What follows the number 1.
        several: What follows other numbers; by default ``one`` with an s.
    """
    return f"{count:,} {one}" if count == 1 else f"{count:,} {several or one + 's'}"
