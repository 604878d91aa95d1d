import hashlib
import logging

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sitelora.networks.checkpoint import OUR_FORMAT
from sitelora.networks.sam import SamSegmenter, base_fingerprint
from sitelora.networks.upstream import load_modeling


@pytest.fixture
def meta_state(toy):
    """Random tensors under the names and shapes of a file that Meta would publish for `toy`, made for 160 px."""
    modeling = load_modeling()
    torch.manual_seed(1)
    sam = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=160, patch_size=16, embed_dim=24, depth=2, num_heads=2, out_chans=32, use_rel_pos=True,
            window_size=3, global_attn_indexes=(1,),
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=32, image_embedding_size=(10, 10), input_image_size=(160, 160), mask_in_chans=16
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=32, iou_head_hidden_dim=32,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=16, num_heads=2),
        ),
    )  # fmt: skip
    return {name: torch.randn_like(value) for name, value in sam.state_dict().items()}


@pytest.fixture
def meta_file(meta_state, tmp_path):
    path = tmp_path / "sam_toy_012345.pth"
    torch.save(meta_state, path)
    return path


def load(path, **changes):
    settings = {"arch": "toy", "image_size": 64, "classes": 1, "base": str(path), "seed": 5} | changes
    return SamSegmenter(**settings)


def test_a_meta_file_loads_at_another_size(meta_file, meta_state):
    loaded, fresh = (
        load(meta_file).state_dict(),
        SamSegmenter(arch="toy", image_size=64, seed=5, quiet=True).state_dict(),
    )
    seeded = ["mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head"]
    seeded += [f"output_upscaling.{index}." for index in (4, 6, 7, 9)]
    tables = {
        "image_encoder.pos_embed",
        "image_encoder.blocks.1.attn.rel_pos_h",
        "image_encoder.blocks.1.attn.rel_pos_w",
    }
    for name, value in loaded.items():
        if any(part in name for part in seeded):
            assert torch.equal(value, fresh[name]), name
        elif name not in tables:
            assert torch.equal(value, meta_state[name]), name
    position = F.interpolate(meta_state["image_encoder.pos_embed"].permute(0, 3, 1, 2), (4, 4), mode="bilinear")
    torch.testing.assert_close(loaded["image_encoder.pos_embed"], position.permute(0, 2, 3, 1))
    table = meta_state["image_encoder.blocks.1.attn.rel_pos_h"]
    line = F.interpolate(table.T[None], 7, mode="linear")[0].T
    torch.testing.assert_close(loaded["image_encoder.blocks.1.attn.rel_pos_h"], line)


def test_at_its_own_size_nothing_is_resized(meta_file, meta_state):
    loaded = load(meta_file, image_size=160).state_dict()
    for name in ("image_encoder.pos_embed", "image_encoder.blocks.1.attn.rel_pos_w"):
        assert torch.equal(loaded[name], meta_state[name])


def test_the_same_file_gives_the_same_fingerprint_and_an_environment_variable_may_name_it(meta_file, monkeypatch):
    monkeypatch.setenv("WEIGHTS_HERE", str(meta_file.parent))
    assert base_fingerprint(load(meta_file)) == base_fingerprint(load("$WEIGHTS_HERE/sam_toy_012345.pth"))


def test_a_missing_file_says_where_meta_publishes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sam_vit_b_01ec64\.pth.*README.*Nothing is downloaded"):
        load(tmp_path / "none.pth", arch="vit_b", image_size=224)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("image_encoder.neck.0.weight"), "image_encoder.neck.0.weight: missing"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "extra.weight: not a tensor of toy"),
        (lambda s: s.update({"image_encoder.neck.0.weight": torch.zeros(3)}), r"neck.0.weight: found shape \(3,\)"),
        (lambda s: s.update({"image_encoder.blocks.0.attn.rel_pos_h": torch.zeros(9, 12)}), "blocks.0.attn.rel_pos_h"),
        (lambda s: s.update({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 8)}), "pos_embed: found shape"),
    ],
)
def test_wrong_names_and_shapes_are_refused_by_name(meta_state, tmp_path, change, message):
    change(meta_state)
    path = tmp_path / "wrong.pth"
    torch.save(meta_state, path)
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80not a checkpoint")
    with pytest.raises(ValueError, match=r"not a readable checkpoint.*fetch it again"):
        load(tmp_path / name)


