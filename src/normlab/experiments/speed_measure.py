"""The timings of experiment 4, in a process of their own: one that keeps its heap, and in which nothing ran before.

    python -m normlab.experiments.speed_measure

reads a Request as JSON and writes SpeedResults as JSON.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from normlab.bench.apart import run_apart
from normlab.experiments.speed_results import Group, SpeedResults, Timing
from normlab.heap import keep_heap


@dataclass(frozen=True, slots=True)
class Request:
    """How many rounds, and whether the largest tensors and the whole MiniMind are timed."""

    rounds: int
    large: bool


def measure_apart(request: Request) -> SpeedResults:
    """Time everything in another process, on all cores.

    Raises:
        RuntimeError: when it broke.
    """
    done = run_apart("normlab.experiments.speed_measure", msgspec.json.encode(request))
    return msgspec.json.decode(done, type=SpeedResults)


def _timed(
    group: Group,
    case: str,
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    moved: Mapping[str, int] | None = None,
    *,
    calls: int = 5,
) -> list[Timing]:
    """Time contenders in turns; the clock decides nothing: there are always so many rounds."""
    from normlab.bench.timing import alternate

    times = alternate(contenders, budget=0.0, least=rounds, most=rounds, calls=calls)
    return [Timing(group, case, name, t.by_round, (moved or {}).get(name, 0)) for name, t in times.items()]


def norms(request: Request) -> list[Timing]:
    """RMSNorm and LayerNorm of both libraries, and a copy."""
    from normlab.bench.cases import Case, Op
    from normlab.bench.contenders import OURS, TORCH, copy, forwards, inputs, step
    from normlab.experiments.speed_cases import COPY, Kind, Library, norm_cases, variant

    ops: dict[Kind, Op] = {"rmsnorm": "rms_norm", "layernorm": "layer_norm"}
    names: dict[Library, str] = {"torch": TORCH, "normlab": OURS}
    found = []
    for c in norm_cases(request.large):
        contenders: dict[str, Callable[[], object]] = {}
        moved = {}
        for kind, op in ops.items():
            case = Case(op, c.mode, c.dtype, c.rows, c.dim)
            data = inputs(case)
            made, _ = forwards(case, data, formula=False)
            for library, name in names.items():
                contenders[variant(library, kind)] = step(case, made[name], data)
                moved[variant(library, kind)] = case.bytes_moved
            contenders[COPY] = copy(data)
            moved[COPY] = case.bytes_copied
        found += _timed("norms", str(c), contenders, request.rounds, moved)
    return found


def roots(request: Request) -> list[Timing]:
    """rsqrt and 1/sqrt: of a vector, and inside the plain formula of RMSNorm."""
    import torch

    from normlab.experiments.speed_cases import LENGTHS, NORM_SIZE, ROOTS, ROOTS_IN_NORM

    def both(v: torch.Tensor) -> dict[str, Callable[[], object]]:
        return dict(zip(ROOTS, (lambda: torch.rsqrt(v), lambda: 1 / torch.sqrt(v)), strict=True))

    x = torch.randn(NORM_SIZE)

    def mean_square() -> torch.Tensor:
        return x.pow(2).mean(-1, keepdim=True) + 1e-5

    inside = (lambda: x * torch.rsqrt(mean_square()), lambda: x / torch.sqrt(mean_square()))
    found = []
    with torch.no_grad():
        for n in LENGTHS:
            found += _timed("roots", f"{n} numbers", both(torch.rand(n) + 0.5), request.rounds)
        size = " x ".join(map(str, NORM_SIZE))
        found += _timed("roots in a norm", size, dict(zip(ROOTS_IN_NORM, inside, strict=True)), request.rounds)
    return found


def models(request: Request) -> tuple[list[Timing], int]:
    """A training step and a decoding step of MiniMind, by norm and library; and its number of parameters."""
    import torch
    import torch.nn.functional as F

    from normlab.experiments.speed_cases import DECODING, KINDS, TOKENS, TRAINING, VARIANTS, Kind, model, variant
    from normlab.kernels import use_kernels
    from normlab.models import Transformer

    built: dict[Kind, Transformer] = {kind: Transformer(model(kind, request.large)) for kind in KINDS}
    optimizers = {kind: torch.optim.AdamW(m.parameters(), lr=1e-6, fused=True) for kind, m in built.items()}
    vocabulary = built["rmsnorm"].config.vocab_size
    ids = torch.randint(vocabulary, (1, TOKENS + 1), generator=torch.Generator().manual_seed(0))

    def train(kind: Kind, which: str) -> None:
        with use_kernels(which):
            logits = built[kind](ids[:, :-1])
            F.cross_entropy(logits.flatten(0, 1), ids[0, 1:]).backward()
        optimizers[kind].step()
        optimizers[kind].zero_grad()

    def decode(kind: Kind, which: str) -> None:
        with use_kernels(which), torch.no_grad():
            built[kind](ids[:, :1])

    def contenders(call: Callable[[Kind, str], None]) -> dict[str, Callable[[], object]]:
        def one(kind: Kind, which: str) -> Callable[[], object]:
            return lambda: call(kind, which)

        return {
            variant(library, kind): one(kind, "fused" if library == "normlab" else "torch")
            for library, kind in VARIANTS
        }

    found = _timed("decoding", DECODING, contenders(decode), request.rounds)
    found += _timed("training", TRAINING, contenders(train), request.rounds, calls=1)
    return found, built["rmsnorm"].n_parameters()


def main() -> None:
    """Time everything."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    heap = keep_heap()
    import torch

    torch.manual_seed(0)
    timings, parameters = models(request)
    timings = [*norms(request), *roots(request), *timings]
    results = SpeedResults(torch.get_num_threads(), heap, parameters, tuple(timings))
    sys.stdout.buffer.write(msgspec.json.encode(results))


if __name__ == "__main__":
    main()
