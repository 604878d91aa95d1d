"""Noise under a site's secret: Gaussian, the same for the same values only, and on one factor of a pair."""

import hashlib
import inspect
import math
import random as python_random

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sitelora.sharing import noise as module
from sitelora.sharing.exit import privatise
from sitelora.sharing.noise import SecretNoise, add_noise
from sitelora.sharing.wire import WireFormat, global_norm, packet_sha256, second_factors


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packet() -> dict[str, Tensor]:
    return {"enc.q.B": random(4, 2), "head.w": random(3, seed=1)}


def noisy(secret: bytes, *parts: object, std: float = 1.0) -> dict[str, Tensor]:
    return add_noise(packet(), std, SecretNoise(secret, *parts))


def test_the_same_secret_and_context_give_the_same_noise() -> None:
    first, again = noisy(b"secret", "run", "site-1", 3), noisy(b"secret", "run", "site-1", 3)
    assert packet_sha256(first) == packet_sha256(again)
    backwards = dict(reversed(packet().items()))
    shuffled = add_noise(backwards, 1.0, SecretNoise(b"secret", "run", "site-1", 3))
    assert packet_sha256(shuffled) == packet_sha256(first)


@pytest.mark.parametrize(
    ("secret", "parts"),
    [
        (b"Secret", ("run", "site-1", 3)),
        (b"secret", ("run", "site-1", 4)),
        (b"secret", ("run", "site-2", 3)),
        (b"secret", ("other", "site-1", 3)),
        (b"secret", ("run", "site-13")),
    ],
)
def test_another_secret_or_context_gives_other_noise(secret: bytes, parts: tuple[object, ...]) -> None:
    first, other = noisy(b"secret", "run", "site-1", 3), noisy(secret, *parts)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_the_noise_is_gaussian_of_the_given_size_and_keeps_the_dtype() -> None:
    zero = {"w": torch.zeros(20000), "scalar": torch.zeros(()), "odd": torch.zeros(3, 1), "none": torch.zeros(0)}
    noise = add_noise(zero, 0.5, SecretNoise(b"s", 0))
    assert noise["w"].dtype == torch.float32
    assert {name: tensor.shape for name, tensor in noise.items()} == {n: t.shape for n, t in zero.items()}
    assert abs(float(noise["w"].mean())) < 0.02
    assert abs(float(noise["w"].std()) - 0.5) < 0.02


def test_the_stream_is_gaussian_to_its_tails_and_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 1001)  # odd, so that every piece cuts a pair
    drawn = SecretNoise(b"s", "x").normal((200_000,))
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert stats.kurtosis(drawn) == pytest.approx(0, abs=0.05)
    assert 4.0 < np.abs(drawn).max() < 6.5
    pieces = drawn[: 1001 * 199].reshape(199, 1001)
    assert abs(np.corrcoef(pieces[0], pieces[1])[0, 1]) < 0.15
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    assert len(np.unique(drawn)) == drawn.size


def test_neither_a_seed_nor_a_generator_of_a_library_has_a_part_in_it() -> None:
    """A job says its seed to everybody: what follows from it could be taken off. A PRNG's state can be found."""
    first = SecretNoise(b"secret", "run").normal((64,))
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        python_random.seed(seed)
        assert np.array_equal(SecretNoise(b"secret", "run").normal((64,)), first)
    code = inspect.getsource(module)
    assert not [
        word for word in ("manual_seed", "np.random", "torch.randn", "Generator", "derive_seed") if word in code
    ]


def test_a_value_of_the_stream_is_what_the_published_functions_give() -> None:
    """HMAC and SHAKE-256 as of the standard library, then Box and Muller, written out once more."""
    import hmac

    key = hmac.new(b"k" * 32, b"a\x1f1", hashlib.sha256).digest()
    stream = hashlib.shake_256(key + bytes(8)).digest(16)
    one, two = ((int.from_bytes(stream[at : at + 8], "little") >> 11) + 0.5 for at in (0, 8))
    radius, angle = math.sqrt(-2 * math.log(one / 2**53)), 2 * math.pi * two / 2**53
    expected = [radius * math.cos(angle), radius * math.sin(angle)]
    assert SecretNoise(b"k" * 32, "a", 1).normal((2,)) == pytest.approx(expected, rel=1e-12)


# noise on one factor


PAIR = {"q.A": (3, 6), "q.B": (5, 3), "head.w": (4,), "other.B": (2, 3)}


def update() -> dict[str, Tensor]:
    weights = {name: random(*shape, seed=number) for number, (name, shape) in enumerate(PAIR.items())}
    return {**weights, **{f"@control/{name}": 10 * tensor for name, tensor in weights.items()}}


def test_a_second_factor_is_an_a_whose_b_would_leave_too() -> None:
    assert second_factors(update()) == {"q.A", "@control/q.A"}
    assert second_factors({"q.A": 1, "k.B": 1, "w": 1}) == frozenset()  # FedSA-LoRA shares A, FFA-LoRA B
    assert second_factors({}) == frozenset()


def left(**wire: object) -> dict[str, Tensor]:
    told = WireFormat(dtype="float32", clip_norm=0.5, **wire)  # type: ignore[arg-type]
    return privatise(update(), told, b"s", initial_sha256=None, round=0)


def test_by_default_a_leaves_as_zeros_and_b_has_the_whole_of_the_clip_norm_and_the_noise() -> None:
    one = left(noise_std=1e-6)
    for prefix in ("", "@control/"):
        assert not one[f"{prefix}q.A"].any()
        mine = {name: one[f"{prefix}{name}"] for name in PAIR}
        assert global_norm(mine) == pytest.approx(0.5, rel=1e-4)
    loud = left(noise_std=2.0)
    assert not loud["q.A"].any()
    values = torch.cat([loud[name].reshape(-1) for name in PAIR if name != "q.A"])
    assert 0.7 < float(values.std()) < 1.3  # 2 times 0.5


def test_both_factors_leave_with_noise_where_a_job_says_so_and_without_noise_nothing_is_held_back() -> None:
    both = left(noise_std=2.0, noise_on="both")
    assert 0.6 < float(both["q.A"].std()) < 1.5
    plain = left()
    assert plain["q.A"].any()
    assert torch.allclose(plain["q.A"], update()["q.A"] * (0.5 / global_norm({n: update()[n] for n in PAIR})))
    with pytest.raises(ValueError, match="noise_on is 'all'"):
        WireFormat(noise_on="all")


def test_noise_on_both_factors_multiplies_in_the_product_and_on_one_it_does_not() -> None:
    """Why one factor: twice the noise on B doubles what it does to B A; on both there is a term of its square."""
    d, r, std = 64, 8, 0.05
    a, b = random(r, d, seed=1) / math.sqrt(d), torch.zeros(d, r)  # as LoRA starts: B is zero

    def error(scale: float, *, on_both: bool) -> float:
        n, m = (scale * std * random(*shape, seed=7 + k) for k, shape in enumerate(((d, r), (r, d))))
        return float(((b + n) @ (a + (m if on_both else 0)) - b @ a).norm())

    assert error(2, on_both=False) / error(1, on_both=False) == pytest.approx(2, rel=1e-5)
    assert error(20, on_both=False) / error(10, on_both=False) == pytest.approx(2, rel=1e-5)
    assert error(20, on_both=True) / error(10, on_both=True) > 3.5
    assert error(10, on_both=True) > 3 * error(10, on_both=False)
