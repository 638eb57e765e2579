"""The figures, tables and alternative texts of the chapter on embedding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from ehrbook.book.figures import PALETTE
from ehrbook.book.published import ALL_GROUPS
from ehrbook.embed import TOKEN_BUDGET, Encoder, EncoderSpec, Reading, encode_batch, read_texts, tokenize
from ehrbook.embed.engine import encode_rows, join_chunks
from ehrbook.embed.one_pass import count_saved
from ehrbook.embed.pooling import pooling_weights
from ehrbook.embed.spec import Pooling
from ehrbook.embed.trunks import Trunk

ASKED = {"task": "with a question for each task", "generic": "with one question for all", "empty": "with none"}
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "text_mean", "cls", "padded_mean")


def encoders_table(specs: Iterable[EncoderSpec]) -> pd.DataFrame:
    """List encoders as the study compares them: a row each, the largest first."""
    rows = [
        {
            "encoder": spec.title,
            "parameters": "" if spec.parameters is None else f"{spec.parameters:,} M",
            "dimensions": f"{spec.dimension:,}",
            "context": f"{spec.context:,}",
            "attention": spec.attention,
            "pooling": spec.pooling.replace("_", " "),
            "instruction": "no" if spec.template == "none" else "yes",
        }
        for spec in sorted(specs, key=lambda spec: -(spec.parameters or 0))
    ]
    return pd.DataFrame(rows)


def reach(tokens: int = 7) -> pd.DataFrame:
    """Measure which token's state moves when another token is exchanged, in a tiny decoder with random weights.

    Columns attention, token, exchanged, moves. The decoder is Qwen3's own class, read once one way and once both.
    """
    import torch
    from transformers import Qwen3Config, Qwen3Model

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 50, "head_dim": 8}
    rows = []
    for attention in ("causal", "bidirectional"):
        torch.manual_seed(0)
        config = Qwen3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
        config.is_causal = attention == "causal"
        model = Qwen3Model(config).eval()
        with torch.inference_mode():
            ids = torch.arange(tokens)[None] + 1
            before = model(input_ids=ids).last_hidden_state[0]
            for exchanged in range(tokens):
                other = ids.clone()
                other[0, exchanged] = 40
                moved = (model(input_ids=other).last_hidden_state[0] - before).abs().amax(dim=1) > 1e-6
                rows += [(attention, token, exchanged, bool(moves)) for token, moves in enumerate(moved)]
    return pd.DataFrame(rows, columns=["attention", "token", "exchanged", "moves"])


def plot_reach(table: pd.DataFrame) -> Figure:
    """Draw `reach`: a square for each pair of tokens, dark and "yes" where exchanging one moves the other."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
    for axes, (attention, part) in zip(panels, table.groupby("attention", sort=False), strict=True):
        grid = part.pivot(index="token", columns="exchanged", values="moves").astype(float)
        said = np.where(grid > 0, "yes", "no")
        colours = {"cmap": "Blues", "vmin": 0, "vmax": 1.2, "cbar": False, "linewidths": 1}
        sns.heatmap(grid, ax=axes, annot=said, fmt="", square=True, annot_kws={"size": 8}, **colours)
        axes.set(title=attention, xlabel="", ylabel="token whose state moves")
        axes.set_xticklabels(range(1, len(grid) + 1))
        axes.set_yticklabels(range(1, len(grid) + 1), rotation=0)
    panels[1].set_ylabel("")
    figure.supxlabel("token that is exchanged", fontsize=10)
    return figure


def say_reach(table: pd.DataFrame) -> str:
    """Say what `reach` shows: the share of pairs in which one token moves the other, by attention."""
    shares = table.groupby("attention", sort=False)["moves"].mean()
    parts = [f"{attention} {share:.0%}" for attention, share in shares.items()]
    return f"Two squares of tokens by tokens; pairs in which exchanging one moves the other: {', '.join(parts)}."


