"""promises.mjs: what live/babygpt.py says of true tales, of broken ones, and of tales half written."""

from babygpt_course import tinytales
from babygpt_course.live.babygpt import promises, rules


def golden() -> dict:
    tales = tinytales.sample(60, seed=11)
    texts = [(tale, True) for tale in tales]
    texts += [(tale[: 40 + 7 * i], False) for i, tale in enumerate(tales[:30])]
    for kind in ("name", "wish", "count"):
        pairs = tinytales.minimal_pairs(tales, kind, n=20)
        texts += [(bad, True) for _, bad in pairs]
    texts += [
        ("", True),
        ("Nora", True),
        ("Nora saw a kite.", True),
        ("It cost nine coins, and Tom had only four. He got five coins", False),
        ("It cost nine coins, and Tom had only four. He got six coins", False),
        ("It cost nine coins. Tom had three, and got five coins. Nine!", True),
        ("Tom had a drum. He flew it high above the roofs", False),
        ("Nora got nine coins: four and five. She gave two away. Nine!", True),
        ("Ann found two eggs, then six eggs. Two and six make eight. Two!", True),
        ("NORA had a toy boat, an old boat and a toy boat.\n", True),
    ]
    cases = [
        {
            "text": text,
            "ended": ended,
            "found": [vars(promise) for promise in promises(text, ended)],
        }
        for text, ended in texts
    ]
    states = {p["state"] for case in cases for p in case["found"]}
    assert states == {"none", "open", "kept", "broken"}
    return {"rules": rules(), "cases": cases}


FAULTS = {
    "ducks are counted": (
        "promises.mjs",
        'new RegExp(aside, "g")',
        'new RegExp("nothing at all", "g")',
    ),
    "a number is judged before the next word": (
        "promises.mjs",
        "if (!ended)",
        "if (false)",
    ),
    "any sum will do": (
        "promises.mjs",
        "sum !== total || ",
        "",
    ),
    "the last number may be any": (
        "promises.mjs",
        "ended && values.at(-1) !== total",
        "false",
    ),
    "a late number is forgotten": (
        "promises.mjs",
        "values.some((n) => ![...parts, total].includes(n))",
        "false",
    ),
    "judged before the end": (
        "promises.mjs",
        'ended ? "kept" : "open"',
        '"kept"',
    ),
    "a stranger may end the tale": (
        "promises.mjs",
        "ended && named.length && once(named)",
        "false",
    ),
    "any toy flies": ("promises.mjs", "before.at(-1) !== toy", "false"),
}
