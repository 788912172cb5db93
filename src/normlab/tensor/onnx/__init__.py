"""Models of the engine as ONNX files, which other runtimes execute.

model.py   export(): trace, write down, check, write to a file
trace.py   the steps of a function; graph.py  the graph in the making
emit/      which nodes stand for which operation

    model = export(transformer.eval(), ids, path="transformer.onnx", dynamic_batch=True)

An operation of one's own is exported once the table knows it: a function of the operation and the call, which adds
nodes and gives the name of the result.

    EMITTERS[Twice] = lambda operation, call: call.graph.node("Add", *call.names, *call.names)
"""

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError('normlab.tensor.onnx needs the package onnx: pip install "normlab[onnx]"') from error

from normlab.tensor.onnx.emit import EMITTERS
from normlab.tensor.onnx.graph import Call, Graph
from normlab.tensor.onnx.model import export

__all__ = ["EMITTERS", "Call", "Graph", "export"]
