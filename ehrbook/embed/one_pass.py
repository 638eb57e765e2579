"""One pass per patient, an experiment: a record is read once, and gives the vector at every prediction time.

A causal decoder reads from left to right, so what it computes over the first tokens of a record does not depend on
those that follow. Of a record written oldest first, the text at an earlier prediction time is a beginning of the text
at a later one: they share a trunk. After the trunk, each prediction time has a suffix of its own (instruction, age,
end of text) that sees the trunk up to its cut, and whose last token is the vector.

`trunks` makes the trunk of each subject. Read in this order: `plan_passes` (what a context can hold), `embed_passes`,
`embed_each` (the same vectors one by one), `count_saved`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ehrbook.errors import InputError

if TYPE_CHECKING:
    import torch

# Tokens of suffixes that are read at once. With grouped heads the whole trunk is copied once a block and layer, so
# small blocks are slow; a mask of 2,048 by 10,240 tokens takes 40 MiB in bfloat16.
BLOCK_TOKENS = 2048


@dataclass(frozen=True)
class Pass:
    """One reading of the trunk from ``start`` up to ``stop`` (tokens), and the places of the times that it serves."""

    start: int
    stop: int
    times: tuple[int, ...]


def plan_passes(cuts: list[int], suffix_lengths: list[int], context: int) -> list[Pass]:
    """Group a subject's prediction times into passes that fit the context; a cut is the trunk tokens known then.

    Read one by one, a text longer than the context is cut to its newest tokens, and each has a first token of its
    own. A window that slides along can share nothing: what a decoder computes over a token depends on all that it
    has read before, so texts share a trunk only where they begin at one token. A pass therefore has one start, and
    all its times see the trunk from there: the last of them the whole context, the others no less than half of it,
    and all of the history where that is short. First times of two passes are more than half a context apart, so that
    a long record is read less than twice.

    The longest suffix takes its share of the context for all. Raises `InputError` where that leaves no room.

    >>> plan_passes([4, 10, 14, 15, 16], [2] * 5, context=12)
    [Pass(start=0, stop=10, times=(0, 1)), Pass(start=6, stop=16, times=(2, 3, 4))]
    """
    longest = max(suffix_lengths, default=0)
    room = context - longest
    if room < 1:
        raise InputError(f"context: a suffix of {longest} tokens leaves no room for a record; give more")
    groups: list[list[int]] = []
    reach = -1
    for time in sorted(range(len(cuts)), key=cuts.__getitem__):
        if cuts[time] > reach:
            groups.append([])
            reach = room if cuts[time] <= room else cuts[time] + room // 2
        groups[-1].append(time)
    last = [cuts[times[-1]] for times in groups]
    return [Pass(max(0, cut - room), cut, tuple(times)) for cut, times in zip(last, groups, strict=True)]


def embed_passes(
    model: Any,
    trunk: list[int],
    cuts: list[int],
    suffixes: list[list[int]],
    context: int,
    block_tokens: int = BLOCK_TOKENS,
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of one subject's n prediction times, each of length one.

    ``model`` is a causal decoder of transformers (`AutoModel`: Qwen3, Qwen2, Llama), in evaluation mode, of any
    number type and on any device. ``trunk`` is the token ids of the whole record, ``cuts`` how many of them were
    known at each time, ``suffixes`` the token ids that each time has after them.

    Each pass of `plan_passes` reads its trunk once, causally and without a mask, so that fused kernels can run, and
    keeps keys and values. The suffixes follow in blocks of about ``block_tokens``, each block with a mask over trunk
    and suffixes. A float64 model gives float64. Raises `InputError` for a model that does not read from left to right
    alone, for a cut outside of the trunk, and for an empty suffix.
    """
    import torch

    _check(model, trunk, cuts, suffixes)
    states = torch.empty((len(cuts), model.config.hidden_size), dtype=model.dtype, device=model.device)
    with torch.inference_mode():
        for one in plan_passes(cuts, [len(suffix) for suffix in suffixes], context):
            cache = _empty_cache(model)
            if one.start < one.stop:
                tokens = torch.tensor([trunk[one.start : one.stop]], device=model.device)
                model(input_ids=tokens, past_key_values=cache, use_cache=True)
            for block in _blocks(one.times, suffixes, block_tokens):
                seen = [cuts[time] - one.start for time in block]
                states[block] = _read_suffixes(model, cache, seen, [suffixes[time] for time in block])
    return _unit(states)


def embed_each(
    model: Any, trunk: list[int], starts: list[int], cuts: list[int], suffixes: list[list[int]]
) -> NDArray[np.float32]:
    """Return the vectors (n, dimension) of texts read one by one: the trunk from a start to a cut, then a suffix.

    With `pass_starts` these are the vectors of `embed_passes`, with `newest_starts` those of texts that all fill the
    context. Raises `InputError` as `embed_passes` does.
    """
    import torch

    _check(model, trunk, cuts, suffixes)
    states = torch.empty((len(cuts), model.config.hidden_size), dtype=model.dtype, device=model.device)
    with torch.inference_mode():
        for time, (start, cut, suffix) in enumerate(zip(starts, cuts, suffixes, strict=True)):
            tokens = torch.tensor([trunk[start:cut] + suffix], device=model.device)
            states[time] = model(input_ids=tokens, use_cache=False).last_hidden_state[0, -1]
    return _unit(states)


