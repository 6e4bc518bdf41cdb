"""What a folder must keep before it is given its name: the rules, while it is being built.

Nothing is read that has just been written: digests were taken on the way, and every number that
passes a merge is looked at there.
"""

from __future__ import annotations

from pathlib import Path

from convert.errors import BuildError
from convert.verify.run import judge
from convert.verify.table import RULES
from convert.verify.view import View

_KEPT = (1, 10, 11, 14, 15, 16, 21)
"""The rules about what quantising leaves as it is. A model that breaks one is refused before, not
after hours of it."""


def demand(folder: Path, *, packing: bool = False) -> None:
    """Check a staged workspace; `packing`: a merged model that is still to be quantised.

    Raises:
        BuildError: it breaks a rule; the sentence is the rule's.
    """
    view = View(folder, fresh=True)
    rules = [
        rule for rule in RULES
        if view.engine_name in rule.engines and (rule.number in _KEPT or not packing)
    ]  # fmt: skip
    broken = [(rule, finding) for rule in rules for finding in judge(rule, view).findings]
    if not broken:
        return
    rule, finding = broken[0]
    more = f" ({len(broken) - 1} more of the kind)" if len(broken) > 1 else ""
    raise BuildError(
        f"The model would load wrongly or answer wrongly (rule {rule.number} of hanlin verify, "
        f"{rule.name}): {finding}{more}"
    )