def test_a_truncated_file_is_refused(meta_file):
    whole = meta_file.read_bytes()
    meta_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load(meta_file)


def test_a_nested_file_is_refused(meta_state, tmp_path):
    torch.save({"model": meta_state, "epoch": 3}, tmp_path / "nested.pth")
    with pytest.raises(ValueError, match=r"epoch.*one flat table"):
        load(tmp_path / "nested.pth")


def test_an_unknown_hash_warns_and_a_known_one_does_not(meta_file, toy, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        load(meta_file)
    assert "sam_vit_b_01ec64.pth: 01ec64" in caplog.text
    assert "MedSAM" in caplog.text
    caplog.clear()
    from sitelora.networks import architecture

    prefix = hashlib.sha256(meta_file.read_bytes()).hexdigest()[:6]
    known = architecture.Architecture(**{**vars(toy), "meta_file": f"sam_toy_{prefix}.pth"})
    monkeypatch.setitem(architecture.ARCHITECTURES, "toy", known)
    with caplog.at_level(logging.WARNING):
        load(meta_file)
    assert not caplog.records


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_our_own_file_gives_every_class_that_it_has(tmp_path, classes):
    made = SamSegmenter(arch="toy", image_size=64, classes=2, seed=9, quiet=True).state_dict()
    path = tmp_path / "ours.safetensors"
    save_file({name: value.half() for name, value in made.items()}, path, metadata={"format": OUR_FORMAT})
    loaded = load(path, classes=classes)
    rows = min(classes, 2) + 1
    want = made["mask_decoder.mask_tokens.weight"].half().float()[:rows]
    assert torch.equal(loaded.mask_decoder.mask_tokens.weight[:rows], want)
    want = made["mask_decoder.output_hypernetworks_mlps.1.layers.2.bias"].half().float()
    assert torch.equal(loaded.mask_decoder.output_hypernetworks_mlps[1].layers[2].bias, want)
    fresh = SamSegmenter(arch="toy", image_size=64, classes=classes, seed=5, quiet=True)
    assert torch.equal(loaded.mask_decoder.mask_tokens.weight[rows:], fresh.mask_decoder.mask_tokens.weight[rows:])


def test_loaded_values_need_gradients_and_are_their_own(meta_file):
    network = load(meta_file)
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.index_fill(0, torch.tensor([0]), float("nan")), r"32 of \d+ values are NaN or infinite"),
        (lambda t: t.double() * 1e300, "NaN or infinite in fp32"),
        (lambda t: t.to(torch.complex64), "dtype torch.complex64, expected floating-point"),
        (lambda t: t.to(torch.int8), "dtype torch.int8, expected floating-point"),
        (lambda t: t.to_sparse(), "layout torch.sparse_coo"),
    ],
)
def test_a_tensor_that_no_network_can_be_made_of_is_named_with_the_file(change, said, meta_state, tmp_path):
    name = "mask_decoder.transformer.norm_final_attn.weight"
    meta_state[name] = change(meta_state[name][None].repeat(2, 1))
    path = tmp_path / "sam_toy_012345.pth"
    torch.save(meta_state, path)
    with pytest.raises(ValueError, match=rf"(?s)sam_toy_012345\.pth.*{name.replace('.', '[.]')}.*{said}"):
        load(path)


def test_a_position_table_of_a_batch_is_none(meta_state, tmp_path):
    name = "image_encoder.pos_embed"
    meta_state[name] = meta_state[name].repeat(7, 1, 1, 1)
    path = tmp_path / "sam_toy_012345.pth"
    torch.save(meta_state, path)
    with pytest.raises(ValueError, match=r"pos_embed: found shape \(7, .*expected \(1, "):
        load(path)
