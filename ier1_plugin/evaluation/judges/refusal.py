"""Refusals in the words of a judge: "I must decline." in place of a verdict, or in the reasoning of one.

refuses("I'm sorry, but I can't assist with that.", beside_numbers=False)      # True
refuses("I can't see any lamp; it was removed.", beside_numbers=True)          # False: an honest look at the pictures

Where a reply holds no numbers, any apology or inability that it begins with is a refusal. Where it holds some, such as
zeros that a schema forced out of the model, only clear words are.
"""

from __future__ import annotations

import re

# a refusal says so at once
BEGINNING = 300
_SORRY = r"i(?:'m| am) (?:\w+ )?sorry|sorry|i (?:\w+ )?apologi[sz]e|unfortunately|as an ai(?: \w+ model)?"
_UNABLE = r"i(?:'m| am) (?:unable|not able) to|i (?:can't|cannot|can not|won't|will not)(?: be able to)?"
_DECLINES = (
    r"i (?:(?:must|have to|will have to|need to) )?(?:\w+ly )?(?:decline|refuse)|"
    r"i (?:do not|don't|would not) feel comfortable|i(?:'m| am) (?:not comfortable|uncomfortable)"
)
_PICTURES = r"(?:(?:the|this|these|those|such|your|any|either|both|two|source|edited) )*(?:images?|photos?|pictures?)"
_HELP = "(?:help|assist|comply)(?: you| with)?"
_SEE = f"(?:see|view|open|access|process) {_PICTURES}"
_RATE = rf"(?:rate|judge|score|assess|evaluate|analy[sz]e) (?:{_PICTURES}|(?:this|these|that)(?: edit| request)?)"
# not "I can't help noticing", "I can't rate this higher"
_END = r"(?:(?<= you)|(?<= with)|(?=[^\w ]|$| because| since))"
_ANY = re.compile(rf"\W*(?:{_SORRY}|{_UNABLE}|{_DECLINES})\b")
_CLEAR = re.compile(
    rf"\W*(?:(?:{_SORRY})\b\W*(?:but |that )?)*(?:(?:{_DECLINES})\b|(?:{_UNABLE}) (?:{_HELP}|{_SEE}|{_RATE}){_END})"
)


def refuses(text: str, *, beside_numbers: bool) -> bool:
    """Whether the text begins with a refusal, which is to be clear where there are numbers too."""
    plain = " ".join(text[:BEGINNING].casefold().replace("’", "'").split())
    return bool((_CLEAR if beside_numbers else _ANY).match(plain))
