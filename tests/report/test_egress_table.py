from sitelora.report.egress import group_tensors
from sitelora.run_result import SharedTensor


def tensor(name, shape=(8, 4), size=64):
    return SharedTensor(name=name, shape=shape, bytes=size)


def test_blocks_become_ranges_and_nothing_is_lost():
    tensors = [tensor(f"encoder.blocks.{n}.attn.q.B") for n in range(12)] + [tensor("head.weight", (2,), 4)]
    groups = group_tensors(tensors)
    assert [(g.name, g.count, g.bytes_total) for g in groups] == [
        ("encoder.blocks.{0–11}.attn.q.B", 12, 768),
        ("head.weight", 1, 4),
    ]


def test_gaps_shapes_and_single_numbers_are_told_truly():
    tensors = [tensor(f"b.{n}.A") for n in (0, 2, 5)] + [tensor("b.3.A", (16, 4), 128), tensor("conv2d.weight")]
    assert [g.name for g in group_tensors(tensors)] == ["b.{0,2,5}.A", "b.3.A", "conv2d.weight"]


def test_several_numbers_in_a_name():
    tensors = [tensor(f"layers.{n}.mlp.{m}.A") for n in range(2) for m in range(3)]
    assert [(g.name, g.count) for g in group_tensors(tensors)] == [("layers.{0–1}.mlp.{0–2}.A", 6)]
    assert group_tensors([]) == []
