"""A made corpus of any size, for benchmarks, with the statistics of real texts.

    python -m tests.bench.made_corpus OUT --passages 1000000 [--queries 20000] [--seed 42]

OUT is a BEIR folder, with `queries.jsonl` and `qrels/train.tsv` where queries are asked for.

How it is made, all of it drawn by seed and block of 10,000 passages, so that passage 5 of a thousand is passage 5 of a
million:

- 200,000 word forms of syllables, one in twenty with letters beyond ASCII, the shorter the more frequent. Their
  frequencies follow Zipf's law (the r-th most frequent word is drawn in proportion to 1/r).
- A passage has 60 to 250 words, about 1,200 bytes. A fifth of its words come from its topic, one of 5,000 with 40 words
  each, so that every passage has some that are like it. Sentences end after 12 words on average.
- Titles are two to six words of the passage's topic.
- 1 % of the passages are near duplicates: an earlier one of the block with every twentieth word drawn again. 0.5 % are
  exact ones under another id, half of them in capitals, which cleaning has to find.
- A query is 4 to 8 words of one passage: half of them long ones, which are rare, so that BM25 finds it, and the others
  as they come, so that it has much to look through.
"""

import argparse
import json
import random
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from builders import queries, schema
from builders.corpus import sample
from builders.hashing import keyed_hash

BLOCK = 10_000
FORMS, TOPICS, TOPIC_WORDS = 200_000, 5_000, 40
FEWEST, MOST = 60, 250
NEAR, EXACT = 0.01, 0.005
FROM_TOPIC, SENTENCE = 0.2, 12
DRAWS = 1 << 23  # entries of the table that frequencies are drawn from: the rarest form has three


def word_forms(seed):
    """The vocabulary, most frequent first, then each form again with a full stop behind it: `(2 * FORMS,)`."""
    syllables = ["".join(parts) for parts in product("bdfgklmnprstv", "aeiou", ["", "n", "r", "s", "l"])]
    beyond = ["ä", "ö", "ü", "ß", "é", "ñ", "ø", "å", "ж", "и", "λ", "ц"]
    draw = random.Random(seed)
    forms = dict.fromkeys(syllables)
    while len(forms) < FORMS:
        # Longer words come later: two syllables, then three, then four.
        count = 2 if len(forms) < 2_000 else 3 if len(forms) < 60_000 else 4
        word = "".join(draw.choices(syllables, k=count))
        if draw.random() < 0.05:
            at = draw.randrange(len(word))
            word = word[:at] + draw.choice(beyond) + word[at:]
        forms[word] = None
    words = list(forms)[:FORMS]
    return pa.array(words + [f"{word}." for word in words], pa.string())