def pooling_table(instruction: int = 2, text: int = 4, padding: int = 2) -> pd.DataFrame:
    """Return the weight of each token under each kind of pooling, for a text behind an instruction, padded.

    Columns pooling and one a token; rows sum to one.
    """
    length, width = instruction + text, instruction + text + padding
    names = [f"ask {i + 1}" for i in range(instruction)]
    names += [f"text {i + 1}" for i in range(text)] + [f"pad {i + 1}" for i in range(padding)]
    weights = {kind: pooling_weights([length], [instruction], kind, width)[0] for kind in POOLINGS}
    return pd.DataFrame(weights, index=names).T.rename_axis("pooling").reset_index()


def plot_pooling(table: pd.DataFrame) -> Figure:
    """Draw `pooling_table` as a grid of weights."""
    import matplotlib.pyplot as plt

    grid = table.set_index("pooling")
    figure, axes = plt.subplots(figsize=(7, 2.6))
    labels = np.where(grid > 0, grid.map(lambda weight: f"{weight:.2f}".lstrip("0")), "")
    sns.heatmap(grid, ax=axes, annot=labels, fmt="", cbar=False, cmap="Blues", vmin=0, vmax=1, linewidths=1)
    axes.set(xlabel="token: of the question, of the text, of the padding", ylabel="")
    axes.set_yticklabels([name.get_text().replace("_", " ") for name in axes.get_yticklabels()], rotation=0)
    return figure


def say_published_instructions(published: pd.DataFrame) -> str:
    """Say the published macro AUROC and its interval for each way of asking (``instructions.csv``)."""
    means = published[published["group"] == ALL_GROUPS]
    return ", ".join(
        f"{row.value:.3f} ({row.lower:.3f}–{row.upper:.3f}) {ASKED[str(row.instruction)]}" for row in means.itertuples()
    )


def padding_effect(texts: Sequence[str], encoder: Encoder) -> pd.DataFrame:
    """Compare the mean over a text's tokens with the study's mean over padding too (columns tokens, cosine)."""
    padded = replace(encoder, spec=encoder.spec.model_copy(update={"pooling": "padded_mean"}))
    ids = tokenize(list(texts), encoder, encoder.spec.context)
    each = [(encode_batch([row], encoder)[0], encode_batch([row], padded)[0]) for row in ids]
    cosines = [float(right @ wrong / np.linalg.norm(right) / np.linalg.norm(wrong)) for right, wrong in each]
    return pd.DataFrame({"tokens": [len(row) for row in ids], "cosine": cosines}).sort_values("tokens")


def chunk_effect(texts: Sequence[str], encoder: Encoder, context: int, chunks: Sequence[int]) -> pd.DataFrame:
    """Compare a text read whole with the mean of its chunks: columns chunk, cosine, a row a text and size of chunk."""
    whole = _vectors(texts, encoder, Reading(context))
    rows = []
    for chunk in chunks:
        parts = _vectors(texts, encoder, Reading(context, "mean", chunk))
        cosines = (whole * parts).sum(axis=1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(parts, axis=1)
        rows += [(chunk, float(cosine)) for cosine in cosines]
    return pd.DataFrame(rows, columns=["chunk", "cosine"])


def _vectors(texts: Sequence[str], encoder: Encoder, reading: Reading) -> NDArray[np.float32]:
    rows = read_texts(texts, encoder, reading)
    return join_chunks(encode_rows(rows, encoder, TOKEN_BUDGET)[0], rows.text, len(texts), encoder, reading)


def summarise_chunks(effect: pd.DataFrame) -> pd.DataFrame:
    """Return the middle half of `chunk_effect` by size of chunk: chunk, lower_quartile, median, upper_quartile."""
    quartiles = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}
    grouped = effect.groupby("chunk")["cosine"]
    return pd.DataFrame({name: grouped.quantile(share) for name, share in quartiles.items()}).round(4).reset_index()


