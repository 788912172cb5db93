"""Seeing inside a computation: its graph, each operation's formula and numbers, backward() step by step, and sizes.

graphs.py      graph(): what a tensor was computed from, as data and as a table
drawing.py     the graph as SVG and Mermaid text; layout.py: where the boxes stand
recording.py   record(): times, sizes and gradients of every operation, while it happens
explaining.py  explain(): one operation; worked.py, worked_norms.py: with its numbers
stepping.py    step(): backward(), one operation at a time
scaling.py     scales(): the size of activations and gradients, layer by layer
"""

from normlab.tensor.inside.explaining import Explanation, explain
from normlab.tensor.inside.facts import Node
from normlab.tensor.inside.graphs import Graph, graph
from normlab.tensor.inside.recording import Recording, record
from normlab.tensor.inside.scaling import Scale, Scales, scales
from normlab.tensor.inside.stepping import Passed, Step, Steps, step

__all__ = [
    "Explanation",
    "Graph",
    "Node",
    "Passed",
    "Recording",
    "Scale",
    "Scales",
    "Step",
    "Steps",
    "explain",
    "graph",
    "record",
    "scales",
    "step",
]