class Maker:
    """The vocabulary and the topics of a seed; makes blocks of passages."""

    def __init__(self, seed):
        self._seed = seed
        self._forms = word_forms(seed)
        shares = np.cumsum(1 / np.arange(1, FORMS + 1))
        self._zipf = np.searchsorted(shares, (np.arange(DRAWS) + 0.5) / DRAWS * shares[-1]).astype(np.int32)
        # Topics are of words that are neither the most frequent nor the rarest.
        self._topics = np.random.default_rng([seed, 0]).integers(100, FORMS // 2, (TOPICS, TOPIC_WORDS), np.int32)

    def block(self, number):
        """Passages `number * BLOCK` and on, `schema.CORPUS`."""
        draw = np.random.default_rng([self._seed, 1, number])
        lengths = draw.integers(FEWEST, MOST + 1, BLOCK)
        topics = draw.integers(0, TOPICS, BLOCK)
        kinds = draw.random(BLOCK)
        originals = (draw.random(BLOCK) * np.arange(BLOCK)).astype(np.int64)
        copies = (kinds < NEAR + EXACT) & (np.arange(BLOCK) > 0) & (kinds[originals] >= NEAR + EXACT)
        lengths[copies] = lengths[originals[copies]]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        words = self._words(draw, np.repeat(topics, lengths))
        for at in np.flatnonzero(copies):
            start, end, first = offsets[at], offsets[at + 1], offsets[originals[at]]
            again = words[start:end:20].copy()
            words[start:end] = words[first : first + end - start]
            if kinds[at] >= EXACT:
                words[start:end:20] = again
        texts = self._joined(words, offsets)
        shouted = copies & (kinds < EXACT / 2)
        texts = pc.if_else(pa.array(shouted), pc.utf8_upper(texts), texts)
        title_offsets = np.concatenate([[0], np.cumsum(draw.integers(2, 7, BLOCK))])
        title_topics = np.repeat(topics, np.diff(title_offsets))
        titles = self._joined(
            self._topics[title_topics, draw.integers(0, TOPIC_WORDS, len(title_topics))], title_offsets
        )
        titles = titles.take(pa.array(np.where(copies & (kinds < EXACT), originals, np.arange(BLOCK))))
        ids = pa.array([f"m{at:08d}" for at in range(number * BLOCK, (number + 1) * BLOCK)])
        return pa.record_batch([ids, titles, texts], schema=schema.CORPUS)

    def _words(self, draw, topics):
        """Positions in the vocabulary, one for each topic in `topics`."""
        count = len(topics)
        words = self._zipf[draw.integers(0, DRAWS, count, np.int32)]
        of_topic = np.flatnonzero(draw.random(count, np.float32) < FROM_TOPIC)
        words[of_topic] = self._topics[topics[of_topic], draw.integers(0, TOPIC_WORDS, len(of_topic))]
        words[draw.random(count, np.float32) < 1 / SENTENCE] += FORMS
        return words

    def _joined(self, words, offsets):
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), self._forms.take(pa.array(words)))
        return pc.binary_join(lists, " ")


def made_passages(n, seed=42):
    """The first `n` passages of a seed's corpus, `schema.CORPUS`, in batches of up to `BLOCK`."""
    maker = Maker(seed)
    for number in range(-(-n // BLOCK)):
        yield maker.block(number).slice(0, min(BLOCK, n - number * BLOCK))


def made_queries(passages, n, seed=42):
    """Queries of `n` passages of a table (`schema.CORPUS`), each of words of its passage: `queries.TABLE`."""
    rows = []
    for batch in sample(passages, n, seed).to_batches():
        for passage_id, text in zip(batch["_id"].to_pylist(), batch["text"].to_pylist(), strict=True):
            draw = random.Random(keyed_hash(seed, "made-query", passage_id))
            words = sorted({word.rstrip(".").lower() for word in text.split()})
            drawn = draw.sample(words, min(20, len(words)))
            drawn.sort(key=len, reverse=True)
            half = draw.randint(2, 4)
            rows.append((f"{passage_id}/q", " ".join(drawn[:half] + draw.sample(drawn[half:], half)), passage_id))
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=queries.TABLE)


def write_beir(folder, batches, total):
    """Writes `corpus.jsonl`, the form that most corpora have, with a bar."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = msgspec.json.Encoder()
    with (folder / "corpus.jsonl").open("wb") as file, tqdm(total=total, unit=" passages", disable=None) as bar:
        for batch in batches:
            file.write(encoder.encode_lines(batch.to_pylist()))
            bar.update(batch.num_rows)


def write_labels(folder, table):
    """Writes queries (`queries.TABLE`) as `queries.jsonl` and their passages as `qrels/train.tsv`."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = table.to_pylist()
    lines = [json.dumps({"_id": row["_id"], "text": row["text"]}, ensure_ascii=False) for row in rows]
    (folder / "queries.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    judged = [f"{row['_id']}\t{row['corpus-id']}\t1\n" for row in rows]
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), "utf-8")


def main(options):
    """Writes what the command line asks for; each block of passages has its share of the queries."""
    blocks, asked = -(-options.passages // BLOCK), []

    def asking(batches):
        for number, batch in enumerate(batches):
            share = options.queries * (number + 1) // blocks - options.queries * number // blocks
            if share:
                asked.append(made_queries(pa.Table.from_batches([batch]), share, options.seed))
            yield batch

    write_beir(options.out, asking(made_passages(options.passages, options.seed)), options.passages)
    if asked:
        write_labels(options.out, pa.concat_tables(asked))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--seed", type=int, default=42)
    main(parser.parse_args())
