"""Variances of few degrees of freedom each, steadied by one another.

Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3(1):3. Each variance is
drawn towards what all have in common, by as much as their own differences allow: the prior's scale
and degrees of freedom are estimated from the variances themselves. Of differences of every two of K
lines only K - 1 are independent, and one line may be much less steady than the rest, so that the
prior never counts more than `MOST` times what a variance has itself, and less where K is small
(`benchmarks/decide_simulation.py` holds the false alarms without this limit, and with it).
"""

from __future__ import annotations

import numpy as np

#: The prior's degrees of freedom are at most so many times a variance's own, and a third of them
#: for each line beyond two.
MOST, EACH_LINE = 2.0, 1 / 3
#: Correlation of the sample variances of two differences that share a line: the square of their
#: own, one half.
SHARED = 0.25


def moderated(
    variances: np.ndarray, df: np.ndarray, lines: int, correlation: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Steady variances (n,) with df (n,) > 0 degrees of freedom each, by one another.

    Returns (variances, degrees of freedom), each (n,). lines: how many independent lines there are.
    correlation: of two of the variances, on average, as estimates. As they are where fewer than two
    are above 0 or lines are fewer than three.
    """
    there = variances > 1e-16 * max(float(variances.max(initial=0.0)), 1e-300)
    most = min(MOST, EACH_LINE * (lines - 2)) * df
    if there.sum() < 2 or lines < 3:
        return variances, df
    prior_df, prior = _prior(variances[there], df[there], correlation)
    share = np.minimum(prior_df, most)
    return (df * variances + share * prior) / (df + share), df + share


def of_pairs(lines: int) -> float:
    """Return the mean correlation of the sample variances of all differences of two of the lines.

    lines: how many; 0 where these make fewer than two pairs.
    """
    pairs = lines * (lines - 1) // 2
    return SHARED * 2 * (lines - 2) / (pairs - 1) if pairs > 1 else 0.0


def _prior(variances: np.ndarray, df: np.ndarray, correlation: float) -> tuple[float, float]:
    """Return degrees of freedom and scale of the prior.

    From mean and variance of the logarithms (Smyth 2004, section 6.2).
    """
    from scipy.special import digamma, polygamma

    logs = np.log(variances) - digamma(df / 2) + np.log(df / 2)
    centre = float(logs.mean())
    beyond = float(logs.var(ddof=1) - polygamma(1, df / 2).mean() * (1 - correlation))
    if beyond <= 0:
        return float("inf"), float(np.exp(centre))
    own = 2 * _inverse_trigamma(beyond)
    return own, float(np.exp(centre + digamma(own / 2) - np.log(own / 2)))


def _inverse_trigamma(value: float) -> float:
    """x > 0 whose trigamma is `value` > 0, by Newton's method (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, x))
        step = now * (1 - now / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
