"""Models in which the norm and its placement are arguments."""

from normlab.models import minimind
from normlab.models.blocks import BLOCKS, TransformerBlock
from normlab.models.config import TransformerConfig
from normlab.models.stack import PlainStack, StackConfig
from normlab.models.transformer import Transformer

__all__ = ["BLOCKS", "PlainStack", "StackConfig", "Transformer", "TransformerBlock", "TransformerConfig", "minimind"]
