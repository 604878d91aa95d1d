"""FedSCA (arXiv 2503.15390): bottleneck adapters, the low-level ones shared, another mixture for every site.

The adapters' shape, how many blocks count as low-level, the similarity and its temperature are unknown: ours are
MSA's adapters, the first half of the blocks, the cosine of the round's differences and 0.5. The deeper adapters and
the decoder's output layers stay local (our choice).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from sitelora.adapters.bottleneck import BottleneckAdapters
from sitelora.method import FEDERATED, NO_MEAN, SETTINGS, Method
from sitelora.server.groups import GroupMeans
from sitelora.server.similarity import MODES, PERSONAL, SimilarityGuided
from sitelora.sharing.rule import ShareRule
from sitelora.value_kinds import Choices, Range, require_choices


def fedsca(
    *,
    low_blocks: Annotated[int, Range(1, 64)] | None = None,
    reduction: Annotated[int, Range(1, 64)] = 4,
    temperature: Annotated[float, Range(0, 1000, above=True)] = 0.5,
    mode: Annotated[str, Choices(MODES)] = PERSONAL,
    groups: Mapping[str, Annotated[int, Range(0, 9999)]] | None = None,
    setting: Annotated[str, Choices(SETTINGS)] = FEDERATED,
) -> Method:
    """Return FedSCA.

    Args:
        low_blocks: how many of the encoder's first blocks share their adapters; half of them by default.
        reduction: width of a block divided by the adapter's hidden size.
        temperature: tau of the similarity weights.
        mode: "personal" mixes the shared adapters for every site anew, "global" once for all of them.
        groups: of named sites, ``{"site-1": 0, "site-2": 1}``: the mean within a group that is given in place of
            mixtures that are found; a control, not the paper's.
        setting: "federated", or "local": the same is trained and nothing travels; a control too.
    """
    require_choices("fedsca", setting=(setting, SETTINGS))
    low = "1/2" if low_blocks is None else low_blocks
    rule = ShareRule(shared=(f"@blocks[:{low}].**.adapter.**",), local=(f"@blocks[{low}:].**.adapter.**", "@heads"))
    return Method(
        name="fedsca",
        paper="arXiv:2503.15390",
        adapters=(BottleneckAdapters(reduction=reduction),),
        share=rule if setting == FEDERATED else rule.stays(),
        server=GroupMeans(groups=groups) if groups else SimilarityGuided(temperature=temperature, mode=mode),
        mean_product=NO_MEAN,
    )
