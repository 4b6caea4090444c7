"""The import name of vLLM for Tiercel: scripts that say `from vllm import LLM` run on it unchanged.

An opt-in package (tiercel-vllm): where vLLM itself is installed, do not install this one.
"""

from tiercel import *  # noqa: F401,F403
from tiercel import __version__
from tiercel.outputs import BeamSearchOutput, BeamSearchSequence  # noqa: F401

from . import _distribution  # noqa: F401