def pass_starts(passes: list[Pass]) -> list[int]:
    """Return for each prediction time where in the trunk its pass starts.

    >>> pass_starts([Pass(0, 10, (0, 2)), Pass(6, 16, (1,))])
    [0, 6, 0]
    """
    starts = {time: one.start for one in passes for time in one.times}
    return [starts[time] for time in range(len(starts))]


def newest_starts(cuts: list[int], suffix_lengths: list[int], context: int) -> list[int]:
    """Return for each prediction time where in the trunk the newest tokens begin that fit the context.

    >>> newest_starts([4, 14, 16], [2, 2, 3], context=12)
    [0, 4, 7]
    """
    return [max(0, cut - (context - taken)) for cut, taken in zip(cuts, suffix_lengths, strict=True)]


def _unit(states: torch.Tensor) -> NDArray[np.float32]:
    """Bring states to length one, in float32 or in the model's own number type where that is finer."""
    import torch

    exact = states.to(torch.promote_types(states.dtype, torch.float32))
    found: NDArray[np.float32] = torch.nn.functional.normalize(exact, dim=1).cpu().numpy()
    return found


def _check(model: Any, trunk: list[int], cuts: list[int], suffixes: list[list[int]]) -> None:
    """Raise `InputError` for a model whose trunk cannot be shared, and for cuts or suffixes that are none."""
    config = model.config
    if getattr(config, "is_causal", True) is False:
        raise InputError("encoder: this model reads in both directions, so prediction times cannot share a pass")
    if config._attn_implementation not in ("eager", "sdpa"):
        # Others take no 4-D mask: flash attention would let a suffix see the whole trunk.
        raise InputError(f"encoder: attention '{config._attn_implementation}' takes no mask; load it with 'sdpa'")
    if any(_empty_cache(model).is_sliding):
        # A 4-D mask is taken as it is, in place of the window of each layer.
        raise InputError("encoder: this model has layers with a sliding window, which one pass does not follow")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in ("dynamic", "longrope"):
        # Keys of the trunk would be turned by the length of the whole record.
        raise InputError(f"encoder: positions of type '{rope}' depend on the length of the text")
    if len(cuts) != len(suffixes) or not all(suffixes):
        raise InputError("suffixes: each prediction time needs one of at least one token")
    if cuts and not 0 <= min(cuts) <= max(cuts) <= len(trunk):
        raise InputError(f"cuts: they lie between 0 and the {len(trunk)} tokens of the trunk")


def _empty_cache(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def _blocks(times: tuple[int, ...], suffixes: list[list[int]], limit: int) -> Iterator[list[int]]:
    """Yield times whose suffixes have together at most ``limit`` tokens; a longer suffix is a block of its own."""
    block: list[int] = []
    taken = 0
    for time in times:
        if block and taken + len(suffixes[time]) > limit:
            yield block
            block, taken = [], 0
        block.append(time)
        taken += len(suffixes[time])
    yield block


def _read_suffixes(model: Any, cache: Any, seen: list[int], suffixes: list[list[int]]) -> torch.Tensor:
    """Return the states (suffixes, dimension) over the last tokens; the cache is as before afterwards.

    A token sees the first ``seen`` tokens of the trunk and its own suffix up to itself, and is placed after them.
    """
    import torch

    device = model.device
    lengths = torch.tensor([len(suffix) for suffix in suffixes], device=device)
    ends = lengths.cumsum(dim=0)
    total = int(ends[-1])
    owner = torch.repeat_interleave(torch.arange(len(suffixes), device=device), lengths)
    first = torch.tensor(seen, device=device)[owner]  # of each token: how much of the trunk it sees
    order = torch.arange(total, device=device)
    of_trunk = torch.arange(cache.get_seq_length(), device=device) < first[:, None]
    of_suffix = (owner == owner[:, None]) & (order <= order[:, None])
    # Added numbers, not booleans: eager attention adds the mask, and would add a True as 1 without a word.
    mask = torch.zeros((total, of_trunk.shape[1] + total), dtype=model.dtype, device=device)
    mask.masked_fill_(~torch.cat([of_trunk, of_suffix], dim=1), torch.finfo(model.dtype).min)
    states: torch.Tensor = model(
        input_ids=torch.tensor([[token for suffix in suffixes for token in suffix]], device=device),
        attention_mask=mask[None, None],
        position_ids=(first + order - (ends - lengths)[owner])[None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[0, ends - 1]
    cache.crop(-total)  # how many tokens go, with a minus; how many stay, as in transformers 4, is refused
    return states


@dataclass(frozen=True)
class Saved:
    """Prediction times, passes, and the tokens that go through the model in one pass and one by one."""

    times: int
    passes: int
    one_pass: int
    one_by_one: int


def count_saved(subjects: Iterable[tuple[list[int], list[int]]], context: int) -> Saved:
    """Count the tokens of many subjects, each given as its cuts and the lengths of its suffixes.

    In one pass the trunk counts once a pass, one by one each text counts with its newest tokens that fit the context;
    suffixes count in both. Give each distinct text once, since a store embeds none twice.

    >>> count_saved([([4, 10, 14, 15, 16], [2] * 5)], context=12)
    Saved(times=5, passes=2, one_pass=30, one_by_one=54)
    """
    times = passes = one_pass = one_by_one = 0
    for cuts, lengths in subjects:
        plan = plan_passes(cuts, lengths, context)
        times, passes = times + len(cuts), passes + len(plan)
        one_pass += sum(one.stop - one.start for one in plan) + sum(lengths)
        one_by_one += sum(cuts) - sum(newest_starts(cuts, lengths, context)) + sum(lengths)
    return Saved(times, passes, one_pass, one_by_one)
