from tiercel.outputs import BeamSearchOutput, BeamSearchSequence  # noqa: F401
