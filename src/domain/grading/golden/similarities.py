"""Makes `similarities.json`: pairs of texts, and how similar they are by the packages that define the measures.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2 nltk rapidfuzz && python similarities.py
"""

import json
import random
from pathlib import Path

from nltk.translate.gleu_score import sentence_gleu
from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

PAIRS = [
    ("", ""),
    ("", "a new card"),
    ("a new card", ""),
    ("a", "a"),
    ("a", "b"),
    ("card_arrival", "card_arrival"),
    ("card_arrival", "card arrival"),
    ("The answer is 42.", "42"),
    ("the cat sat on the mat", "the cat is on the mat"),
    ("the the the the the the the", "the cat is on the mat"),
    ("It costs $1,234.50, i.e. 10% more (net).", "it costs $1,234.50 -- 10 % more, net"),
    ("He said: \"no, thanks!\" -- and left.", "He said \"no thanks\" and left"),
    ("a.b.c,,d ...e", "a.b.c, d e..."),
    ("1-2-3 well-known x-1", "1 - 2 - 3 well known x-1"),
    ("line one\nline two-\nbroken", "line one line two broken"),
    ("&quot;quoted&quot; &amp;amp; &lt;tag&gt; <skipped>end", "\"quoted\" & <tag> end"),
    ("{a} [b] `c` ^d_e ~f|g \\h", "a b c d e f g h"),
    ("don't stop", "do not stop"),
    ("  spaced   out \t tabs  ", "spaced out tabs"),
    ("one two three four five six seven", "seven six five four three two one"),
    ("one two three four five", "one two three four five six seven eight nine ten"),
    ("A MUCH LOUDER ANSWER", "a much louder answer"),
    ("x = (a + b) * c / d;", "x=(a+b)*c/d;"),
    ("http://example.com/a?b=c&d=e", "example.com"),
]
WORDS = "the a card new arrived where is my late, payment. top-up 3.5 10% fee's".split()


def scores(text: str, reference: str) -> dict[str, float]:
    rouge = RougeScorer([*(f"rouge{n}" for n in range(1, 6)), "rougeL"]).score(reference, text)
    tokens = Tokenizer13a()
    words, wanted = (tokens(one.rstrip()).split() for one in (text, reference))
    return {
        "fuzzy_match": fuzz.ratio(text, reference) / 100,
        "bleu": BLEU(effective_order=True).sentence_score(text, [reference]).score / 100,
        "gleu": sentence_gleu([wanted], words) if words and wanted else 0.0,
        **{f"rouge_{n}": rouge[f"rouge{n}"].fmeasure for n in range(1, 6)},
        "rouge_l": rouge["rougeL"].fmeasure,
    }


def main() -> None:
    chosen = random.Random(7)
    made = [
        tuple(" ".join(chosen.choices(WORDS, k=chosen.randint(1, 14))) for _ in range(2)) for _ in range(24)
    ]
    pairs = [{"input": a, "reference": b, "scores": scores(a, b)} for a, b in [*PAIRS, *made]]
    Path(__file__).with_suffix(".json").write_text(json.dumps(pairs, indent=1) + "\n")


main()
