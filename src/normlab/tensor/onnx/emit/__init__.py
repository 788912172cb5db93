"""Which nodes stand for which operation: one table, of one file for each subject, as in `normlab.tensor.ops`."""

from normlab.tensor.core import Operation
from normlab.tensor.onnx.emit import arithmetic, losses, normalization, reductions, selection, shape
from normlab.tensor.onnx.graph import Emitter
from normlab.tensor.ops.normalization import BatchNorm
from normlab.tensor.ops.selection import Dropout

# For an operation of one's own: EMITTERS[MyOperation] = a function of (operation, call), to the name of the result.
EMITTERS: dict[type[Operation], Emitter] = {
    **arithmetic.EMITTERS,
    **losses.EMITTERS,
    **normalization.EMITTERS,
    **reductions.EMITTERS,
    **selection.EMITTERS,
    **shape.EMITTERS,
}


def check(operation: Operation) -> None:
    """Before it is done, for what is done in training leaves its traces.

    Raises:
        NotImplementedError: for an operation that has no node.
    """
    if isinstance(operation, Dropout):
        raise NotImplementedError("Dropout in training cannot be exported: say model.eval() first")
    if isinstance(operation, BatchNorm) and operation.training:
        raise NotImplementedError(
            "BatchNorm with the batch's own statistics cannot be exported: "
            "say model.eval() first, and give it running statistics"
        )
    if type(operation) not in EMITTERS:
        raise NotImplementedError(
            f"{operation.name} cannot be exported: normlab.tensor.onnx.EMITTERS has no node for {type(operation)!r}"
        )