def plot_chunks(summary: pd.DataFrame) -> Figure:
    """Draw `summarise_chunks`: a dot for the median, a bar for the middle half."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 2.4))
    places = range(len(summary))
    spread = [summary["median"] - summary["lower_quartile"], summary["upper_quartile"] - summary["median"]]
    axes.errorbar(places, summary["median"], yerr=spread, fmt="o", capsize=4)
    axes.set_xticks(places, [f"{chunk:,}" for chunk in summary["chunk"]])
    axes.set(xlabel="tokens of a chunk", ylabel="cosine to the\ntext read whole", ylim=(None, 1.01))
    axes.margins(x=0.3)
    return figure


def plot_padding_effect(effect: pd.DataFrame) -> Figure:
    """Draw `padding_effect`: the cosine between the two means, by the length of the text."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 2.4))
    axes.plot(effect["tokens"], effect["cosine"], "o-", markersize=4)
    axes.set(xlabel="tokens of the text", ylabel="cosine to the mean\nwithout padding", xlim=(0, None))
    axes.axhline(1, color="0.5", linestyle=":")
    return figure


def plot_stages(stages: pd.DataFrame) -> Figure:
    """Draw where the time goes (columns stage, share of the CPU seconds), from ``benchmarks/``."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 0.4 * len(stages) + 0.9))
    sns.barplot(stages, x="share", y="stage", ax=axes, color=PALETTE["blue"], saturation=1)
    axes.set(xlim=(0, 1), xlabel="share of the CPU seconds", ylabel="")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    for place, share in enumerate(stages["share"]):
        axes.annotate(f"{share:.1%}", (share, place), xytext=(4, 0), textcoords="offset points", va="center")
    return figure


def saved_table(trunks: Sequence[Trunk], suffix: int, contexts: Sequence[int]) -> pd.DataFrame:
    """Count the tokens through the model by one pass and one by one, a row a context; suffixes of so many tokens."""
    subjects = [(trunk.cuts, [suffix] * len(trunk.cuts)) for trunk in trunks]
    rows = []
    for context in contexts:
        saved = count_saved(subjects, context)
        factor = saved.one_by_one / saved.one_pass
        rows.append((context, saved.times, saved.passes, saved.one_by_one, saved.one_pass, round(factor, 1)))
    return pd.DataFrame(rows, columns=["context", "texts", "passes", "one_by_one", "one_pass", "factor"])


def draw_texts(texts: pl.LazyFrame, keys: pl.Series, most: int, seed: int) -> list[str]:
    """Return at most ``most`` of the texts with these keys, drawn at random; the others are not read."""
    distinct = keys.unique().sort()
    drawn = distinct.sample(min(most, len(distinct)), seed=seed)
    return texts.filter(pl.col("text_sha256").is_in(drawn.implode())).collect()["text"].to_list()


def draw_subjects(labels: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """Return the rows of at most ``most`` subjects, drawn at random."""
    subjects = labels["subject_id"].unique().sort()
    drawn = subjects.sample(min(most, len(subjects)), seed=seed)
    return labels.filter(pl.col("subject_id").is_in(drawn.implode()))


def benchmark_table(benchmark: pd.DataFrame) -> pd.DataFrame:
    """Write ``benchmarks/embed.csv`` for reading: a row a way and corpus, speed-up over sentence-transformers."""
    return pd.DataFrame(
        {
            "corpus": benchmark["corpus"],
            "way": benchmark["variant"],
            "speed-up, CPU": benchmark["ratio_cpu"].map("{:.2f} x".format),
            "speed-up, wall": benchmark["ratio_wall"].map("{:.2f} x".format),
            "of the matrix rate": benchmark["share_of_matrix_rate"].map("{:.0%}".format),
            "memory": benchmark["peak_mib"].map("{:,} MiB".format),
            "1 - cosine, at most": benchmark["largest_cosine_gap"].map("{:.0e}".format),
        }
    )


def counted_table(counted: pd.DataFrame) -> pd.DataFrame:
    """Write ``benchmarks/one-pass.csv`` for reading: counts with thousands marks, a row a cohort and context."""
    columns = ["cohort", "context", "texts", "passes", "one_by_one", "one_pass", "factor"]
    numbers = {name: counted[name].map("{:,}".format) for name in columns[1:-1]}
    return counted[columns].assign(**numbers)
